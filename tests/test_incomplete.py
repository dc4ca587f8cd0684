"""What a series that is not whole means for the work on it, alone and in a case."""

from __future__ import annotations

import pytest

from node import flow
from node.follow import follow_all
from node.model import Settling
from pipelines.contract import InputRefused
from tests.test_cases import arrive, opened
from tests.toy_case import ROLES, write_mr

MISSING = "the series is not whole: ARCHIVE counts 9 instances, 3 came"


def settling(*, is_refused=False, caution=MISSING, held=3):
    """Return what decided that a series goes on without what is missing."""
    sentence = "Nothing new for 60 s although ARCHIVE counts 9 and 3 came."
    return Settling(
        by="patience", sentence=sentence, held=held, silent_s=60.0, caution=caution, is_refused=is_refused
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return {role: write_mr(folder / role, role) for role in ROLES}


@pytest.mark.parametrize("last", ["flair", "t1"])
def test_a_case_is_refused_for_a_series_that_is_not_whole_whichever_comes_last(last, study, tmp_path):
    with opened(tmp_path / "node") as (node, _):
        order = [*(role for role in ROLES if role != last), last]
        for role in order:
            jobs = flow.plan(
                arrive(study[role], node), node, settling(is_refused=True) if role == "flair" else None
            )
        (job,) = jobs
        assert (job.spec.lack.code, job.spec.lack.roles) == ("series-incomplete", ("flair",))
        assert node.journal.claim(node.clock()).id == job.id, "it does not wait"
        with pytest.raises(InputRefused, match="Input 'flair': Nothing new for 60 s although ARCHIVE"):
            node.journal.instances_of(job)


def test_a_case_that_was_refused_is_made_when_the_series_is_whole(study, tmp_path):
    more = write_mr(tmp_path / "more", "flair", slices=4)
    with opened(tmp_path / "node") as (node, _):
        for role in ROLES:
            uid = arrive(study[role], node)
            flow.plan(uid, node, settling(is_refused=True) if role == "flair" else None)
        (job,) = flow.plan(arrive(more[-1:], node), node, settling(caution="", held=4))
        assert job.spec.lack is None
        assert follow_all(node) == []


def test_what_results_say_of_a_series_is_part_of_what_the_work_is(study, tmp_path):
    with opened(tmp_path / "node") as (node, _):
        keys = []
        for caution in (MISSING, ""):
            for role in ROLES[1:]:
                arrive(study[role], node)
            uids = [arrive(study[role], node) for role in ROLES]
            jobs = [job for uid in uids for job in flow.plan(uid, node, settling(caution=caution))]
            keys.append({job.spec.key for job in jobs if job.spec.lack is None})
            assert {entry.caution for job in jobs for entry in job.spec.inputs.values()} == {caution}
            for job in node.journal.jobs():
                if job.state == "queued":
                    node.journal.cancel(job.id, node.clock())
            for uid in uids:
                node.journal.forget(uid)
        assert keys[0].isdisjoint(keys[1])


def test_what_was_decided_of_other_instances_is_not_done(study, tmp_path):
    with opened(tmp_path / "node") as (node, _):
        uid = arrive(study["t1"], node)
        assert flow.plan(uid, node, settling(held=2)) == []
        assert [one.series_uid for one in node.journal.arriving()] == [uid], "it is decided anew"
        assert node.journal.settlings(uid) == []
