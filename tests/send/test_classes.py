"""What a peer takes is asked in every association, and what it does not take goes as something else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.uid import (
    BasicTextSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from node.errors import PeerRefused, PeerUnreachable
from node.model import StandIn
from node.profile import LABELMAP_CLASS
from node.send.classes import RESULT_CLASSES, class_name, remedy, told
from node.send.dimse import MOST_CONTEXTS, _contexts
from tests.peers import ContextRefusingPacs, RecordingPacs, RefusingPacs, RejectingPacs
from tests.send.conftest import picture, report, saved


@pytest.fixture
def heard():
    """What the peer said, and a listener that lets everything go as it is."""
    said = []

    def listen(taken):
        said.append(taken)
        return {}

    return said, listen


def test_every_association_asks_for_all_our_classes(objects, deliver, heard):
    said, listen = heard
    with RecordingPacs(sop_classes=(*RESULT_CLASSES,)) as pacs:
        deliver(objects, pacs, negotiated=listen)
    assert said == [dict.fromkeys(RESULT_CLASSES, True)]


def test_a_class_that_is_refused_is_told_whether_it_is_sent_or_not(objects, deliver, heard):
    said, listen = heard
    with (
        RecordingPacs(sop_classes=[ComprehensiveSRStorage, EnhancedSRStorage]) as pacs,
        pytest.raises(PeerRefused, match="takes no Secondary Capture"),
    ):
        deliver(objects, pacs, negotiated=listen)
    (taken,) = said
    assert {uid for uid, yes in taken.items() if yes} == {ComprehensiveSRStorage, EnhancedSRStorage}
    assert set(taken) == set(RESULT_CLASSES)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_one_transfer_syntax_is_enough_for_a_class_to_be_taken(tmp_path, deliver, heard, syntax):
    said, listen = heard
    packed = picture()
    packed.compress(RLELossless, generate_instance_uid=False)
    with ContextRefusingPacs(syntaxes=[syntax]) as pacs:
        deliver([saved(packed, tmp_path)], pacs, negotiated=listen)
    assert said[0][SecondaryCaptureImageStorage] is True
    assert said[0][SegmentationStorage] is True
    assert said[0][EncapsulatedPDFStorage] is False


def test_a_syntax_that_few_know_says_nothing_of_the_class(tmp_path, deliver, heard):
    said, listen = heard
    lossy = replace(saved(picture(), tmp_path), transfer_syntax_uid=str(JPEGBaseline8Bit))
    with ContextRefusingPacs(syntaxes=[ExplicitVRLittleEndian]) as pacs, pytest.raises(PeerRefused):
        deliver([lossy], pacs, negotiated=listen)
    assert SecondaryCaptureImageStorage not in said[0]


@pytest.mark.parametrize("answer", [(1, 1, 3), (2, 3, 1)])
def test_a_rejected_association_tells_nothing(objects, deliver, heard, answer):
    said, listen = heard
    with RejectingPacs(*answer) as pacs, pytest.raises((PeerRefused, PeerUnreachable)):
        deliver(objects, pacs, negotiated=listen)
    assert said == []


def test_no_association_asks_more_than_it_can(tmp_path):
    thing = saved(picture(), tmp_path)
    many = [replace(thing, sop_class_uid=f"1.2.{n}", transfer_syntax_uid=RLELossless) for n in range(1, 60)]
    contexts = _contexts(many)
    assert len(contexts) == MOST_CONTEXTS
    few = _contexts(
        [replace(thing, sop_class_uid=uid, transfer_syntax_uid=RLELossless) for uid in RESULT_CLASSES]
    )
    assert {c.abstract_syntax for c in few} == set(RESULT_CLASSES)
    assert len(few) <= MOST_CONTEXTS


def test_what_stands_in_goes_over_an_association_of_its_own_and_the_receipt_says_so(
    objects, deliver, tmp_path
):
    sr, seg = objects
    other = saved(report("2.25.9.1"), tmp_path)
    swapped = saved(report("2.25.9.2"), tmp_path, refers_to=(other.sop_instance_uid,))
    replaced = {
        seg.sop_instance_uid: StandIn(thing=other, sentence="As a report."),
        sr.sop_instance_uid: StandIn(thing=swapped, sentence="It refers to it."),
    }
    with RecordingPacs(sop_classes=[ComprehensiveSRStorage]) as pacs:
        receipts = deliver(objects, pacs, negotiated=lambda _: replaced)
        assert pacs.associations == 2
        assert pacs.uids == ["2.25.9.1", "2.25.9.2"]
    assert [(r.sop_instance_uid, r.sent_as, r.sentence) for r in receipts] == [
        (seg.sop_instance_uid, "2.25.9.1", "As a report."),
        (sr.sop_instance_uid, "2.25.9.2", "It refers to it."),
    ]


def test_a_stand_in_that_is_stored_with_a_warning_tells_both(objects, deliver, tmp_path):
    sr, seg = objects
    replaced = {
        seg.sop_instance_uid: StandIn(thing=saved(report("2.25.9.1"), tmp_path), sentence="As a report.")
    }
    with RefusingPacs(0xB000) as pacs:
        first, second = deliver(objects, pacs, negotiated=lambda _: replaced)
    assert first.sentence.startswith("As a report. archive stored it, but")
    assert (second.sop_instance_uid, second.sent_as) == (sr.sop_instance_uid, "")


def test_where_nothing_can_stand_in_that_is_said_and_what_refers_to_it_stays(objects, deliver, tmp_path):
    sr, seg = objects
    alone = saved(report("2.25.8.1"), tmp_path)
    replaced = {seg.sop_instance_uid: StandIn(thing=None, sentence="It takes no pictures.")}
    so_far = []
    with RecordingPacs() as pacs, pytest.raises(PeerRefused, match=r"It takes no pictures\..* And 1 more"):
        deliver([sr, seg, alone], pacs, negotiated=lambda _: replaced, so_far=so_far)
    assert [r.sop_instance_uid for r in so_far] == [alone.sop_instance_uid]


def test_the_remedy_names_the_key_that_could_be_set(objects):
    sr, seg = objects
    assert 'segmentation = "binary" in [destinations.pacs]' in remedy(replace(seg, kind="seg"), "pacs")
    assert '"pdf" out of also' in remedy(replace(seg, kind="pdf"), "pacs")
    assert "another report" in remedy(sr, "pacs")
    assert remedy(replace(sr, kind="rejection-note"), "pacs") == "Have it store Comprehensive SR Storage."


def test_classes_have_names_for_people():
    assert class_name(LABELMAP_CLASS) == "Label Map Segmentation Storage"
    assert told({SegmentationStorage: True, LABELMAP_CLASS: False, BasicTextSRStorage: True}) == (
        "takes segmentation, Basic Text SR; not label map"
    )
    assert told({}) == ""
