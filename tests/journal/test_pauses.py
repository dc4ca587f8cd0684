from __future__ import annotations

import pytest

from node.errors import NodeError
from node.journal import Journal, Pause
from tests.journal.test_proofs import a_taken
from tests.journal_makers import NOON, a_job, after, an_outcome


@pytest.fixture
def sending(journal):
    job = a_job(journal, send_to=("archive", "research"))
    return journal.save_results(journal.claim(NOON), an_outcome(job.id), NOON)


def test_what_a_paused_destination_is_owed_waits_and_the_others_do_not(journal, sending):
    journal.pause("archive", "It moves house.", NOON)
    assert [owed.destination for owed in journal.due(NOON)] == ["research"]
    assert journal.due(NOON, "archive") == []
    assert journal.finish(sending.id, NOON) is None
    journal.resume("archive", after(1))
    assert [owed.destination for owed in journal.due(after(1))] == ["archive", "research"]


def test_a_pause_is_known_after_a_restart_and_can_be_told(journal, sending, tmp_path):
    journal.pause("archive", "It moves house.", NOON)
    journal.close()
    other = Journal.open(tmp_path)
    assert other.paused() == {"archive": Pause(since=NOON, reason="It moves house.")}
    told = {one["destination"]: one for one in other.status()["destinations"]}
    assert (told["archive"]["paused_since"], told["archive"]["pause"]) == (
        NOON.isoformat(),
        "It moves house.",
    )
    assert told["archive"]["owed"] == 2
    assert told["research"]["paused_since"] is None
    other.close()


def test_to_pause_again_keeps_the_time_and_takes_the_new_reason(journal):
    journal.pause("archive", "One.", NOON)
    assert journal.pause("archive", "Two.", after(9)) == Pause(since=NOON, reason="Two.")
    assert journal.paused() == {"archive": Pause(since=NOON, reason="Two.")}


def test_a_destination_that_is_not_paused_cannot_be_resumed(journal):
    with pytest.raises(NodeError, match="'archive' is not paused"):
        journal.resume("archive", NOON)


def test_what_waited_for_its_next_try_is_due_when_the_destination_is_resumed(journal, sending):
    journal.postpone(sending.id, "archive", code="peer-busy", reason="Full.", not_before=after(900))
    journal.park(sending.id, "research", code="peer-refused", reason="No.")
    for place in ("archive", "research"):
        journal.pause(place, "", NOON)
        journal.resume(place, after(1))
    (owed,) = journal.due(after(1))
    assert (owed.destination, owed.tries) == ("archive", 1), "what waits for a person waits on"


def test_a_paused_destination_is_not_asked_what_it_has(journal):
    a_taken(journal)
    a_taken(journal, series="1.2.4", via="second")
    journal.pause("archive", "", NOON)
    assert journal.unproved("archive", after(9), most=9) == []
    assert len(journal.unproved("second", after(9), most=9)) == 2, "it is the alternate that is asked"
    journal.pause("second", "", NOON)
    assert journal.unproved("second", after(9), most=9) == []
