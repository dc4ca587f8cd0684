"""Results arrive in real archives by STOW-RS, as they are; what cannot go as it is goes as its stand-in."""

from __future__ import annotations

import pytest
from pydicom.uid import SegmentationStorage

from node import flow
from node.job import JobState
from node.profile import LABELMAP_CLASS
from tests import orthanc
from tests.encode.labelmaps import LABELMAPS, a_case, copied, encoded
from tests.journal_makers import a_job
from tests.proof_bench import Bench
from tests.web_peers import Says, WebPeer, all_stored, store_answer

needs_orthanc = pytest.mark.skipif(
    orthanc.missing() is not None, reason=f"needs the Debian package {orthanc.missing()}"
)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """The results of a job whose segmentation is a label map, in RLE."""
    folder = tmp_path_factory.mktemp("encoded")
    return encoded(a_case(folder, "single"), folder / "out", LABELMAPS)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc.Orthanc(tmp_path_factory.mktemp("orthanc")) as one:
        yield one


@pytest.fixture
def bench(tmp_path):
    made = []

    def _bench(url, **keys):
        destination = {"transport": "stow", "url": url, "timeout_s": 10.0, "segmentation": "labelmap", **keys}
        made.append(Bench(tmp_path / f"data{len(made)}", {"cloud": destination}))
        return made[-1]

    yield _bench
    for one in made:
        one.journal.close()


def owed(one, outcome):
    """Return a job that is sending real results, and these."""
    job = a_job(one.journal, send_to=("cloud",), at=one.now)
    objects = copied(outcome.objects, one.folder / "results" / str(job.id))
    results = flow.replace(outcome, objects=objects)
    one.journal.save_results(one.journal.claim(one.now), results, one.now, {"cloud": LABELMAPS})
    return job, objects


@needs_orthanc
def test_orthanc_has_what_was_sent_to_it(bench, archive, outcome):
    one = bench(f"http://127.0.0.1:{archive.port}/dicom-web")
    job, objects = owed(one, outcome)
    one.deliver()
    assert one.state(job) is JobState.DONE
    assert all(archive.holds(thing.path) for thing in objects)
    assert [receipt.status for receipt in one.journal.receipts(job.id)] == [0] * len(objects)


@needs_orthanc
def test_what_is_sent_again_after_its_answer_was_lost_is_there_once(
    bench, archive, outcome, tmp_path, monkeypatch
):
    (tmp_path / "once").mkdir()
    monkeypatch.setenv("RADNODE_FAILPOINTS", "send.answered=raise")
    monkeypatch.setenv("RADNODE_FAILPOINTS_ONCE", str(tmp_path / "once"))
    one = bench(f"http://127.0.0.1:{archive.port}/dicom-web")
    job, objects = owed(one, outcome)
    one.deliver()
    assert one.state(job) is JobState.SENDING
    assert one.journal.receipts(job.id) == ()
    one.after(60)
    assert one.state(job) is JobState.DONE
    assert all(archive.holds(thing.path) for thing in objects)


@needs_orthanc
def test_where_orthanc_has_no_dicomweb_it_is_told(bench, archive, outcome):
    one = bench(f"http://127.0.0.1:{archive.port}/wrong")
    job, _ = owed(one, outcome)
    one.deliver()
    assert one.state(job) is JobState.FAILED
    assert "stores nothing (status 404); is url its DICOMweb service?" in one.reason(job)


def knows_no_label_maps(_number, asked):
    """Answer as an archive does that is older than label maps."""
    new = {str(p.SOPInstanceUID): 0x0122 for p in asked.parts if p.SOPClassUID == LABELMAP_CLASS}
    old = {uid: 0 for uid in asked.uids if uid not in new}
    return Says((202 if old else 409) if new else 200, store_answer(old, new))


def test_who_knows_no_label_maps_gets_a_binary_one_and_reports_that_refer_to_it(bench, outcome):
    with WebPeer(knows_no_label_maps) as peer:
        one = bench(peer.url)
        job, objects = owed(one, outcome)
        one.deliver()
        assert one.state(job) is JobState.DONE
        label_map, binary, *reports = [part for asked in peer.asked for part in asked.parts]
    assert (label_map.SOPClassUID, binary.SOPClassUID) == (LABELMAP_CLASS, SegmentationStorage)
    receipts = {receipt.sop_instance_uid: receipt for receipt in one.journal.receipts(job.id)}
    assert [receipts[thing.sop_instance_uid].sent_as for thing in objects] == [
        binary.SOPInstanceUID,
        *(report.SOPInstanceUID for report in reports),
    ]
    assert "takes no Label Map Segmentation Storage" in receipts[label_map.SOPInstanceUID].sentence
    for report in reports:
        assert binary.SOPInstanceUID in str(report)
        assert label_map.SOPInstanceUID not in str(report)
    takes = one.journal.takes
    assert (takes("cloud", LABELMAP_CLASS), takes("cloud", SegmentationStorage)) == (False, True)
    (taken,) = one.journal.to_reject(job.id).values()
    assert {thing.sop_instance_uid for thing in taken} == {receipt.sent_as for receipt in receipts.values()}


def test_a_crash_after_the_stand_in_goes_on_with_reports_that_refer_to_it(
    bench, outcome, tmp_path, monkeypatch
):
    (tmp_path / "once").mkdir()
    monkeypatch.setenv("RADNODE_FAILPOINTS", "send.receipted=raise")
    monkeypatch.setenv("RADNODE_FAILPOINTS_ONCE", str(tmp_path / "once"))
    with WebPeer(knows_no_label_maps) as peer:
        one = bench(peer.url)
        job, _ = owed(one, outcome)
        one.deliver()
        assert one.state(job) is JobState.SENDING
        assert len(one.journal.receipts(job.id)) == 1
        one.after(60)
        assert one.state(job) is JobState.DONE
        _, binary, *reports = [part for asked in peer.asked for part in asked.parts]
    assert reports
    assert all(binary.SOPInstanceUID in str(report) for report in reports)


def test_nobody_in_place_of_what_is_refused_leaves_the_rest_delivered(bench, outcome):
    """N-12: what was taken and what was refused can both be seen."""

    def answer(number, asked):
        reports = {
            uid: 0xC000
            for uid, part in zip(asked.uids, asked.parts, strict=True)
            if "ContentSequence" in part
        }
        return Says(409, store_answer(failed=reports)) if reports else all_stored(number, asked)

    with WebPeer(answer) as peer:
        one = bench(peer.url)
        job, objects = owed(one, outcome)
        one.deliver()
    assert one.state(job) is JobState.FAILED
    assert [receipt.sop_instance_uid for receipt in one.journal.receipts(job.id)] == [
        thing.sop_instance_uid for thing in objects if thing.kind == "seg"
    ]
    assert "it cannot understand the data set (failure reason C000)" in one.reason(job)
    deliveries = one.journal.status()["deliveries"]
    assert (deliveries["delivered"], deliveries["parked"]) == (1, 2)
