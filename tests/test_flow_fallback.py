"""What a destination does not take goes there as what can stand in for it, and all that refers to it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    BasicTextSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SegmentationStorage,
)

from node import flow
from node.config import Config, DimseDestination, profiles_of
from node.flow import Node
from node.job import JobState
from node.journal import Journal
from node.profile import LABELMAP_CLASS
from tests import toy_node
from tests.encode.judges import dcmqi_decode
from tests.encode.labelmaps import LABELMAPS, a_case, copied, encoded
from tests.harness import wait_until
from tests.journal_makers import NOON, a_job
from tests.orthanc import Orthanc, missing
from tests.peers import RecordingPacs, RejectingPacs
from tests.phantoms import to_world
from tests.storescp import Storescp
from tests.toy_node import RESULTS_PER_JOB, received, small_ct
from tests.toy_node import send as send_ct

pytestmark = pytest.mark.long

REPORTS = (ComprehensiveSRStorage, EnhancedSRStorage)
KNOWS_LABELMAPS = (LABELMAP_CLASS, SegmentationStorage, *REPORTS)
KNOWS_NONE = (SegmentationStorage, *REPORTS)


@pytest.fixture(scope="module")
def encoded_once(tmp_path_factory):
    """A case, and the objects of a job on it whose segmentation is a label map."""
    folder = tmp_path_factory.mktemp("encoded")
    case = a_case(folder, "single")
    return case, encoded(case, folder / "out", LABELMAPS)


class Bench:
    """A node without doors and workers: one job with results, to be delivered to real peers."""

    def __init__(self, data: Path, outcome, peers) -> None:
        self.now = NOON
        self.journal = Journal.open(data)
        self.node = Node(
            config=config_for(data, peers),
            journal=self.journal,
            store=None,
            staging=None,
            engine=None,
            cards={},
            rules=(),
            clock=lambda: self.now,
        )
        job = a_job(self.journal, send_to=tuple(peers))
        objects = copied(outcome.objects, data / "results" / "1-1")
        self.journal.save_results(
            self.journal.claim(NOON),
            flow.replace(outcome, objects=objects),
            NOON,
            dict.fromkeys(peers, LABELMAPS),
        )
        self.job_id, self.objects = job.id, objects

    def deliver(self) -> JobState:
        """Try once whatever is due by tomorrow."""
        self.now += timedelta(days=1)
        for owed in self.journal.due(self.now):
            flow.deliver(owed, self.node)
        return self.journal.job(self.job_id).state

    def sent_as(self, destination: str = "archive") -> list[str]:
        """Return what each receipt says that its object went as, in the order of the objects."""
        told = {
            r.sop_instance_uid: r for r in self.journal.receipts(self.job_id) if r.destination == destination
        }
        return [told[o.sop_instance_uid].sent_as for o in self.objects if o.sop_instance_uid in told]


def config_for(data: Path, peers) -> Config:
    places = {
        name: DimseDestination(
            transport="dimse",
            ae_title=p.ae_title,
            host=p.host,
            port=p.port,
            timeout_s=10,
            segmentation="labelmap",
        )
        for name, p in peers.items()
    }
    return Config(node={"data": data}, destinations=places)


@pytest.fixture
def bench(tmp_path, encoded_once):
    made = []

    def _bench(**peers) -> Bench:
        made.append(Bench(tmp_path / f"data{len(made)}", encoded_once[1], peers))
        return made[-1]

    yield _bench
    for one in made:
        one.journal.close()


def test_a_destination_without_label_maps_gets_a_binary_one_and_reports_that_refer_to_it(bench):
    with RecordingPacs(sop_classes=KNOWS_NONE) as pacs:
        one = bench(archive=pacs)
        assert one.deliver() is JobState.DONE
        assert [r.sop_class_uid for r in pacs.received] == list(KNOWS_NONE)
    assert one.sent_as() == pacs.uids
    for thing in one.objects:
        for request in pacs.received:
            assert thing.sop_instance_uid.encode() not in request.data
    for report in pacs.received[1:]:
        assert pacs.uids[0].encode() in report.data
    sentences = [r.sentence for r in one.journal.receipts(one.job_id)]
    assert any("takes no Label Map Segmentation Storage" in s for s in sentences)
    assert all("Sent as" in s for s in sentences)
    (taken,) = one.journal.to_reject(one.job_id).values()
    assert [t.sop_instance_uid for t in taken] == pacs.uids


def test_what_a_destination_takes_is_known_for_the_next_job(bench):
    with RecordingPacs(sop_classes=KNOWS_NONE) as old, RecordingPacs(sop_classes=KNOWS_LABELMAPS) as new:
        one = bench(old=old, new=new)
        assert one.deliver() is JobState.DONE
        assert one.sent_as("new") == ["", "", ""], "nothing stands in for what is taken"
        assert new.uids == [o.sop_instance_uid for o in one.objects]
    takes = one.journal.takes
    assert [takes("old", LABELMAP_CLASS), takes("new", LABELMAP_CLASS)] == [False, True]
    chosen = profiles_of(["old", "new"], one.node.config.destinations, takes)
    assert {name: p.labelmap for name, p in chosen.items()} == {"old": "never", "new": "always"}


@pytest.mark.parametrize("meanwhile", [KNOWS_NONE, KNOWS_LABELMAPS])
def test_a_crash_after_the_stand_in_goes_on_with_reports_that_refer_to_it(
    bench, tmp_path, monkeypatch, meanwhile
):
    """Whatever the destination has learned between."""
    with RecordingPacs(sop_classes=KNOWS_NONE) as pacs:
        whole = bench(archive=pacs)
        whole.deliver()
        expected = list(pacs.received)
    (tmp_path / "once").mkdir()
    monkeypatch.setenv("RADNODE_FAILPOINTS", "send.receipted=raise")
    monkeypatch.setenv("RADNODE_FAILPOINTS_ONCE", str(tmp_path / "once"))
    with RecordingPacs(sop_classes=KNOWS_NONE) as pacs:
        one = bench(archive=pacs)
        assert one.deliver() is JobState.SENDING
        assert pacs.received == expected[:1], "what is partly delivered is not done"
        assert one.journal.status()["deliveries"]["pending"] == 2
        port = pacs.port
    with RecordingPacs(sop_classes=meanwhile, port=port) as pacs:
        assert one.deliver() is JobState.DONE
        assert pacs.received == expected[1:]
    assert one.sent_as() == [r.sop_instance_uid for r in expected]


def test_a_crash_between_answer_and_receipt_sends_the_same_stand_in_again(bench, tmp_path, monkeypatch):
    (tmp_path / "once").mkdir()
    monkeypatch.setenv("RADNODE_FAILPOINTS", "send.answered=raise")
    monkeypatch.setenv("RADNODE_FAILPOINTS_ONCE", str(tmp_path / "once"))
    with RecordingPacs(sop_classes=KNOWS_NONE) as pacs:
        one = bench(archive=pacs)
        one.deliver()
        assert one.deliver() is JobState.DONE
        assert pacs.received[0] == pacs.received[1]
        assert len(pacs.received) == len(one.objects) + 1


def test_a_destination_without_comprehensive_sr_gets_enhanced(bench):
    with RecordingPacs(sop_classes=(LABELMAP_CLASS, EnhancedSRStorage)) as pacs:
        one = bench(archive=pacs)
        assert one.deliver() is JobState.DONE
        assert [r.sop_class_uid for r in pacs.received] == [
            LABELMAP_CLASS,
            EnhancedSRStorage,
            EnhancedSRStorage,
        ]
    seg, measurements, text = one.sent_as()
    assert seg == "", "nothing refers from the segmentation to the report"
    assert measurements
    assert text, "the root report refers to the measurements"
    assert measurements.encode() in pacs.received[2].data


def test_where_nothing_can_stand_in_the_job_fails_and_says_what_could_be_set(bench):
    with RecordingPacs(sop_classes=(LABELMAP_CLASS, BasicTextSRStorage)) as pacs:
        one = bench(archive=pacs)
        assert one.deliver() is JobState.FAILED
        assert [r.sop_class_uid for r in pacs.received] == [LABELMAP_CLASS], "what can go has gone"
    job = one.journal.job(one.job_id)
    assert job.reason_code == "peer-refused"
    assert "takes no Comprehensive SR Storage" in job.reason
    assert "[destinations.archive]" in job.reason
    deliveries = one.journal.status()["deliveries"]
    assert (deliveries["delivered"], deliveries["parked"]) == (1, 2)


def test_a_destination_that_rejects_us_teaches_nothing(bench):
    with RejectingPacs(1, 1, 3) as pacs:
        one = bench(archive=pacs)
        assert one.deliver() is JobState.FAILED
    assert one.journal.takes("archive", LABELMAP_CLASS) is None


def test_stand_ins_lie_beside_the_results_and_go_with_them(bench):
    with RecordingPacs(sop_classes=KNOWS_NONE) as pacs:
        one = bench(archive=pacs)
        one.deliver()
    folder = one.objects[0].path.parent
    assert {path.name for path in folder.iterdir()} == {
        *(o.path.name for o in one.objects),
        *(f"{uid}.dcm" for uid in pacs.uids),
    }
    paths = one.journal.forget("1.2.3")
    assert {p.parent for p in paths if p.parent.parent.name == "results"} == {folder}


def test_the_node_loads_no_encoder_until_something_must_stand_in():
    heavy = ("node.encode", "skimage", "scipy")
    code = f"import sys, node.serve, node.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- real programs ----


@contextmanager
def storescp(folder: Path, classes):
    """DCMTK's receiver with a profile of these SOP Classes."""
    profile = folder / "storescp.cfg"
    contexts = "\n".join(f"PresentationContext{n} = {uid}\\Any" for n, uid in enumerate(classes, start=1))
    profile.write_text(
        "[[TransferSyntaxes]]\n[Any]\nTransferSyntax1 = LocalEndianExplicit\n"
        "TransferSyntax2 = LittleEndianImplicit\nTransferSyntax3 = RLELossless\n"
        f"[[PresentationContexts]]\n[Ours]\n{contexts}\n[[Profiles]]\n[Some]\nPresentationContexts = Ours\n"
    )
    with Storescp(folder / "shelf", "-xf", profile, "Some") as scp:
        yield Place(scp.port), scp


class Place:
    ae_title, host = "ARCHIVE", "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.port = port


def test_dcmqi_reads_each_voxel_of_what_dcmtk_received_in_place_of_a_label_map(bench, encoded_once, tmp_path):
    (volume, masks, _), _ = encoded_once
    with storescp(tmp_path, KNOWS_NONE) as (place, scp):
        one = bench(archive=place)
        assert one.deliver() is JobState.DONE
    files = {pydicom.dcmread(path).SOPClassUID: path for path in scp.stored()}
    assert set(files) == set(KNOWS_NONE)
    (decoded,) = dcmqi_decode(files[SegmentationStorage], tmp_path / "dcmqi")
    for number, mask in enumerate(masks, start=1):
        there, here = (
            {tuple(np.round(p, 2) + 0.0) for p in to_world(affine, np.argwhere(where))}
            for where, affine in ((decoded.labels == number, decoded.affine), (mask, volume.image.affine))
        )
        assert there == here


def test_dcmtk_with_label_maps_gets_them(bench, tmp_path):
    with storescp(tmp_path, KNOWS_LABELMAPS[:1] + REPORTS) as (place, scp):
        one = bench(archive=place)
        assert one.deliver() is JobState.DONE
    assert {pydicom.dcmread(p).SOPInstanceUID for p in scp.stored()} == {
        o.sop_instance_uid for o in one.objects
    }


@pytest.mark.skipif(missing() is not None, reason=f"needs the Debian package {missing()}")
def test_orthanc_refuses_label_maps_and_stores_what_stands_in(bench, tmp_path):
    with Orthanc(tmp_path) as orthanc:
        one = bench(archive=Place(orthanc.dicom_port))
        assert one.deliver() is JobState.DONE
        assert one.journal.takes("archive", LABELMAP_CLASS) is False
        assert one.journal.takes("archive", SegmentationStorage) is True
        assert {str(held.SOPInstanceUID) for held in orthanc.held()} == set(one.sent_as())


# ---- the whole node ----

#: Twenty segments beside each other: a label map is smaller than twenty planes of bits.
SEGMENTS = "".join(
    f"""
[[segments]]
number = {number}
label = "Bright thing {number}"
category = {{ value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }}
kind = {{ value = "85756007", scheme = "SCT", meaning = "Tissue" }}
"""
    for number in range(1, 21)
)
CODE = toy_node.CODE.replace(
    "labelmap = (image.array > 200).astype(np.uint8)",
    "labelmap = np.zeros(image.array.shape, np.uint8)\n"
    "        where = np.nonzero(image.array > 200)\n"
    "        labelmap[where] = 1 + (where[1] + where[2]) % 20",
).replace("float(labelmap.sum())", "float((labelmap == 1).sum())")


def many_segments(folder: Path, port: int, monkeypatch, **more):
    """Return a node whose pipeline finds twenty segments."""
    card = toy_node.CARD.partition("[[segments]]")[0] + SEGMENTS
    monkeypatch.setattr(toy_node, "CARD", card)
    monkeypatch.setattr(toy_node, "CODE", CODE)
    return toy_node.make_node(folder, port, **more)


def classes(pacs) -> list[str]:
    return [r.sop_class_uid for r in pacs.received]


def test_the_first_job_goes_as_binary_the_second_as_label_map_and_back_when_that_ends(tmp_path, monkeypatch):
    with RecordingPacs(sop_classes=KNOWS_LABELMAPS) as pacs:
        port = pacs.port
        node = many_segments(tmp_path / "node", port, monkeypatch)
        node.start()
        for number, expected in enumerate((SegmentationStorage, LABELMAP_CLASS)):
            send_ct(small_ct(tmp_path / f"ct{number}", seed=str(number)), node.port)
            status = node.wait_idle()
            assert status["jobs"]["done"] == number + 1, status["failed"][0]["reason"]
            assert classes(pacs)[number * RESULTS_PER_JOB] == expected
    with RecordingPacs(sop_classes=KNOWS_NONE, port=port) as pacs:
        try:
            send_ct(small_ct(tmp_path / "ct2", seed="2"), node.port)
            wait_until(lambda: node.status()["jobs"]["done"] == 3, "the third job is done")
        finally:
            assert node.stop() == 0
        assert classes(pacs) == list(KNOWS_NONE)
        seg = toy_node.read(pacs.received[0].data)
        assert (seg.SegmentationType, len(seg.SegmentSequence)) == ("BINARY", 20)
        assert pacs.uids[0].encode() in pacs.received[1].data


@pytest.mark.faults
def test_killed_between_stand_in_and_report_the_next_start_sends_the_report_that_refers_to_it(
    tmp_path, monkeypatch
):
    with RecordingPacs(sop_classes=KNOWS_NONE) as pacs:
        node = many_segments(tmp_path / "node", pacs.port, monkeypatch)
        text = node.config.read_text()
        node.config.write_text(text.replace("timeout_s = 10", 'timeout_s = 10\nsegmentation = "labelmap"'))
        node.start(env={"RADNODE_FAILPOINTS": "send.receipted=kill"})
        send_ct(small_ct(tmp_path / "ct"), node.port)
        node.wait_dead()
        (seg,) = pacs.uids
        node.start()
        assert node.wait_idle()["jobs"]["done"] == 1
        assert node.stop() == 0
        assert pacs.uids[0] == seg
        assert classes(pacs) == list(KNOWS_NONE)
        assert len(received(pacs)) == RESULTS_PER_JOB
        assert seg.encode() in pacs.received[1].data
