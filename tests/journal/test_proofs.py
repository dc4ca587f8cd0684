from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import create_engine, text

from node.config import SendTable
from node.job import JobState, Withdrawal
from node.journal import Journal
from node.model import StandIn
from tests.journal.test_withdrawal import a_note
from tests.journal_makers import NOON, SEG, a_job, a_receipt, after, an_outcome

TRANSACTION = "2.25.4711"


@pytest.fixture
def taken(journal):
    """A job whose two results the archive took, and is to prove."""
    return a_taken(journal)


def a_taken(journal, *, series="1.2.3", send_to=("archive",), via=""):
    job = a_job(journal, series=series, send_to=send_to)
    job = journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
    for number in (1, 2):
        receipt = replace(a_receipt(f"2.25.{job.id}.{number}"), via=via)
        journal.keep(job.id, receipt, prove=True)
    return job


def rows(journal, query):
    engine = create_engine(journal._engine.url)
    with engine.connect() as connection:
        found = connection.execute(text(query)).all()
    engine.dispose()
    return found


def test_what_is_to_be_proved_waits_a_moment_and_then_tells_all_that_is_asked_with(journal, taken):
    assert journal.unproved("archive", NOON, most=9) == []
    first, second = journal.unproved("archive", after(1), most=9)
    assert (first.sent_uid, second.sent_uid) == (f"2.25.{taken.id}.1", f"2.25.{taken.id}.2")
    assert (first.sop_class_uid, first.series_uid, first.study_uid) == (SEG, f"2.25.{taken.id}", "1.2")
    assert (first.place, first.delivered_at, first.asks) == ("archive", NOON, 0)
    assert journal.unproved("archive", after(1), most=1) == [first]
    assert journal.unproved("elsewhere", after(1), most=9) == []
    assert journal.unproved(None, after(1), most=9, other_than=("archive",)) == []
    assert journal.unproved(None, after(1), most=9, other_than=("other",)) == [first, second]
    assert journal.finish(taken.id, after(1)) is None


def test_what_is_due_in_a_moment_is_asked_for_together_with_what_is_due(journal):
    job = a_job(journal)
    job = journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
    for number, at in ((1, NOON), (2, after(0.7))):
        journal.keep(job.id, a_receipt(f"2.25.{job.id}.{number}", at=at), prove=True)
    assert journal.unproved("archive", after(0.9), most=9) == []
    assert len(journal.unproved("archive", after(1), most=9)) == 2


def test_a_result_that_went_as_another_kind_is_asked_for_as_that(journal):
    job = a_job(journal)
    job = journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
    uid = f"2.25.{job.id}.1"
    other = replace(
        journal.results(job.id)[0], sop_instance_uid="2.25.99", series_uid="2.25.98", sop_class_uid="1.2.840"
    )
    journal.keep_stand_ins(job.id, {uid: StandIn(thing=other, sentence="")})
    journal.keep(job.id, replace(a_receipt(uid), sent_as="2.25.99"), prove=True)
    journal.park(job.id, "archive", code="peer-refused", reason="No.")
    (thing,) = journal.unproved("archive", after(1), most=9)
    assert (thing.sop_instance_uid, thing.sent_uid) == (uid, "2.25.99")
    assert (thing.sop_class_uid, thing.series_uid) == ("1.2.840", "2.25.98")


def test_an_alternate_is_asked_for_what_it_took_and_nobody_else(journal):
    job = a_taken(journal, via="second")
    assert journal.unproved("archive", after(1), most=9) == []
    things = journal.unproved("second", after(1), most=9)
    assert [(thing.destination, thing.place) for thing in things] == [("archive", "second")] * 2
    journal.lose(dict.fromkeys(things, "second lost it."), SendTable(), after(2))
    (owed,) = journal.due(after(20))
    assert (owed.destination, owed.tries) == ("archive", 1), "it is owed to whom it was"
    assert journal.job(job.id).reason == "second lost it. So it is with 1 more. It is sent again."


def test_what_is_being_sent_is_waited_for_but_not_what_is_to_be_tried_later(journal):
    job = a_job(journal, send_to=("archive", "research"))
    job = journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
    journal.keep(job.id, a_receipt(f"2.25.{job.id}.1"), prove=True)
    assert journal.unproved("archive", after(5), most=9) == []
    journal.postpone(job.id, "archive", code="peer-busy", reason="Full.", not_before=after(60))
    assert len(journal.unproved("archive", after(5), most=9)) == 1
    assert journal.unproved("archive", after(60), most=9) == []
    journal.park(job.id, "archive", code="peer-refused", reason="No.")
    assert len(journal.unproved("archive", after(60), most=9)) == 1


def test_a_transaction_is_known_until_all_of_it_is_answered(journal, taken):
    first, second = things = journal.unproved("archive", after(1), most=9)
    assert journal.asked(TRANSACTION) == ("", [])
    assert not journal.awaits(TRANSACTION)
    journal.ask(TRANSACTION, "archive", things, now=after(1), due_at=after(61))
    assert journal.unproved("archive", after(60), most=9) == []
    assert [one.asks for one in journal.unproved("archive", after(61), most=9)] == [1, 1]
    place, asked = journal.asked(TRANSACTION)
    assert (place, [one.sent_uid for one in asked]) == ("archive", [first.sent_uid, second.sent_uid])
    assert journal.awaits(TRANSACTION)
    journal.prove(asked[:1], "There.", after(2))
    assert [one.sent_uid for one in journal.asked(TRANSACTION)[1]] == [second.sent_uid]
    journal.answered(TRANSACTION, after(2))
    assert not journal.awaits(TRANSACTION)
    assert journal.finish(taken.id, after(2)) is None
    journal.prove(asked[1:], "There.", after(3))
    assert journal.asked(TRANSACTION) == ("", [])
    assert journal.job(taken.id).state is JobState.DONE


def test_a_transaction_is_about_what_the_one_who_was_asked_took(journal):
    job = a_taken(journal, send_to=("archive", "second"))
    for number in (1, 2):
        receipt = a_receipt(f"2.25.{job.id}.{number}", destination="second")
        journal.keep(job.id, receipt, prove=True)
    things = journal.unproved("archive", after(1), most=9)
    journal.ask(TRANSACTION, "archive", things, now=after(1), due_at=after(61))
    assert {one.destination for one in journal.asked(TRANSACTION)[1]} == {"archive"}


def test_a_receipt_alone_does_not_undo_what_was_found_missing_meanwhile(journal, taken):
    """What was seen before the object was sent again is of no account afterwards."""
    things = journal.unproved("archive", after(1), most=9)
    journal.lose(dict.fromkeys(things, "Gone."), SendTable(), after(2))
    journal.keep(taken.id, a_receipt(things[0].sop_instance_uid, at=after(9)), prove=True)
    journal.prove(things, "There.", after(10))
    journal.lose(dict.fromkeys(things, "Gone."), SendTable(), after(10))
    journal.ask_again(dict.fromkeys(things, "Later."), after(10))
    (owed,) = journal.due(after(20))
    journal.park(taken.id, "archive", code="peer-refused", reason="No.", seen=owed)
    (one,) = journal.unproved("archive", after(10), most=9)
    assert (one.delivered_at, one.asks) == (after(9), 0)
    assert (owed.tries, len(owed.objects)) == (1, 1)


def test_what_nothing_waits_for_any_more_is_struck(journal, taken):
    things = journal.unproved("archive", after(1), most=9)
    journal.ask(TRANSACTION, "archive", things, now=after(1), due_at=after(61))
    journal.cancel(taken.id, after(2))
    other = a_taken(journal, series="1.2.4")
    assert journal.asked(TRANSACTION) == ("", [])
    journal.ask(
        "2.25.5", "archive", journal.unproved("archive", after(3), most=9), now=after(3), due_at=after(63)
    )
    assert {row.transaction_uid for row in rows(journal, "SELECT * FROM commitment")} == {"2.25.5"}
    assert {row.job_id for row in rows(journal, "SELECT * FROM commitment_item")} == {other.id}


def test_proof_survives_the_end_of_the_process(journal, taken, tmp_path):
    things = journal.unproved("archive", after(1), most=9)
    journal.ask(TRANSACTION, "archive", things, now=after(1), due_at=after(61))
    journal.close()
    other = Journal.open(tmp_path)
    assert other.recover(after(2)) == []
    assert other.job(taken.id).state is JobState.SENDING
    place, asked = other.asked(TRANSACTION)
    other.prove(asked, "There.", after(3))
    assert (place, other.job(taken.id).state) == ("archive", JobState.DONE)
    other.close()


def test_what_cannot_be_asked_for_is_put_off_all_at_once_and_only_there(journal):
    a_taken(journal)
    a_taken(journal, series="1.2.4", via="second")
    (one, _) = journal.unproved("archive", after(1), most=9)
    journal.not_asked([one], "It does not answer.", now=after(1), until=after(31))
    assert journal.unproved("archive", after(30), most=9) == []
    assert [one.asks for one in journal.unproved("archive", after(31), most=9)] == [1, 1]
    assert [one.asks for one in journal.unproved("second", after(1), most=9)] == [0, 0]
    (told,) = journal.status()["destinations"]
    assert (told["unproved"], told["since"]) == (4, NOON.isoformat())
    assert told["next_ask"] == after(1).isoformat()


def test_what_could_not_be_asked_for_after_all_counts_once(journal, taken):
    things = journal.unproved("archive", after(1), most=9)
    journal.ask(TRANSACTION, "archive", things, now=after(1), due_at=after(61))
    journal.not_asked(things, "It does not answer.", now=after(1), until=after(6))
    assert [one.asks for one in journal.unproved("archive", after(6), most=9)] == [1, 1]


def test_a_rejection_goes_to_the_alternate_that_took_the_results_and_to_whom_it_may_pass_them_on(journal):
    job = a_taken(journal, via="second")
    given = journal.to_reject(job.id)
    assert set(given) == {"archive", "second"}
    notes = {
        place: a_note(f"2.25.90{number}", things) for number, (place, things) in enumerate(given.items())
    }
    journal.withdraw(job.id, Withdrawal.QUALITY, seen=given, notes=notes, now=after(1))
    assert [(owed.destination, len(owed.objects)) for owed in journal.due(after(1))] == [
        ("archive", 1),
        ("second", 1),
    ]
    for number, place in enumerate(given):
        journal.keep(job.id, a_receipt(f"2.25.90{number}", destination=place, at=after(2)))
    assert journal.finish(job.id, after(2)).state is JobState.DONE


def test_what_comes_late_of_a_withdrawn_job_is_not_proved_but_rejected(journal, taken):
    job = a_job(journal, series="1.2.9")
    job = journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
    journal.keep(job.id, a_receipt(f"2.25.{job.id}.1"))
    given = journal.to_reject(job.id)
    note = a_note("2.25.900", next(iter(given.values())))
    journal.withdraw(job.id, Withdrawal.QUALITY, seen=given, notes={"archive": note}, now=after(1))
    journal.keep(job.id, a_receipt("2.25.900", at=after(2)))
    journal.keep(job.id, a_receipt(f"2.25.{job.id}.2", at=after(2)), prove=True)
    assert {one.job_id for one in journal.unproved("archive", after(9), most=9)} == {taken.id}
    assert journal.finish(job.id, after(3)).reason_code == "not-all-rejected"


def test_what_is_not_proved_of_a_job_is_told_with_the_job(journal, taken):
    a_taken(journal, series="1.2.9", send_to=("archive", "research"))
    (job,) = journal.jobs_of("1.2.3")
    (there,) = job["destinations"]
    assert (there["destination"], there["unproved"], there["proved"]) == ("archive", 2, 0)
    journal.prove(journal.unproved("archive", after(1), most=9)[:1], "Seen.", after(1))
    (job,) = journal.jobs_of("1.2.3")
    assert (job["destinations"][0]["unproved"], job["destinations"][0]["proved"]) == (1, 1)
    assert [one["destination"] for one in journal.jobs_of("1.2.9")[0]["destinations"]] == [
        "archive",
        "research",
    ]


def test_what_an_alternate_took_is_asked_for_while_the_destination_is_held_back(journal):
    job = a_job(journal)
    journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)
    journal.keep(job.id, replace(a_receipt(f"2.25.{job.id}.1"), via="second"), prove=True)
    assert journal.unproved("second", after(1), most=9) == []  # the rest is being sent
    journal.pause("archive", "", after(1))
    assert len(journal.unproved("second", after(1), most=9)) == 1
