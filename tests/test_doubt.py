"""What may have arrived is rejected; what was taken back is not sent; a rejection can always be ended."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from node import flow
from node.encode.rejection import KEY_OBJECT_SELECTION_CLASS
from node.errors import IllegalTransition, JournalUnavailable
from node.job import JobState, Withdrawal
from node.loops import _sender
from node.withdraw import withdraw
from tests.peers import RecordingPacs
from tests.test_flow_fallback import KNOWS_LABELMAPS, KNOWS_NONE, bench, encoded_once  # noqa: F401
from tests.toy_node import read

# ruff: noqa: F811

CLASSES = (*KNOWS_LABELMAPS, KEY_OBJECT_SELECTION_CLASS)


class Swallows(RecordingPacs):
    """Stores what it gets, and cuts the association instead of answering."""

    cuts = True

    def answer(self, event, number, request):
        if self.cuts:
            event.assoc.abort()
        return super().answer(event, number, request)


def take_back(one, **more):
    return withdraw(one.job_id, Withdrawal.SAFETY, one.journal, one.node.config, lambda: one.now, **more)


def rejected(pacs) -> list[set[str]]:
    """Return what each note that an archive has rejects."""
    notes = [read(r.data) for r in pacs.received if r.sop_class_uid == KEY_OBJECT_SELECTION_CLASS]
    return [
        {
            str(ref.ReferencedSOPInstanceUID)
            for item in note.ContentSequence
            for ref in item.get("ReferencedSOPSequence", ())
        }
        for note in notes
    ]


@pytest.mark.parametrize("classes", [KNOWS_LABELMAPS, KNOWS_NONE], ids=["as it is", "as another kind"])
def test_what_was_stored_without_an_answer_is_rejected(bench, classes):
    with Swallows(sop_classes=(*classes, KEY_OBJECT_SELECTION_CLASS)) as pacs:
        one = bench(archive=pacs)
        assert one.deliver() is JobState.SENDING
        assert one.journal.receipts(one.job_id) == ()
        (stored,) = pacs.uids
        assert "a rejection goes to archive" in take_back(one).reason
        pacs.cuts = False
        assert one.deliver() is JobState.DONE
    (told,) = rejected(pacs)
    assert stored in told
    assert pacs.uids[1:] == [one.journal.results(one.job_id)[-1].sop_instance_uid]


def test_what_arrived_as_one_kind_and_then_as_another_is_rejected_as_both(bench):
    with Swallows(sop_classes=CLASSES) as pacs:
        one = bench(archive=pacs)
        one.deliver()
        before, port = pacs.uids, pacs.port
    with RecordingPacs(sop_classes=(*KNOWS_NONE, KEY_OBJECT_SELECTION_CLASS), port=port) as pacs:
        assert one.deliver() is JobState.DONE
        sent = pacs.uids
        take_back(one)
        assert one.deliver() is JobState.DONE
    (told,) = rejected(pacs)
    assert told >= {*before, *sent}


@pytest.mark.parametrize("status", [0xA700, 0x0122], ids=["busy", "refused"])
def test_what_was_answered_with_no_is_not_rejected(bench, status):
    with RecordingPacs(sop_classes=CLASSES, status=status) as pacs:
        one = bench(archive=pacs)
        one.deliver()
        assert one.journal.to_reject(one.job_id) == {}
        assert take_back(one).reason == "Withdrawn (safety); nothing is sent."
        tried = list(pacs.uids)
        one.deliver()
        assert pacs.uids == tried


def test_a_doubt_outlives_an_answer_that_says_no(bench):
    with Swallows(sop_classes=CLASSES) as pacs:
        one = bench(archive=pacs)
        one.deliver()
        pacs.cuts, pacs._status = False, lambda _number, _request: 0xA700
        one.deliver()
    (told,) = one.journal.to_reject(one.job_id).values()
    assert pacs.uids[0] in {thing.sop_instance_uid for thing in told}


def test_a_note_whose_file_is_gone_is_written_anew(bench):
    with RecordingPacs(sop_classes=CLASSES) as pacs:
        one = bench(archive=pacs)
        one.deliver()
        sent = set(pacs.uids)
        take_back(one)
        with pytest.raises(IllegalTransition, match="withdrawn already"):  # it is being sent
            take_back(one)
        one.journal.results(one.job_id)[-1].path.unlink()
        assert one.deliver() is JobState.FAILED
        one.now += timedelta(seconds=1)
        assert take_back(one).state is JobState.SENDING
        assert one.deliver() is JobState.DONE
    assert rejected(pacs) == [sent]


def test_a_rejection_that_cannot_be_delivered_can_be_given_up_and_asked_for_again(bench):
    with RecordingPacs(sop_classes=KNOWS_LABELMAPS) as pacs:
        one = bench(archive=pacs)
        one.deliver()
        take_back(one)
        with pytest.raises(IllegalTransition, match="its rejection is owed"):
            one.journal.cancel(one.job_id, one.now)
        assert one.deliver() is JobState.FAILED
        ended = one.journal.cancel(one.job_id, one.now)
        assert (ended.state, ended.reason_code) == (JobState.CANCELLED, "rejection-given-up")
        assert ended.reason == "Rejection given up by an operator; tell the archive by hand."
        assert one.deliver() is JobState.CANCELLED
        one.now += timedelta(seconds=1)
        assert take_back(one).state is JobState.SENDING


def test_it_is_said_at_once_that_a_destination_takes_no_rejection(bench):
    with RecordingPacs(sop_classes=KNOWS_LABELMAPS) as old, RecordingPacs(sop_classes=CLASSES) as new:
        one = bench(old=old, new=new)
        one.deliver()
        told: list[str] = []
        take_back(one, tell=told.append)
    assert told == [
        "old was seen not to take rejection notes; have it take Key Object Selection, or delete the "
        "results there by hand."
    ]


@pytest.mark.parametrize("ended_by", ["withdraw", "cancel"])
def test_what_waits_behind_a_slow_delivery_is_not_sent_when_it_was_taken_back_meanwhile(bench, ended_by):
    with RecordingPacs(sop_classes=CLASSES) as pacs:
        one = bench(archive=pacs)
        one.now += timedelta(days=1)
        due = one.journal.due(one.now)
        if ended_by == "withdraw":
            assert take_back(one).state is JobState.DONE
        else:
            one.journal.cancel(one.job_id, one.now)
        before = one.journal.job(one.job_id)
        one.node.journal.due = lambda *_, **__: due
        assert _sender(one.node, "archive", threading.Event())()
        assert pacs.received == []
        assert one.journal.job(one.job_id) == before


def test_a_folder_is_written_what_is_still_owed_alone(bench, tmp_path):
    with RecordingPacs(sop_classes=CLASSES) as pacs:
        one = bench(archive=pacs)
        place = {"transport": "folder", "path": tmp_path / "shelf"}
        one.node = flow.replace(one.node, config=type(one.node.config)(destinations={"archive": place}))
        (owed,) = one.journal.due(one.now)
        one.journal.cancel(one.job_id, one.now)
        flow.deliver(owed, one.node)
        assert list((tmp_path / "shelf").iterdir()) == []


def test_a_stand_in_that_changed_on_disk_is_not_sent(bench):
    with Swallows(sop_classes=(*KNOWS_NONE, KEY_OBJECT_SELECTION_CLASS)) as pacs:
        one = bench(archive=pacs)
        one.deliver()
        file = one.objects[0].path.with_name(f"{pacs.uids[0]}.dcm")
        raw = bytearray(file.read_bytes())
        raw[-50] ^= 0xFF
        file.write_bytes(raw)
        pacs.cuts = False
        assert one.deliver() is JobState.FAILED
        assert len(pacs.received) == 1
    assert "changed on disk" in one.journal.job(one.job_id).reason


def test_notes_that_the_journal_did_not_take_are_not_left(bench, monkeypatch):
    with RecordingPacs(sop_classes=CLASSES) as pacs:
        one = bench(archive=pacs)
        one.deliver()
        folder = one.objects[0].path.parent
        before = set(folder.iterdir())

        def locked(*_, **__):
            raise JournalUnavailable

        monkeypatch.setattr(one.journal, "withdraw", locked)
        with pytest.raises(JournalUnavailable):
            take_back(one)
    assert set(folder.iterdir()) == before
