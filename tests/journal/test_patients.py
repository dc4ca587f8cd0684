"""What belongs together: the series of a study, the studies of a patient, the cases of both."""

from __future__ import annotations

import hashlib
import hmac
import threading
from dataclasses import replace

import pytest

from node.config import KeepTable
from node.errors import ConfigError, JournalUnavailable, NodeError
from node.job import JobInput, JobState
from node.journal import Journal
from node.model import Lack
from tests.journal_makers import NOON, a_spec, after, an_instance, an_outcome, sha

LACK = Lack(code="input-missing", sentence="No series fits.", roles=("b",), wait_s=60.0)


def a_case(*series, study="1.2", lack=None, rule="case", pipeline="tumour"):
    """Return the work of a rule on some series: role a, b ..."""
    inputs = {
        role: JobInput(series_uid=uid, revision=1, sop_instance_uids=(f"{uid}.1",))
        for role, uid in zip("abcd", series, strict=False)
    }
    content = sha(f"{pipeline} {series} {lack}")
    spec = a_spec(pipeline=pipeline, rule=rule)
    return replace(spec, study_uid=study, inputs=inputs, input_digest=content, case=(rule,), lack=lack)


def settle(journal, series, *specs, study="1.2", at=NOON, seen=None, patient="", number=""):
    journal.record(an_instance(1, series=series, study=study, at=at))
    return journal.plan(
        series,
        expected_count=1,
        specs=specs,
        reason="",
        now=at,
        seen=seen,
        patient_key=patient,
        number=number,
    )


def test_a_patient_is_the_same_digest_that_nobody_can_check_without_the_key(tmp_path):
    journal = Journal.open(tmp_path / "one")
    one = journal.patient_key("MRN 1")
    assert one == journal.patient_key("MRN 1")
    assert journal.patient_key("MRN 2") != one
    assert journal.patient_key("") == ""
    assert one not in {hashlib.sha256(said).hexdigest() for said in (b"MRN 1", b"MRN 1\0")}
    journal.close()
    again = Journal.open(tmp_path / "one")
    assert again.patient_key("MRN 1") == one
    other = Journal.open(tmp_path / "two")
    assert other.patient_key("MRN 1") != one
    again.close()
    other.close()


def test_a_series_that_an_older_node_kept_without_issuer_is_found_still(journal, tmp_path):
    key = (tmp_path / "patients.key").read_bytes()
    of_old = hmac.new(key, b"MRN 1\0", hashlib.sha256).hexdigest()
    assert journal.patient_key("MRN 1") == of_old


def test_the_key_is_made_once_and_for_its_owner_alone(journal, tmp_path):
    file = tmp_path / "patients.key"
    file.unlink()
    found, start = [], threading.Barrier(8)

    def ask():
        start.wait()
        found.append(journal.patient_key("1"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert file.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_broken_key_is_told_and_never_replaced(journal, tmp_path, content):
    (tmp_path / "patients.key").write_bytes(content)
    why = r"patients.key holds no key of 32 bytes; restore it"
    with pytest.raises(JournalUnavailable, match=why):
        journal.patient_key("1")
    with pytest.raises(ConfigError, match=why):  # the node does not even start
        Journal.open(tmp_path)
    assert (tmp_path / "patients.key").read_bytes() == content


def test_what_still_arrives_is_not_among_the_settled(journal):
    settle(journal, "1.2.3", patient="p", number="3")
    settle(journal, "1.2.4", patient="p")
    settle(journal, "9.9.1", study="9.9", patient="p")
    settle(journal, "8.8.1", study="8.8", patient="q")
    journal.record(an_instance(1, series="1.2.5"))
    journal.record(an_instance(2, series="1.2.4"))
    assert [series.uid for series in journal.settled_in(study_uid="1.2")] == ["1.2.3"]
    assert [series.uid for series in journal.settled_in(patient_key="p")] == ["1.2.3", "9.9.1"]
    assert journal.settled_in(patient_key="") == []
    assert journal.patient_of("1.2") == "p"
    assert journal.patient_of("7.7") == ""
    assert journal.beside("1.2.3", "1.2", "p") == {"9.9.1": 1}


def test_a_study_of_two_patients_is_of_none(journal):
    settle(journal, "1.2.3", patient="p")
    settle(journal, "1.2.4", patient="q")
    assert journal.patient_of("1.2") == ""


def test_nothing_is_planned_on_what_is_no_longer_so(journal):
    settle(journal, "1.2.3")
    journal.record(an_instance(1, series="1.2.4"))
    case = a_case("1.2.4", lack=LACK)
    assert settle(journal, "1.2.4", case, seen={}) == []
    assert [one.series_uid for one in journal.arriving()] == ["1.2.4"], "it is planned anew"
    assert len(settle(journal, "1.2.4", case, seen={"1.2.3": 1})) == 1


def test_a_case_that_lacks_a_series_waits_and_is_superseded_by_one_that_does_not(journal):
    (waiting,) = settle(journal, "1.2.3", a_case("1.2.3", lack=LACK))
    assert waiting.not_before == after(60)
    (complete,) = settle(journal, "1.2.4", a_case("1.2.3", "1.2.4"))
    assert complete.not_before == NOON
    ended = journal.job(waiting.id)
    assert (ended.state, ended.reason_code) == (JobState.CANCELLED, "superseded")
    assert journal.claim(after(100)).id == complete.id
    assert journal.claim(after(100)) is None


def test_cases_of_another_rule_study_or_pipeline_stay(journal):
    kept = [
        settle(journal, "1.2.3", a_case("1.2.3", lack=LACK, rule="other")),
        settle(journal, "9.9.3", a_case("9.9.3", lack=LACK, study="9.9"), study="9.9"),
        settle(journal, "1.2.5", a_case("1.2.5", lack=LACK, pipeline="another")),
    ]
    settle(journal, "1.2.4", a_case("1.2.6", "1.2.4"))
    assert [journal.job(job.id).state for (job,) in kept] == [JobState.QUEUED] * 3


def test_rules_that_ask_for_the_same_case_are_one_job_of_both(journal):
    both = [a_case("1.2.3", rule="one"), replace(a_case("1.2.3", rule="two"), send_to=("web",))]
    (job,) = settle(journal, "1.2.3", *both)
    assert (job.spec.case, job.spec.rule) == (("one", "two"), "one, two")
    assert job.spec.send_to == ("archive", "web")
    assert journal.job(job.id).spec == job.spec


def test_what_a_case_lacks_is_kept_word_for_word(journal):
    (job,) = settle(journal, "1.2.3", a_case("1.2.3", lack=LACK))
    assert journal.job(job.id).spec.lack == LACK


def test_a_series_touches_the_cases_that_have_it_and_those_of_its_patient_that_wait(journal):
    settle(journal, "1.2.3", a_case("1.2.3", lack=LACK, rule="waits"), patient="p")
    settle(journal, "7.7.3", a_case("7.7.3", rule="runs", study="7.7"), study="7.7", patient="p")
    claimed = journal.claim(NOON)
    journal.move(claimed, JobState.FAILED, reason="", now=NOON)
    settle(journal, "9.9.3", a_case("9.9.3", lack=LACK, study="9.9"), study="9.9", patient="q")
    settle(journal, "6.6.3", a_spec(series="6.6.3", numbers=range(1, 2)), study="6.6", patient="p")
    assert journal.cases_of("5.5.5", "p") == {"waits": {"1.2"}}
    assert journal.cases_of("7.7.3", "p") == {"waits": {"1.2"}, "runs": {"7.7"}}
    assert journal.cases_of("5.5.5", "") == {}
    refused = journal.claim(after(60))
    journal.move(refused, JobState.REFUSED, code="input-missing", reason="", now=after(60))
    assert journal.cases_of("5.5.5", "p") == {"waits": {"1.2"}}


def ended(journal, *series, lack=None):
    """Plan a case of series that are all held, and let it end."""
    for uid in series[:-1]:
        settle(journal, uid)
    (job,) = settle(journal, series[-1], a_case(*series, lack=lack))
    claimed = journal.claim(after(1000))
    if lack:
        return journal.move(claimed, JobState.REFUSED, code=lack.code, reason="", now=NOON)
    return journal.save_results(claimed, replace(an_outcome(job.id), profiles={}), NOON, {})


def test_every_series_of_an_open_case_is_held(journal):
    settle(journal, "1.2.3")
    (job,) = settle(journal, "1.2.4", a_case("1.2.3", "1.2.4", lack=LACK))
    assert journal.expired(after(1e9), KeepTable()) == []
    for uid in ("1.2.3", "1.2.4"):
        with pytest.raises(NodeError, match=f"Job {job.id} still works on this series"):
            journal.forget(uid)


def test_a_case_that_was_refused_for_what_was_missing_may_be_asked_for_again(journal):
    first = ended(journal, "1.2.3", lack=LACK)
    journal.forget("1.2.3")
    (again,) = settle(journal, "1.2.3", a_case("1.2.3", lack=LACK))
    assert again.id != first.id


def test_results_stay_when_the_earlier_study_ages_out_and_go_with_their_own(journal):
    settle(journal, "0.1.1", study="0.1")
    settle(journal, "1.2.3")
    (job,) = journal_plan_again(journal)
    claimed = journal.claim(NOON)
    journal.save_results(claimed, an_outcome(job.id), NOON)
    for thing in journal.results(job.id):
        for owed in journal.due(NOON):
            assert thing in owed.objects
    journal.cancel(job.id, NOON)
    assert len(journal.forget("0.1.1")) == 1, "its own instance alone"
    assert len(journal.result_paths()) == 2
    assert len(journal.forget("1.2.3")) == 2 + 2
    assert journal.result_paths() == set()


def journal_plan_again(journal):
    """Plan a case of 1.2.3 with 0.1.1 as the earlier one."""
    journal.record(an_instance(2, series="1.2.3"))
    spec = a_case("1.2.3", "0.1.1")
    return journal.plan("1.2.3", expected_count=2, specs=[spec], reason="", now=NOON)


def test_status_tells_roles_numbers_and_what_is_waited_for(journal):
    settle(journal, "1.2.3", number="3")
    settle(journal, "1.2.4", a_case("1.2.3", "1.2.4", lack=LACK), number="7")
    (waits,) = journal.status()["waiting"]
    assert waits["inputs"] == [
        {"role": "a", "series_uid": "1.2.3", "series_number": "3"},
        {"role": "b", "series_uid": "1.2.4", "series_number": "7"},
    ]
    assert (waits["reason"], waits["until"]) == ("No series fits.", after(60).isoformat())
    assert journal.jobs_of("1.2.3")[0]["inputs"] == waits["inputs"]
