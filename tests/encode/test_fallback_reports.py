"""A report as another class of report, judged by DCMTK, dicom3tools and dcmqi."""

from __future__ import annotations

import pydicom
import pytest
from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from node.encode.common import save
from node.encode.fallback import stand_ins
from node.encode.fallback.reports import to_class
from node.encode.material import NotApplicable
from node.encode.sr.tree import walk
from node.model import ResultObject
from node.profile import Profile
from tests.encode.judges import (
    dciodvfy_errors,
    dsrdump,
    needs_dciodvfy,
    needs_dsrdump,
    tid1500,
)
from tests.encode.labelmaps import a_case, copied, encoded
from tests.encode.rich import rich


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """The objects of one job with a BINARY segmentation, which old validators know."""
    folder = tmp_path_factory.mktemp("job")
    return encoded(a_case(folder, "single"), folder / "bin", Profile()).objects


@pytest.fixture
def report(objects, tmp_path):
    """Its measurement report."""
    return copied(objects, tmp_path / "out")[1]


def as_3d(thing: ResultObject) -> ResultObject:
    """Return a report as Comprehensive 3D SR, written beside it."""
    dataset = pydicom.dcmread(thing.path)
    to_class(dataset, Comprehensive3DSRStorage)
    dataset.SOPInstanceUID = f"{thing.sop_instance_uid[:60]}.3"
    return save(dataset, thing.path.with_name("3d.dcm"), kind=thing.kind)


@needs_dciodvfy
@needs_dsrdump
@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ((ComprehensiveSRStorage, EnhancedSRStorage), ComprehensiveSRStorage),
        ((EnhancedSRStorage,), EnhancedSRStorage),
        ((BasicTextSRStorage,), None),
        ((), None),
    ],
)
def test_a_comprehensive_3d_report_comes_down_as_far_as_its_content_allows(report, taken, expected, tmp_path):
    report = as_3d(report)
    asked = {uid: uid in taken for uid in (ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage)}
    (one,) = stand_ins([report], {}, {Comprehensive3DSRStorage: False, **asked}).values()
    if expected is None:
        assert one.thing is None
        assert "takes no Comprehensive 3D SR Storage" in one.sentence
        assert ("may be no" in one.sentence) == bool(taken)
        return
    assert one.thing.sop_class_uid == expected
    assert dciodvfy_errors(one.thing.path) == []
    assert dsrdump(one.thing.path)[1] == []
    before, after = (tid1500(path, tmp_path / "t.json") for path in (report.path, one.thing.path))
    assert after["Measurements"] == before["Measurements"]


@pytest.mark.parametrize(
    ("change", "planar", "said"),
    [
        (lambda child: setattr(child, "ValueType", "SCOORD3D"), False, "no SCOORD3D"),
        (lambda child: setattr(child, "ReferencedContentItemIdentifier", [1, 1]), True, "own content"),
        (lambda child: setattr(child, "RelationshipType", "HAS OBS CONTEXT"), True, "HAS OBS CONTEXT"),
    ],
)
def test_content_that_a_class_forbids_keeps_a_report_from_it(report, change, planar, said):
    dataset = pydicom.dcmread(report.path)
    region = next(c for c in walk(dataset) if c.get("ValueType") == "SCOORD")
    change(region)
    to_class(dataset, Comprehensive3DSRStorage)
    if planar:  # by reference is what sets Comprehensive SR apart
        to_class(dataset, ComprehensiveSRStorage)
    else:
        with pytest.raises(NotApplicable, match=said):
            to_class(dataset, ComprehensiveSRStorage)
    with pytest.raises(NotApplicable, match=said):
        to_class(dataset, EnhancedSRStorage)


@needs_dsrdump
def test_dcmtk_agrees_about_what_an_enhanced_report_may_hold(report, tmp_path):
    """Each relationship that we forbid, DCMTK refuses; what we allow, it reads."""
    for how in ("HAS OBS CONTEXT", "INFERRED FROM", "HAS PROPERTIES", "SELECTED FROM", "HAS ACQ CONTEXT"):
        dataset = pydicom.dcmread(report.path)
        number = next(c for c in walk(dataset) if c.get("ValueType") == "NUM")
        number.RelationshipType = how
        path = tmp_path / "sr.dcm"
        try:
            to_class(dataset, EnhancedSRStorage)
            allowed = True
        except NotApplicable:
            allowed = False
            dataset.SOPClassUID = EnhancedSRStorage
        save(dataset, path, kind="sr-measurements")
        assert (dsrdump(path)[1] == []) == allowed, how


@pytest.mark.parametrize("coordinates", ["image", "patient"])
def test_coordinates_in_the_patient_keep_a_report_from_coming_down(tmp_path, coordinates):
    found = rich(tmp_path / "in", overlap=False)
    profile = Profile(report="air", coordinates=coordinates)
    objects = encoded((found.volume, None, found.findings), tmp_path / "out", profile).objects
    taken = {Comprehensive3DSRStorage: False, ComprehensiveSRStorage: True}
    (one,) = stand_ins(objects, {}, taken).values()
    if coordinates == "image":
        assert one.thing.sop_class_uid == ComprehensiveSRStorage
    else:
        assert one.thing is None
        assert "there may be no SCOORD3D in it" in one.sentence
