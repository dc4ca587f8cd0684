"""Probabilities as FRACTIONAL Segmentations, judged by dciodvfy, highdicom and DCMTK."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest

from node.encode import encode
from node.encode.common import save
from node.encode.lint.seg import fractional_faults
from node.encode.lint.whole import object_faults
from node.encode.material import NotApplicable
from node.encode.seg.make import make_fractional
from node.errors import EncodeError
from node.model import ResultObject, Volume
from node.profile import Presentation, Profile
from pipelines.contract import Code, Findings, Map
from tests.encode.helpers import (
    LEFT_LUNG,
    RIGHT_LUNG,
    a_job,
    findings_of,
    material_of,
    segs_of,
    single_frame_volume,
)
from tests.encode.judges import dciodvfy_errors, needs, needs_dciodvfy
from tests.phantoms import make_affine

SHAPE = (7, 27, 31)
PROBABILITY = Code("C0018", "99TEST", "Probability")
NO_UNITS = Code("1", "UCUM", "no units")


def a_case(folder: Path, *, overlap: bool = False) -> tuple[Volume, Findings]:
    """Two lungs with a map of the probability of each, and a map of something else."""
    volume = single_frame_volume(folder, np.zeros(SHAPE, np.int16), make_affine("oblique"))
    left, right = (np.zeros(SHAPE, np.float32) for _ in range(2))
    left[1:4, 3:20, 2:14] = np.linspace(0, 1, 3 * 17 * 12, dtype=np.float32).reshape(3, 17, 12)
    right[2:6, 3:20, 16 - 4 * overlap : 28] = 0.7
    findings = findings_of(volume, [left > 0.5, (right > 0.5) & (left <= 0.5)], [LEFT_LUNG, RIGHT_LUNG])
    maps = [
        Map(label=f"Map {n}", quantity=PROBABILITY, unit=NO_UNITS, array=array, segment=n)
        for n, array in ((2, right), (None, left), (1, left))
    ]
    return volume, replace(findings, maps=tuple(maps))


def fractional_of(volume: Volume, findings: Findings, folder: Path, **job: object) -> list[ResultObject]:
    """Write the FRACTIONAL objects alone, have them judged, and return them."""
    segs = segs_of(volume, findings, folder, **job)
    material = material_of(volume, findings, segs, **job)
    made = [
        save(dataset, folder / f"fractional-{number}.dcm", kind="fractional", siblings=segs)
        for number, dataset in enumerate(make_fractional(material))
    ]
    for thing in made:
        ds = pydicom.dcmread(thing.path)
        assert [*object_faults(ds, thing, material), *fractional_faults(ds, thing, material)] == []
    return made


@needs_dciodvfy
def test_highdicom_reads_the_probability_of_every_voxel(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in")
    (made,) = fractional_of(volume, findings, tmp_path / "out")
    assert dciodvfy_errors(made.path) == []
    read = hd.seg.segread(made.path).get_pixels_by_source_instance(
        [s.sop_instance_uid for s in volume.slices],
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
        rescale_fractional=True,
    )
    right, _, left = findings.maps
    np.testing.assert_allclose(read[..., 0], left.array, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(read[..., 1], right.array, atol=0.5 / 255 + 1e-6)


@needs("dcmdump", "dcmtk")
def test_dcmtk_reads_what_the_fractions_are(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in")
    (made,) = fractional_of(volume, findings, tmp_path / "out")
    run = subprocess.run(["dcmdump", str(made.path)], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    for line in (
        "(0062,0001) CS [FRACTIONAL]",
        "(0062,0010) CS [PROBABILITY]",
        "(0062,000e) US 255",
        "(0062,0013) CS [NO]",
        "(0028,0101) US 8",
    ):
        assert line in run.stdout


def test_probabilities_carry_the_tracking_of_the_outlines(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in")
    (made,) = fractional_of(volume, findings, tmp_path / "out")
    (outlines,) = segs_of(volume, findings, tmp_path / "again")
    first, second = (pydicom.dcmread(thing.path).SegmentSequence for thing in (made, outlines))
    assert [s.TrackingUID for s in first] == [s.TrackingUID for s in second]
    assert [s.SegmentLabel for s in first] == ["Left lung", "Right lung"]
    assert made.series_uid != outlines.series_uid


def test_probabilities_above_each_other_are_said_to_overlap(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in", overlap=True)
    (made,) = fractional_of(volume, findings, tmp_path / "out")
    assert pydicom.dcmread(made.path).SegmentsOverlap == "YES"


@needs_dciodvfy
def test_no_probability_anywhere_still_is_a_legal_object(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in")
    nothing = tuple(replace(one, array=np.zeros(SHAPE, np.float32)) for one in findings.maps)
    (made,) = fractional_of(volume, replace(findings, maps=nothing), tmp_path / "out")
    assert dciodvfy_errors(made.path) == []
    assert not pydicom.dcmread(made.path).pixel_array.any()


def test_probabilities_above_the_limit_are_split_by_segment(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in")
    small = Presentation(max_object_mb=0.006)
    material = material_of(volume, findings, presentation=small)
    maker = make_fractional(material)
    made = [next(maker), next(maker)]
    assert [[s.SegmentLabel for s in ds.SegmentSequence] for ds in made] == [["Left lung"], ["Right lung"]]
    assert len({ds.SeriesInstanceUID for ds in made}) == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"segment": 9}, "segment 9, which is not there"),
        ({"segment": 2}, "has one already"),
        ({"array": np.zeros((1, 2, 3), np.float32)}, "has the shape"),
        ({"array": np.full(SHAPE, 1.5, np.float32)}, "no probability"),
        ({"array": np.full(SHAPE, np.nan, np.float32)}, "no probability"),
    ],
)
def test_maps_that_break_the_contract_are_refused(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    volume, findings = a_case(tmp_path / "in")
    *others, last = findings.maps
    wrong = replace(findings, maps=(*others, replace(last, **change)))
    with pytest.raises(EncodeError, match=sentence):
        list(make_fractional(material_of(volume, wrong)))


def test_findings_without_such_a_map_are_no_fractional_segmentation(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in")
    with pytest.raises(NotApplicable, match="probability of a segment"):
        list(make_fractional(material_of(volume, replace(findings, maps=findings.maps[1:2]))))


def test_a_profile_gets_the_probabilities_beside_the_outlines(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in")
    profile = Profile(report="text", also=("fractional",))
    (tmp_path / "out").mkdir()
    outcome = encode(a_job(), findings, {"ct": volume}, tmp_path / "out", [profile])
    assert [thing.kind for thing in outcome.objects] == ["seg", "fractional", "sr-text"]


def test_a_job_tells_why_it_has_no_probabilities(tmp_path: Path) -> None:
    volume, findings = a_case(tmp_path / "in")
    profile = Profile(report="text", also=("fractional",))
    (tmp_path / "out").mkdir()
    outcome = encode(a_job(), replace(findings, maps=()), {"ct": volume}, tmp_path / "out", [profile])
    assert [thing.kind for thing in outcome.objects] == ["seg", "sr-text"]
    assert [note for note in outcome.notes if "no fractional segmentation" in note]
