"""Several series of a study, in whatever order they come, become one case and one job."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise, permutations

import pytest

from node import flow
from node.accept import Store, spool_file
from node.assemble.together import check_together
from node.assign import parse_rules
from node.compute import Staging, installed
from node.config import read_config
from node.follow import follow_all
from node.job import JobState
from node.journal import Journal
from node.serve import utc_now
from tests import toy_case, toy_chain
from tests.journal_makers import an_outcome
from tests.toy_case import ROLES, write_ct, write_mr
from tests.toy_node import HELD

RULES = """\
[[rules]]
name = "tumours"
pipeline = "toy-tumour"
send_to = ["out"]
[[rules]]
name = "change"
pipeline = "toy-change"
send_to = ["out"]
"""


@contextmanager
def opened(folder, more=""):
    """Open a node with both toys, whose clock stands still until it is moved: node, clock.

    It has no workers: nothing that is asked of it here comes to one.
    """
    folder.mkdir(exist_ok=True)
    toys = "".join(toy_case.install(folder, card) for card in (toy_case.TUMOUR, toy_case.CHANGE))
    (folder / "node.toml").write_text(HELD.format(pipelines=toys) + RULES + more, encoding="utf-8")
    config = read_config(folder / "node.toml")
    cards, data, now = installed(config.pipelines), config.node.data, [utc_now()]
    journal = Journal.open(data)
    yield (
        flow.Node(
            config=config,
            journal=journal,
            store=Store(data, config.accept),
            staging=Staging(data),
            engine=None,
            cards=cards,
            rules=parse_rules(config.rules, cards),
            clock=lambda: now[0],
        ),
        now,
    )
    journal.close()


def arrive(files, node):
    """Take custody of a series; return its UID."""
    return [flow.receive(*spool_file(file, node.store), node) for file in files][-1].series_uid


def settle(files, node):
    """Let a series arrive and settle; return the jobs that this made."""
    return flow.plan(arrive(files, node), node)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Role -> files of its series, all of one study."""
    folder = tmp_path_factory.mktemp("study")
    return {role: write_mr(folder / role, role) for role in ROLES}


def jobs_by_state(node):
    counts = {}
    for job in node.journal.jobs():
        counts.setdefault(job.state, []).append(job)
    return counts


def numbers(node, job):
    """Return role -> Series Number of a job."""
    (told,) = [
        one
        for entry in job.spec.inputs.values()
        for one in node.journal.jobs_of(entry.series_uid)
        if one["job"] == job.id
    ][:1]
    return {entry["role"]: int(entry["series_number"]) for entry in told["inputs"]}


def test_in_every_order_the_same_case_comes_of_it(tmp_path):
    with opened(tmp_path / "node") as (node, _):
        for order in permutations(ROLES):
            name = "-".join(order)
            study = {role: write_mr(tmp_path / name / role, role, study=name, slices=1) for role in ROLES}
            for role in order[:-1]:
                (waiting,) = settle(study[role], node)
                assert waiting.spec.lack.code == "input-missing", name
            assert node.journal.claim(node.clock()) is None, "it waits for what is missing"
            (job,) = settle(study[order[-1]], node)
            assert job.spec.lack is None, name
            assert numbers(node, job) == toy_case.NUMBERS, name
            assert node.journal.claim(node.clock()).id == job.id
        found = jobs_by_state(node)
        assert len(found[JobState.COMPUTING]) == 24
        assert len(found[JobState.CANCELLED]) == 3 * 24
        assert {ended.reason_code for ended in found[JobState.CANCELLED]} == {"superseded"}


def test_what_is_missing_after_the_wait_is_refused_by_name(study, tmp_path):
    with opened(tmp_path / "node") as (node, now):
        for role in ("t1", "t2", "t1c"):
            settle(study[role], node)
        (waits,) = node.journal.status()["waiting"]
        assert {entry["role"] for entry in waits["inputs"]} == {"t1", "t1c", "t2"}
        now[0] += timedelta(seconds=599)
        assert node.journal.claim(node.clock()) is None
        now[0] += timedelta(seconds=1)
        job = node.journal.claim(node.clock())
        flow.compute(job, node, lambda *_: None)
        ended = node.journal.job(job.id)
        assert (ended.state, ended.reason_code) == (JobState.REFUSED, "input-missing")
        assert ended.reason == (
            "No series of the study fits role 'flair': Modality is MR; SeriesDescription is *FLAIR*."
        )
        with_late = arrive(study["flair"], node)
        (late,) = flow.plan(with_late, node)
        assert late.spec.lack is None, "what comes after all still completes the case"


def test_a_case_is_not_refused_while_its_study_still_arrives(study, tmp_path):
    with opened(tmp_path / "node") as (node, now):
        settle(study["t1"], node)
        uid = arrive(study["t2"], node)
        now[0] += timedelta(days=1)
        assert node.journal.claim(now[0]) is None
        (job,) = flow.plan(uid, node)
        now[0] += timedelta(seconds=600)
        assert node.journal.claim(now[0]).id == job.id


def test_two_series_for_a_role_are_refused_by_their_numbers(study, tmp_path):
    again = write_mr(tmp_path / "again", "flair", SeriesNumber=9)
    with opened(tmp_path / "node") as (node, now):
        for role in ROLES:
            settle(study[role], node)
        (job,) = settle(again, node)
        assert node.journal.claim(now[0]).id == job.id, "nothing that may come can make it clear"
        assert (job.spec.lack.code, job.spec.lack.sentence) == (
            "several-candidates",
            "Several series of the study fit role 'flair' (Series 5, Series 9), and a role takes one. "
            "Say more in [rules.inputs.flair], so that one is left.",
        )
        assert node.journal.claim(now[0]) is None, "the case that was clear before has been superseded"


def test_a_complete_case_waits_for_what_still_arrives_of_its_study(study, tmp_path):
    rival = write_mr(tmp_path / "rival", "flair", SeriesNumber=9)
    with opened(tmp_path / "node") as (node, _):
        for role in ROLES:
            jobs = settle(study[role], node)
        assert jobs[0].spec.lack is None
        uid = arrive(rival, node)
        assert node.journal.claim(node.clock()) is None
        (job,) = flow.plan(uid, node)
        assert job.spec.lack.code == "several-candidates"
        assert node.journal.claim(node.clock()).id == job.id


def test_another_study_does_not_complete_a_case(study, tmp_path):
    elsewhere = write_mr(tmp_path / "else", "flair", study="another")
    with opened(tmp_path / "node") as (node, _):
        for role in ("t1", "t1c", "t2"):
            settle(study[role], node)
        (job,) = settle(elsewhere, node)
        assert job.spec.lack.code == "input-missing"
        assert len(jobs_by_state(node)[JobState.QUEUED]) == 2


def test_a_later_slice_of_any_series_makes_the_case_anew(study, tmp_path):
    more = write_mr(tmp_path / "more", "t2", slices=4)
    with opened(tmp_path / "node") as (node, _):
        for role in ROLES:
            jobs = settle(study[role], node)
        (newer,) = settle(more[-1:], node)
        assert newer.spec.lack is None
        assert newer.spec.inputs["t2"].revision == 2
        assert newer.spec.key != jobs[0].spec.key
        assert jobs_by_state(node)[JobState.QUEUED] == [newer]


def test_the_same_study_again_makes_no_second_job(study, tmp_path):
    with opened(tmp_path / "node") as (node, _):
        for role in ROLES:
            settle(study[role], node)
        before = node.journal.jobs()
        for role in ROLES:
            assert settle(study[role], node) == []
        assert node.journal.jobs() == before


def test_two_series_that_settle_at_one_moment_make_one_complete_job(study, tmp_path):
    with opened(tmp_path / "node") as (node, _):
        for role in ("t1", "t2"):
            settle(study[role], node)
        uids = [arrive(study[role], node) for role in ("t1c", "flair")]
        meet = threading.Barrier(2)

        def plan(uid):
            meet.wait()
            while uid in {one.series_uid for one in node.journal.arriving()}:
                flow.plan(uid, node)

        threads = [threading.Thread(target=plan, args=(uid,)) for uid in uids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (job,) = jobs_by_state(node)[JobState.QUEUED]
        assert job.spec.lack is None
        assert numbers(node, job) == toy_case.NUMBERS


@pytest.fixture
def history(tmp_path):
    """Study Date -> the files of the only series of that study; all of one patient."""
    return {date: write_ct(tmp_path / date, date) for date in ("20240301", "20250301", "20260102")}


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_newest_earlier_study_is_the_prior_in_every_order(order, history, tmp_path):
    dates = sorted(history)
    with opened(tmp_path / "node") as (node, _):
        uids = {dates[index]: None for index in order}
        for date in uids:
            uids[date] = arrive(history[date], node)
            flow.plan(uids[date], node)
        open_jobs = {
            job.spec.inputs["current"].series_uid: job for job in jobs_by_state(node)[JobState.QUEUED]
        }
        assert open_jobs.keys() == set(uids.values())
        assert open_jobs[uids[dates[0]]].spec.lack.code == "input-missing"
        for earlier, later in pairwise(dates):
            assert open_jobs[uids[later]].spec.inputs["prior"].series_uid == uids[earlier]
            assert open_jobs[uids[later]].spec.lack is None


def test_a_rule_on_results_of_a_case_is_asked_of_the_current_series_alone(history, tmp_path):
    folder = tmp_path / "node"
    folder.mkdir()
    if_bright = '[rules.results.toy-change]\nmeasurement = { name = "Bright*", min = 1.0 }'
    more = toy_chain.rule("more", "out", more=if_bright) + toy_chain.install(folder, toy_chain.card("more"))
    with opened(folder, more) as (node, now):
        prior = arrive(history["20250301"], node)
        flow.plan(prior, node)
        now[0] += timedelta(days=1)
        flow.compute(node.journal.claim(now[0]), node, lambda *_: None)
        current = arrive(history["20260102"], node)
        (case,) = [job for job in flow.plan(current, node) if job.spec.lack is None]
        assert case.spec.inputs["prior"].series_uid == prior
        rows = ({"name": "Bright in current", "value": 5.0, "unit": "1", "segment": ""},)
        outcome = replace(an_outcome(case.id), summary=rows)
        while (job := node.journal.claim(now[0])).id != case.id:
            pass
        node.journal.save_results(job, outcome, now[0])
        assert node.journal.answer("toy-change", prior, 1).refused == "input-missing", "of its own case"
        assert node.journal.answer("toy-change", current, 1).refused == ""
        (made,) = follow_all(node)
        assert made.spec.inputs["ct"].series_uid == current


def test_a_case_waits_for_the_prior_that_still_arrives(history, tmp_path):
    with opened(tmp_path / "node") as (node, _):
        settle(history["20240301"], node)
        prior = arrive(history["20250301"][:-1], node)
        flow.plan(prior, node)
        arrive(history["20250301"][-1:], node)
        current = arrive(history["20260102"], node)
        flow.plan(current, node)
        assert node.journal.claim(node.clock()) is None, "not with the prior before that"
        flow.plan(prior, node)
        bound = {
            job.spec.inputs["prior"].series_uid
            for job in jobs_by_state(node)[JobState.QUEUED]
            if job.spec.inputs["current"].series_uid == current
        }
        assert bound == {prior}
        assert node.journal.claim(node.clock()) is not None


def test_a_prior_of_another_patient_is_none(history, tmp_path):
    other = write_ct(tmp_path / "other", "20230101", PatientID="SIMULATED-2")
    with opened(tmp_path / "node") as (node, _):
        settle(other, node)
        (job,) = settle(history["20260102"], node)
        assert job.spec.lack.sentence == (
            "The node holds no earlier study of the patient that fits role 'prior' "
            "(Modality is CT; ImageType has ORIGINAL)."
        )


@pytest.mark.parametrize(("then", "now"), [("", "HOSPITAL"), ("HOSPITAL", ""), ("HOSPITAL", "HOSPITAL")])
def test_a_prior_is_found_whether_or_not_both_say_who_issued_the_patient_id(then, now, tmp_path):
    old = write_ct(tmp_path / "old", "20250301", IssuerOfPatientID=then)
    new = write_ct(tmp_path / "new", "20260102", IssuerOfPatientID=now)
    with opened(tmp_path / "node") as (node, _):
        uid = arrive(old, node)
        flow.plan(uid, node)
        (job,) = [job for job in settle(new, node) if job.spec.inputs["current"].series_uid != uid]
        assert job.spec.lack is None
        assert job.spec.inputs["prior"].series_uid == uid
        check_together(node.journal.instances_of(job), node.cards["toy-change"])


def test_the_newest_study_of_another_issuer_does_not_hide_the_one_of_the_patient(tmp_path):
    dates = {"20240301": "A", "20250301": "B", "20260102": "A"}
    files = {day: write_ct(tmp_path / day, day, IssuerOfPatientID=who) for day, who in dates.items()}
    with opened(tmp_path / "node") as (node, _):
        uids = {}
        for day in files:
            uids[day] = arrive(files[day], node)
            made = flow.plan(uids[day], node)
        (job,) = [job for job in made if job.spec.inputs["current"].series_uid == uids["20260102"]]
        assert job.spec.inputs["prior"].series_uid == uids["20240301"]


def test_an_id_that_many_may_have_leads_to_nobody(tmp_path):
    old, new = (write_ct(tmp_path / day, day, PatientID="0") for day in ("20250301", "20260102"))
    with opened(tmp_path / "node") as (node, _):
        settle(old, node)
        (job,) = settle(new, node)
        assert list(job.spec.inputs) == ["current"]
        assert job.spec.lack.code == "input-missing"
        assert job.spec.lack.sentence == (
            "An earlier study for role 'prior' (Modality is CT; ImageType has ORIGINAL) cannot be looked "
            "for: the Patient ID of this one is absent, or one that many may have. Correct it at its source."
        )


@pytest.mark.parametrize(
    ("date", "why"),
    [
        ("20260102", "another one that fits is of the same day"),
        (None, "the Study Date of another one that fits is not known"),
    ],
)
def test_a_prior_whose_time_is_not_clear_is_refused(date, why, history, tmp_path):
    other = write_ct(tmp_path / "other", date, number=6)
    with opened(tmp_path / "node") as (node, _):
        settle(other, node)
        uid = arrive(history["20260102"], node)
        (job,) = [job for job in flow.plan(uid, node) if job.spec.inputs["current"].series_uid == uid]
        assert job.spec.lack.code == "prior-unclear"
        assert job.spec.lack.sentence.endswith(f"cannot be told: {why}.")


def test_a_case_that_waits_for_a_prior_ends_at_once_when_none_can_be_told(history, tmp_path):
    other = write_ct(tmp_path / "other", "20260102", number=6)
    with opened(tmp_path / "node") as (node, now):
        (waiting,) = settle(history["20260102"], node)
        settle(other, node)
        assert node.journal.job(waiting.id).state is JobState.CANCELLED
        (one, two) = jobs_by_state(node)[JobState.QUEUED]
        assert {one.spec.lack.code, two.spec.lack.code} == {"prior-unclear"}
        assert one.not_before == two.not_before == now[0]


def test_a_study_without_prior_is_skipped_where_the_rule_says_so(history, tmp_path):
    with opened(tmp_path / "node", 'without_prior = "skip"\nwait_s = 0') as (node, _):
        settle(history["20250301"], node)
        job = node.journal.claim(node.clock())
        flow.compute(job, node, lambda *_: None)
        ended = node.journal.job(job.id)
        assert (ended.state, ended.reason_code) == (JobState.CANCELLED, "skipped")
        made = settle(history["20240301"], node)
        assert [job.spec.lack is None for job in made] == [False, True], "it came after all"


def test_the_key_of_the_patients_is_secret_and_the_journal_tells_no_patient(history, tmp_path):
    with opened(tmp_path / "node") as (node, _):
        settle(history["20260102"], node)
    data = tmp_path / "node" / "data"
    key = data / "patients.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32
    for file in data.glob("journal.sqlite*"):
        assert b"SIMULATED-1" not in file.read_bytes()
        assert key.read_bytes() not in file.read_bytes()
