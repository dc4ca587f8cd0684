"""Stand-ins, judged by dcmqi, DCMTK, dicom3tools, highdicom and our own linter."""

from __future__ import annotations

from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ParametricMapStorage,
    SegmentationStorage,
    generate_uid,
)

from node.encode.common import save
from node.encode.fallback import LADDERS, stand_ins
from node.encode.fallback.binary import to_binary
from node.encode.fallback.references import point_at
from node.encode.items import item
from node.encode.lint import faults
from node.encode.material import NotApplicable
from node.encode.sr.tree import walk
from node.profile import EXTRAS, LABELMAP_CLASS, Profile
from tests.encode.helpers import (
    material_of,
    single_frame_volume,
)
from tests.encode.judges import (
    dciodvfy_errors,
    dcmqi_decode,
    dsrdump,
    needs_dciodvfy,
    needs_dsrdump,
    tid1500,
)
from tests.encode.labelmaps import LABELMAPS, SHAPE, a_case, copied, encoded, things
from tests.encode.rich import rich
from tests.phantoms import make_affine, to_world

NO_LABELMAP = {LABELMAP_CLASS: False, SegmentationStorage: True}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """A case, and the objects of its job with a label map."""
    folder = tmp_path_factory.mktemp("jobs")
    case = a_case(folder, "single")
    return case, encoded(case, folder / "map", LABELMAPS).objects


@pytest.fixture
def case(jobs):
    return jobs[0]


@pytest.fixture
def made(jobs, tmp_path):
    """The objects of a job whose segmentation is a label map."""
    assert jobs[1][0].sop_class_uid == LABELMAP_CLASS
    return copied(jobs[1], tmp_path / "out")


def world_voxels(mask: np.ndarray, affine: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(np.round(p, 2) + 0.0) for p in to_world(affine, np.argwhere(mask))}


@needs_dciodvfy
@pytest.mark.parametrize("source", ["single", "reversed", "enhanced"])
def test_a_label_map_becomes_a_binary_segmentation_with_every_voxel_where_it_was(source, tmp_path):
    case = a_case(tmp_path, source)
    volume, masks, _ = case
    made = encoded(case, tmp_path / "out", LABELMAPS).objects
    (one,) = things(stand_ins(made[:1], {}, NO_LABELMAP))
    assert one.sop_class_uid == SegmentationStorage
    assert dciodvfy_errors(one.path) == []
    (decoded,) = dcmqi_decode(one.path, tmp_path / "dcmqi")
    for number, mask in enumerate(masks, start=1):
        assert world_voxels(decoded.labels == number, decoded.affine) == world_voxels(
            mask, volume.image.affine
        )
    seg = hd.seg.segread(one.path)
    assert [seg.get_segment_description(n).segment_label for n in seg.segment_numbers] == [
        "Left lung",
        "Right lung",
        "Nodule",
    ]


def test_the_linter_finds_nothing_wrong_with_what_stands_in(case, made):
    volume, _, findings = case
    found = things(stand_ins(made, {}, NO_LABELMAP))
    material = replace(material_of(volume, findings, found[:1], profile=LABELMAPS), siblings=tuple(found))
    assert list(faults(found, material)) == []


def test_the_same_object_has_one_stand_in_whenever_it_is_made(made):
    first = things(stand_ins(made, {}, NO_LABELMAP))
    written = [one.path.read_bytes() for one in first]
    times = [one.path.stat().st_mtime_ns for one in first]
    assert things(stand_ins(made, {}, NO_LABELMAP)) == first
    assert [one.path.stat().st_mtime_ns for one in first] == times, "what is there is not made again"
    for one in first:
        one.path.unlink()
    assert things(stand_ins(made, {}, NO_LABELMAP)) == first
    assert [one.path.read_bytes() for one in first] == written
    assert not list(first[0].path.parent.glob(".*")), "nothing half-written is left"
    uids = {u for o in (*made, *first) for u in (o.sop_instance_uid, o.series_uid)}
    assert len(uids) == 2 * (len(made) + len(first)), "nothing shares an instance or series with another"


@needs_dciodvfy
@needs_dsrdump
def test_reports_refer_to_what_went_in_place_of_the_label_map(made, tmp_path):
    found = stand_ins(made, {}, NO_LABELMAP)
    seg, *reports = things(found)
    assert "because it takes no Label Map Segmentation Storage" in found[made[0].sop_instance_uid].sentence
    for before, after in zip(made[1:], reports, strict=True):
        assert after.sop_class_uid == before.sop_class_uid
        assert seg.sop_instance_uid in after.refers_to
        text = after.path.read_bytes()
        for old in made:
            assert old.sop_instance_uid.encode() not in text
            assert old.series_uid.encode() not in text
        dataset = pydicom.dcmread(after.path)
        (study,) = dataset.CurrentRequestedProcedureEvidenceSequence
        listed = {
            (series.SeriesInstanceUID, one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID)
            for series in study.ReferencedSeriesSequence
            for one in series.ReferencedSOPSequence
        }
        assert (seg.series_uid, seg.sop_class_uid, seg.sop_instance_uid) in listed
        assert dciodvfy_errors(after.path) == []
        assert dsrdump(after.path)[1] == []
    before, after = (tid1500(one.path, tmp_path / "t.json") for one in (made[1], reports[0]))
    assert len(after["Measurements"]) == len(before["Measurements"]) > 0
    assert after["Measurements"][-1]["measurementItems"] == before["Measurements"][-1]["measurementItems"]
    assert after["Measurements"][-1]["segmentationSOPInstanceUID"] == seg.sop_instance_uid


def test_a_report_sent_later_refers_to_the_stand_in_that_went_before(made):
    seg, *reports = things(stand_ins(made, {}, NO_LABELMAP))
    earlier = {made[0].sop_instance_uid: seg}
    assert things(stand_ins(made[1:], earlier, NO_LABELMAP)) == reports
    # and also when the destination has learned label maps since
    assert things(stand_ins(made[1:], earlier, {LABELMAP_CLASS: True})) == reports


def test_what_a_destination_takes_goes_as_it_is(made):
    assert stand_ins(made, {}, {}) == {}
    assert stand_ins(made, {}, {LABELMAP_CLASS: True, SegmentationStorage: False}) == {}


def test_nothing_stands_in_for_what_nothing_can_stand_in_for(made):
    seg, _, text = made
    nothing = {LABELMAP_CLASS: False, SegmentationStorage: False}
    found = stand_ins(made, {}, nothing)
    assert list(found) == [seg.sop_instance_uid]
    assert found[seg.sop_instance_uid].thing is None
    assert "takes no Label Map Segmentation Storage" in found[seg.sop_instance_uid].sentence
    pdf = replace(text, kind="pdf", sop_class_uid=EncapsulatedPDFStorage, refers_to=())
    (one,) = stand_ins([pdf], {}, {EncapsulatedPDFStorage: False}).values()
    assert one.thing is None
    broken = replace(seg, path=seg.path.with_name("broken.dcm"))
    broken.path.write_bytes(seg.path.read_bytes()[:2000])
    (one,) = stand_ins([broken], {}, NO_LABELMAP).values()
    assert one.thing is None
    assert "cannot be converted" in one.sentence


@pytest.mark.parametrize("largest", [2, 300])
def test_a_label_map_of_another_maker_is_converted_too(tmp_path, largest):
    volume = single_frame_volume(tmp_path / "in", np.zeros(SHAPE, np.int16), make_affine("axial"))
    sources = [pydicom.dcmread(s.path) for s in volume.slices]
    labels = np.zeros(SHAPE, np.uint16 if largest > 255 else np.uint8)
    labels[2:5, 3:20, 4:9] = 1
    labels[4, 21:25, 4:9] = largest
    algorithm = hd.AlgorithmIdentificationSequence(
        "a", pydicom.sr.codedict.codes.DCM.ArtificialIntelligence, "1"
    )
    codes = pydicom.sr.codedict.codes.SCT
    described = [
        hd.seg.SegmentDescription(n, f"s{n}", codes.Organ, codes.Lung, "AUTOMATIC", algorithm)
        for n in range(1, largest + 1)
    ]
    written = hd.seg.Segmentation(
        sources,
        labels,
        "LABELMAP",
        described,
        generate_uid(),
        1,
        generate_uid(),
        1,
        "m",
        "n",
        "1",
        "s",
    )
    assert written.BitsAllocated == (16 if largest > 255 else 8)
    to_binary(written)
    path = tmp_path / "binary.dcm"
    dataset = Dataset()
    dataset.update(written)
    dataset.file_meta = written.file_meta
    save(dataset, path, kind="seg")
    (decoded,) = dcmqi_decode(path, tmp_path / "dcmqi")
    for number in (1, largest):
        assert world_voxels(decoded.labels == number, decoded.affine) == world_voxels(
            labels == number, volume.image.affine
        )
    again = hd.seg.segread(path)
    assert again.number_of_segments == largest
    assert again.NumberOfFrames == 4


def test_a_label_map_without_a_voxel_has_an_empty_frame_per_segment(made):
    dataset = pydicom.dcmread(made[0].path)
    dataset.decompress(generate_instance_uid=False)
    dataset.PixelData = bytes(len(dataset.PixelData))
    to_binary(dataset)
    assert dataset.NumberOfFrames == 3
    assert not any(dataset.PixelData)
    numbers = [g.SegmentIdentificationSequence[0].ReferencedSegmentNumber for g in dataset[0x52009230]]
    assert numbers == [1, 2, 3]


def test_segments_that_are_not_counted_from_one_are_not_converted(made):
    dataset = pydicom.dcmread(made[0].path)
    dataset.SegmentSequence[-1].SegmentNumber = 7
    with pytest.raises(NotApplicable, match="1, 2, 3"):
        to_binary(dataset)


def test_references_are_turned_wherever_they_stand(made):
    old, new = made[0], replace(made[0], sop_instance_uid="2.25.1", series_uid="2.25.2", sop_class_uid="1.2")
    reference = {"ReferencedSOPClassUID": old.sop_class_uid, "ReferencedSOPInstanceUID": old.sop_instance_uid}
    other = {"ReferencedSOPClassUID": "1.9", "ReferencedSOPInstanceUID": "2.25.9"}
    dataset = item(
        SeriesInstanceUID="2.25.77",
        ReferencedSeriesSequence=[
            item(
                SeriesInstanceUID=old.series_uid,
                ReferencedInstanceSequence=[item(**reference), item(**other)],
            )
        ],
        ReferencedStudySequence=[item(SourceImageSequence=[item(**reference, ReferencedFrameNumber=2)])],
    )
    point_at(dataset, {old.sop_instance_uid: new})
    one, two = dataset.ReferencedSeriesSequence
    assert {
        s.SeriesInstanceUID: [r.ReferencedSOPInstanceUID for r in s.ReferencedInstanceSequence]
        for s in (one, two)
    } == {"2.25.2": ["2.25.1"], old.series_uid: ["2.25.9"]}
    deep = dataset.ReferencedStudySequence[0].SourceImageSequence[0]
    assert (deep.ReferencedSOPClassUID, deep.ReferencedSOPInstanceUID) == ("1.2", "2.25.1")
    assert dataset.SeriesInstanceUID == "2.25.77"


def test_a_reference_to_a_frame_of_a_label_map_has_no_stand_in(made):
    seg, report, _ = made
    dataset = pydicom.dcmread(report.path)
    image = next(
        c
        for c in walk(dataset)
        if c.get("ValueType") == "IMAGE"
        and c.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == seg.sop_instance_uid
    )
    image.ReferencedSOPSequence[0].ReferencedFrameNumber = 3
    report = replace(save(dataset, report.path, kind=report.kind), refers_to=(seg.sop_instance_uid,))
    found = stand_ins([seg, report], {}, NO_LABELMAP)
    assert found[seg.sop_instance_uid].thing is not None
    assert found[report.sop_instance_uid].thing is None
    assert "frames of a label map" in found[report.sop_instance_uid].sentence


@needs_dciodvfy
def test_in_a_whole_job_nothing_refers_to_what_was_replaced(tmp_path):
    """Every kind of object there is, of a destination that knows neither label maps nor maps."""
    found = rich(tmp_path / "in", overlap=False)
    profile = Profile(report="air", labelmap="always", also=EXTRAS)
    objects = encoded((found.volume, None, found.findings), tmp_path / "out", profile).objects
    refused = {LABELMAP_CLASS, ParametricMapStorage, Comprehensive3DSRStorage}
    taken = {uid: uid not in refused for ladder in LADDERS.items() for uid in (ladder[0], *ladder[1])}
    replaced = stand_ins(objects, {}, taken)
    assert {o.kind for o in objects if o.sop_class_uid in refused} <= {
        o.kind for o in objects if o.sop_instance_uid in replaced
    }
    goes = [replaced[o.sop_instance_uid].thing if o.sop_instance_uid in replaced else o for o in objects]
    before: set[str] = set()
    for thing in goes:
        assert dciodvfy_errors(thing.path) == [], thing.kind
        data = thing.path.read_bytes()
        for old in objects:
            if old.sop_instance_uid in replaced:
                assert old.sop_instance_uid.encode() not in data, (thing.kind, old.kind)
                assert old.series_uid.encode() not in data, (thing.kind, old.kind)
        assert set(thing.refers_to) <= before
        before.add(thing.sop_instance_uid)
    segs = [thing for thing in goes if thing.kind == "seg"]
    material = replace(material_of(found.volume, found.findings, segs, profile=profile), siblings=tuple(goes))
    turned = ("parametric-map: ", "sr-air: the class")  # of another class now, which their judges cannot know
    assert [f for f in faults(goes, material) if not f.startswith(turned)] == []
