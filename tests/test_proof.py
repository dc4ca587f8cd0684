"""DONE means that the archive has it: seen by storage commitment, or by asking what it lists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.check import peers
from node.config import Config, KeepTable
from node.errors import NodeError
from node.job import JobState, Withdrawal
from tests.committing import CommittingPacs
from tests.journal_makers import after
from tests.peers import RecordingPacs
from tests.proof_bench import Bench, dimse
from tests.send.conftest import report, saved

SENDING, DONE, FAILED = JobState.SENDING, JobState.DONE, JobState.FAILED


@pytest.fixture
def archive():
    with CommittingPacs() as peer:
        yield peer


@pytest.fixture
def bench(request, tmp_path, archive):
    """A bench whose archive proves what it has by commitment, or as the test says."""
    more = getattr(request, "param", {})
    made = Bench(tmp_path, {"archive": dimse(archive, **{"proof": "commitment", **more})})
    yield made
    made.journal.close()


#: No report comes, so it is not waited for long.
commitment = pytest.mark.parametrize("bench", [{"timeout_s": 0.5}], indirect=True, ids=["commitment"])
query = pytest.mark.parametrize("bench", [{"proof": "query"}], indirect=True, ids=["query"])


def test_a_job_is_done_once_the_archive_committed_itself_to_all_of_it(bench, archive):
    job = bench.job()
    bench.deliver()
    assert len(archive.kept) == 2
    assert bench.state(job) is SENDING
    bench.after(2)
    (asked,) = archive.asked
    assert asked.references == {uid: one.sop_class_uid for uid, one in archive.kept.items()}
    assert bench.state(job) is DONE
    assert bench.reason(job) == "All results were taken by 1 destination and are known to be there."
    assert set(bench.proofs(job).values()) == {
        f"archive committed itself to keep it (transaction {asked.transaction_uid})."
    }
    assert archive.answers == [0]


def test_no_proof_asked_for_is_as_it_was(tmp_path, archive):
    bench = Bench(tmp_path, {"archive": dimse(archive)})
    job = bench.job()
    bench.deliver()
    assert bench.state(job) is DONE
    assert bench.reason(job) == "All results were taken by 1 destination."
    assert archive.asked == []


def test_several_jobs_are_asked_for_together(bench, archive):
    jobs = [bench.job(series=f"1.2.{number}") for number in (3, 4, 5)]
    bench.after(0)
    bench.after(2)
    assert [len(asked.references) for asked in archive.asked] == [6]
    assert {bench.state(job) for job in jobs} == {DONE}


@commitment
def test_a_report_over_an_association_of_its_own_counts_hours_later_and_twice(bench, archive):
    archive.how.over = "never"
    job = bench.job()
    bench.after(0)
    bench.after(2)
    assert bench.state(job) is SENDING
    bench.reopen()
    bench.now = after(7 * 3600)
    assert bench.hear(archive.asked[0], archive) == 0
    assert bench.state(job) is DONE
    assert bench.hear(archive.asked[0], archive) == 0
    assert bench.state(job) is DONE


@commitment
def test_without_a_report_it_is_asked_again_and_the_first_transaction_still_counts(bench, archive):
    archive.how.over = "never"
    job = bench.job()
    bench.after(0)
    bench.after(2)
    bench.after(59)
    assert len(archive.asked) == 1
    bench.after(2)
    first, second = archive.asked
    assert first.transaction_uid != second.transaction_uid
    assert first.references == second.references
    bench.after(61)
    assert len(archive.asked) == 2, "it is asked ever less often"
    bench.after(61)
    assert len(archive.asked) == 3
    bench.hear(first, archive)
    assert bench.state(job) is DONE
    bench.after(10_000)
    assert len(archive.asked) == 3


@commitment
def test_a_report_that_comes_late_after_another_one_changes_nothing(bench, archive):
    archive.how.over = "never"
    job = bench.job()
    bench.after(0)
    bench.after(2)
    bench.after(61)
    first, second = archive.asked
    bench.hear(second, archive)
    bench.hear(first, archive, committed={}, failed=dict.fromkeys(first.references, 0x0112))
    assert bench.state(job) is DONE
    assert len(archive.received) == 2


def test_what_the_archive_does_not_have_is_owed_again_and_nothing_else(bench, archive):
    archive.how.keeps = lambda uid, times: times > 1 or not uid.endswith(".2")
    job = bench.job()
    bench.after(0)
    bench.after(2)
    assert bench.state(job) is SENDING
    assert "it has no such object (failure reason 0112" in bench.proofs(job)["2"]
    assert bench.proofs(job)["1"].startswith("archive committed itself")
    event = bench.journal.events(job.id)[-1]
    assert (event.code, event.to_state) == ("not-there", SENDING)
    assert event.reason.startswith(f"archive took 2.25.{job.id}.2, and it has no such object")
    assert bench.standing()["owed"] == 1
    bench.after(6)
    assert archive.uids == [f"2.25.{job.id}.{number}" for number in (1, 2, 2)]
    bench.after(2)
    assert bench.state(job) is DONE


@pytest.mark.parametrize("proof", ["commitment", "query"])
def test_an_archive_that_says_success_and_stores_nothing_is_found_out(tmp_path, archive, proof):
    bench = Bench(tmp_path, {"archive": dimse(archive, proof=proof)})
    archive.how.keeps = lambda _uid, _times: False
    job = bench.job()
    seen = set()
    for _ in range(60):
        bench.after(15)
        seen.add(bench.state(job))
        if FAILED in seen:
            break
    assert seen == {SENDING, FAILED}
    assert len(archive.received) == 2 * 4, "as many tries as [send] says"
    assert bench.journal.job(job.id).reason_code == "not-there"
    why = "it has no such object" if proof == "commitment" else "does not list it when asked by C-FIND"
    assert bench.reason(job).startswith(f"archive: archive took 2.25.{job.id}.1, and ")
    assert why in bench.reason(job)
    assert bench.reason(job).endswith("So it is with 1 more. It was sent 4 times.")
    assert bench.journal.status()["deliveries"]["parked"] == 2

    archive.how.keeps = lambda _uid, _times: True
    bench.journal.retry(job.id, bench.now)
    bench.after(0)
    bench.after(2)
    assert bench.state(job) is DONE
    assert len(archive.received) == 2 * 5


@pytest.mark.parametrize("reason", [0x0110, 0x0213, 0x0131])
def test_what_may_pass_is_asked_again_and_not_sent_again(bench, archive, reason):
    job = bench.job()
    bench.deliver()
    archive.how.fails = dict.fromkeys(archive.kept, reason)
    bench.after(2)
    assert bench.state(job) is SENDING
    archive.how.fails = {}
    bench.after(11)
    assert bench.state(job) is DONE
    assert len(archive.received) == 2


@pytest.mark.parametrize(("reason", "words"), [(0x0119, "another SOP Class"), (0x0122, "of this SOP Class")])
def test_what_sending_again_cannot_cure_waits_for_a_person(bench, archive, reason, words):
    job = bench.job()
    bench.deliver()
    archive.how.fails = {f"2.25.{job.id}.1": reason}
    bench.after(2)
    assert bench.state(job) is FAILED
    assert words in bench.reason(job)
    assert len(archive.received) == 2


@commitment
def test_an_answer_that_leaves_out_what_was_asked_for_is_told_and_it_is_asked_again(bench, archive):
    archive.how.over = "never"
    job = bench.job()
    bench.after(0)
    bench.after(2)
    (asked,) = archive.asked
    bench.hear(asked, archive, committed={f"2.25.{job.id}.1": "1.2.3"})
    told = f"or with another class (transaction {asked.transaction_uid})."
    assert bench.proofs(job)["1"] == f"archive answered without 2.25.{job.id}.1, {told}"
    assert bench.standing()["why"].startswith("archive answered without")
    while len(archive.asked) == 1:
        bench.after(5)
    bench.hear(archive.asked[-1], archive)
    assert bench.state(job) is DONE


@commitment
def test_only_what_was_asked_of_this_archive_is_believed(bench, archive):
    archive.how.over = "never"
    job = bench.job()
    bench.after(0)
    bench.after(2)
    (asked,) = archive.asked
    wrong = dict.fromkeys(asked.references, "1.2.840.10008.5.1.4.1.1.2")
    others = {f"{uid}0": sop_class for uid, sop_class in asked.references.items()}
    for told in (
        {"transaction_uid": "2.25.99"},  # a foreign transaction
        {"transaction_uid": "2.25.99", "committed": {}, "failed": dict.fromkeys(asked.references, 0x0112)},
        {"caller": "MALLORY"},
        {"caller": "MALLORY", "committed": {}, "failed": dict.fromkeys(asked.references, 0x0112)},
        {"committed": wrong},
        {"committed": others},
        {"committed": {}, "failed": dict.fromkeys(others, 0x0112)},
        {"committed": {}},
    ):
        assert bench.hear(asked, archive, **told) == 0
        assert bench.state(job) is SENDING
        assert bench.standing()["unproved"] == 2
    part = dict([next(iter(asked.references.items()))])
    bench.hear(asked, archive, committed=part)
    assert bench.standing()["unproved"] == 1
    bench.hear(asked, archive)
    assert bench.state(job) is DONE


def test_an_archive_without_the_service_is_told_with_what_helps_and_nothing_is_lost(tmp_path):
    with CommittingPacs(services=("find",)) as archive:
        bench = Bench(tmp_path, {"archive": dimse(archive, proof="commitment")})
        job = bench.job()
        bench.after(0)
        bench.after(2)
        assert bench.state(job) is SENDING
        told = bench.standing()
        assert told["unproved"] == 2
        assert told["why"] == (
            "archive does no storage commitment. Put that right, or set [destinations.archive] "
            'proof = "query" or "none".'
        )
        assert told["next_ask"] == after(2 + 5).isoformat()
        associations = archive.associations
        bench.after(1)
        assert archive.associations == associations, "it is left alone meanwhile"

        bench.configure({"archive": dimse(archive, proof="query")})
        bench.after(5)
        assert bench.state(job) is DONE
        assert set(bench.proofs(job).values()) == {"Seen at archive by C-FIND."}


def test_an_archive_that_is_away_is_asked_ever_less_often(bench, archive):
    job = bench.job()
    bench.deliver()
    bench.configure({"archive": dimse(archive, proof="commitment", port=1)})
    bench.after(2)
    asks = []
    while bench.now < after(97):
        bench.after(5)
        asks.append(bench.standing()["next_ask"])
    assert list(dict.fromkeys(asks)) == [after(s).isoformat() for s in (17, 37, 77, 157)]
    assert "cannot be reached" in bench.standing()["why"]
    assert bench.state(job) is SENDING
    assert bench.standing()["owed"] == 0


@query
def test_what_the_archive_lists_is_there(bench, archive):
    job = bench.job()
    bench.after(0)
    assert bench.state(job) is SENDING
    bench.after(2)
    assert bench.state(job) is DONE
    assert archive.found == 1, "one question per series"
    assert bench.standing() == {
        "destination": "archive",
        "owed": 0,
        "unproved": 0,
        "proved": 2,
        "taken": 0,
        "since": None,
        "next_ask": None,
        "why": "",
        "via": {},
        "paused_since": None,
        "pause": "",
    }


@query
def test_an_archive_that_lists_late_is_given_its_time(bench, archive):
    archive.how.lists = lambda _uid: bench.now >= after(50)
    job = bench.job()
    for _ in range(14):
        bench.after(5)
    assert bench.state(job) is DONE
    assert len(archive.received) == 2
    assert archive.found <= 6


@query
def test_what_is_not_listed_in_time_is_sent_again(bench, archive):
    archive.how.keeps = lambda uid, times: times > 1 or not uid.endswith(".2")
    job = bench.job()
    for _ in range(11):
        bench.after(5)
    assert len(archive.received) == 2
    assert bench.standing()["why"] == "archive does not list it yet, asked by C-FIND."
    for _ in range(5):
        bench.after(5)
    assert archive.uids == [f"2.25.{job.id}.{number}" for number in (1, 2, 2)]
    assert bench.state(job) is DONE


def test_proof_that_is_no_longer_asked_for_is_not_waited_for(bench, archive):
    archive.how.over = "never"
    bench.configure({"archive": dimse(archive, proof="commitment", timeout_s=0.5)})
    job = bench.job()
    bench.after(0)
    bench.after(2)
    bench.configure({"archive": dimse(archive)})
    bench.after(61)
    assert bench.state(job) is DONE
    assert bench.reason(job) == "All results were taken by 1 destination."
    assert set(bench.proofs(job).values()) == {"No proof is asked for any more."}


def test_a_destination_that_was_removed_cannot_be_asked_which_a_person_must_know(bench, archive):
    job = bench.job()
    bench.deliver()
    bench.configure({})
    bench.after(2)
    assert bench.state(job) is FAILED
    assert "no longer has a destination 'archive', so it cannot be asked" in bench.reason(job)


def test_one_of_two_destinations_proves_what_it_has(tmp_path, archive):
    with RecordingPacs() as shelf:
        places = {"archive": dimse(archive, proof="query"), "shelf": dimse(shelf)}
        bench = Bench(tmp_path, places)
        job = bench.job("archive", "shelf")
        bench.after(0)
        bench.after(2)
        assert bench.reason(job) == (
            "All results were taken by 2 destinations, and are known to be there at archive."
        )


def test_what_waits_for_a_person_elsewhere_does_not_end_the_job_before_the_proof(tmp_path, archive):
    with RecordingPacs(status=0xA900) as strict:
        bench = Bench(tmp_path, {"archive": dimse(archive, proof="query"), "strict": dimse(strict)})
        job = bench.job("archive", "strict")
        bench.after(0)
        assert bench.state(job) is SENDING
        bench.after(2)
        assert bench.state(job) is FAILED
        assert bench.standing()["proved"] == 2


def test_who_took_it_in_place_of_a_destination_is_asked_in_its_own_way(tmp_path, archive):
    places = {
        "archive": dimse(archive, port=1, proof="commitment", alternates=["second"]),
        "second": dimse(archive, proof="query"),
    }
    bench = Bench(tmp_path, places)
    archive.how.keeps = lambda uid, times: times > 1 or uid.endswith(".1")
    job = bench.job()
    while bench.now < after(90):
        bench.after(5)
    assert archive.asked == []
    assert bench.proofs(job) == dict.fromkeys("12", "Seen at second by C-FIND.")
    assert archive.uids == [f"2.25.{job.id}.{number}" for number in (1, 2, 2)]
    assert bench.state(job) is DONE
    (lost,) = [event.reason for event in bench.journal.events(job.id) if event.code == "not-there"]
    assert lost.startswith(f"second took 2.25.{job.id}.2, and does not list it")


# ---- withdrawn, cancelled, aged out ----


def a_note(bench, job):
    """Withdraw the results of a job, with a note that the archive takes."""
    given = bench.journal.to_reject(job.id)
    uids = tuple(thing.sop_instance_uid for things in given.values() for thing in things)
    folder = bench.folder / "results" / str(job.id)
    note = replace(saved(report(f"2.25.{job.id}.9"), folder, refers_to=uids), kind="rejection-note")
    notes = dict.fromkeys(given, note)
    return bench.journal.withdraw(job.id, Withdrawal.QUALITY, seen=given, notes=notes, now=bench.now)


@pytest.mark.parametrize("proof", ["commitment", "query"])
def test_a_rejection_is_proved_like_a_result_and_what_it_rejects_is_not_asked_for_any_more(
    tmp_path, archive, proof
):
    bench = Bench(tmp_path, {"archive": dimse(archive, proof=proof)})
    job = bench.job()
    bench.deliver()
    archive.how.keeps = lambda uid, times: not uid.endswith(".9") or times > 1
    if proof == "commitment":
        archive.kept.clear()  # the results themselves are not there either
    a_note(bench, job)
    bench.after(0)
    assert bench.state(job) is SENDING
    assert bench.standing()["unproved"] == 1
    for _ in range(30):
        bench.after(5)
    assert archive.uids == [f"2.25.{job.id}.{number}" for number in (1, 2, 9, 9)]
    assert bench.state(job) is DONE
    assert bench.reason(job).startswith("Withdrawn (quality); the rejection was taken")
    assert bench.proofs(job)["1"] == "Withdrawn before it was known to be there."


@query
def test_a_note_that_the_archive_hides_with_what_it_rejects_is_done_and_sent_once(bench, archive):
    """An Image Manager may hide both (IHE IOCM); that they are not listed yet proves nothing."""
    job = bench.job()
    bench.after(0)
    archive.how.lists = lambda _uid: False
    a_note(bench, job)
    for _ in range(11):
        bench.after(5)
    assert bench.state(job) is SENDING
    for _ in range(5):
        bench.after(5)
    assert archive.uids == [f"2.25.{job.id}.{number}" for number in (1, 2, 9)]
    assert bench.state(job) is DONE
    assert bench.proofs(job)["9"] == (
        "archive lists nothing any more of what it takes back, nor the note, asked by C-FIND."
    )


@query
def test_a_note_that_is_not_there_while_what_it_rejects_is_goes_again(bench, archive):
    job = bench.job()
    bench.after(0)
    archive.how.lists = lambda uid: not uid.endswith(".9")
    a_note(bench, job)
    for _ in range(20):
        bench.after(5)
    assert archive.uids[2:4] == [f"2.25.{job.id}.9"] * 2
    assert bench.state(job) is SENDING


def test_what_was_taken_and_is_not_there_is_rejected_all_the_same(bench, archive):
    archive.how.keeps = lambda _uid, _times: False
    job = bench.job()
    bench.after(0)
    bench.after(2)
    assert bench.standing()["owed"] == 2
    (things,) = bench.journal.to_reject(job.id).values()
    assert len(things) == 2, "it may turn up there"


@commitment
def test_a_cancelled_job_is_not_asked_for(bench, archive):
    archive.how.over = "never"
    job = bench.job()
    bench.after(0)
    bench.after(2)
    bench.journal.cancel(job.id, bench.now)
    bench.after(1000)
    assert len(archive.asked) == 1
    bench.hear(archive.asked[0], archive)
    assert bench.state(job) is JobState.CANCELLED


def test_nothing_ages_out_before_it_is_proved(bench, archive):
    job = bench.job()
    bench.deliver()
    keep, later = KeepTable(done_days=1, failed_days=1, unrouted_days=1), after(90 * 86400)
    assert bench.journal.expired(later, keep) == []
    with pytest.raises(NodeError, match="still works on this series"):
        bench.journal.forget("1.2.3")
    bench.after(2)
    assert bench.state(job) is DONE
    assert bench.journal.expired(later, keep) == ["1.2.3"]


@pytest.mark.parametrize(
    ("proof", "has", "told"),
    [
        ("commitment", ("commitment",), ""),
        ("commitment", ("find",), 'it does none; set proof = "query" or "none"'),
        ("query", ("find",), ""),
        ("query", ("commitment",), 'it does none; set proof = "none"'),
    ],
)
def test_check_tells_whether_a_destination_can_prove_what_it_has(proof, has, told):
    with CommittingPacs(services=has) as peer:
        config = Config.model_validate({"destinations": {"archive": dimse(peer, proof=proof)}})
        found = {place: complaint for place, complaint in peers(config) if place.endswith("for proof")}
    what = "storage commitment" if proof == "commitment" else "C-FIND"
    assert found == {f"destination archive: {what}, for proof": told}
