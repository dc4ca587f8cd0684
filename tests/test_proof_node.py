"""A running node and an archive that reports over an association of its own; killed in between."""

from __future__ import annotations

import pytest

from tests import toy_node
from tests.committing import CommittingPacs, calling, report_of, say
from tests.harness import wait_until
from tests.toy_node import RESULTS_PER_JOB, send, small_ct

pytestmark = pytest.mark.long

COMMITMENT = {"RADNODE_DESTINATIONS__ARCHIVE__PROOF": "commitment"}


@pytest.fixture
def archive():
    with CommittingPacs() as peer:
        peer.how.over = "never"
        yield peer


def test_a_report_that_comes_after_a_kill_and_a_restart_finishes_the_job(archive, tmp_path):
    node = toy_node.make_node(tmp_path / "node", archive.port)
    node.start(env=COMMITMENT)
    try:
        send(small_ct(tmp_path / "ct"), node.port)
        asked = archive.wait_asked(1)
        node.kill()
        assert len(asked.references) == RESULTS_PER_JOB
        assert asked.caller == "RADNODE"
        node.start(env=COMMITMENT)
        archive.how.node_port = node.port
        assert node.status()["jobs"]["sending"] == 1

        # What nobody asked, what somebody else says, and what is no report, changes nothing.
        foreign = {"transaction_uid": "2.25.1", "committed": {}, "failed": {}}
        assert archive.report(asked, **foreign) == 0x0000
        lost = dict.fromkeys(asked.references, 0x0112)
        assert archive.report(asked, ae_title="MALLORY", committed={}, failed=lost) == 0x0000
        with calling(node.port, "ARCHIVE") as association:
            nonsense = report_of("no uid", asked.references, {}, {})
            assert say(association, nonsense, 1) == 0x0115
            assert say(association, report_of(asked.transaction_uid, {}, {}, {}), 7) == 0x0113
        (told,) = node.status()["destinations"]
        assert (told["owed"], told["unproved"], told["proved"]) == (0, RESULTS_PER_JOB, 0)
        assert "no answer yet" in told["why"]

        # Without role selection, as some archives report (PS3.7 D.3.3.4).
        assert archive.report(asked, role=False) == 0x0000
        wait_until(lambda: node.status()["jobs"]["done"] == 1, "the job is done")
        assert archive.report(asked) == 0x0000, "once more, as some archives do"
        (told,) = node.status()["destinations"]
        assert (told["unproved"], told["proved"]) == (0, RESULTS_PER_JOB)
        assert len(archive.received) == RESULTS_PER_JOB, "nothing was sent twice"
        assert node.stop() == 0
    finally:
        node.kill()
