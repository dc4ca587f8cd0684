"""Real objects from public repositories: every series gives a volume or a reason, never a crash."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from datetime import UTC, datetime
from functools import cache

import numpy as np
import pydicom
import pytest

from node.assemble.image import load_volume
from node.assemble.reason import Reason
from node.header.read import read_header
from node.header.value import text_of
from node.model import Instance
from pipelines.contract import InputRefused, InputSpec
from tests.paths import SHARED, needs_shared
from tests.phantoms import instances_of

pytestmark = [needs_shared, pytest.mark.filterwarnings("ignore:.*:UserWarning")]

UNITS = {"CT": "[hnsf'U]", "PT": "g/ml"}

#: Folders whose series are honest volumes: (slices, rows, columns) and modality.
VOLUMES = {
    "ct_chest_philips_5mm": ((64, 512, 512), "CT"),
    "mr_head_t1_siemens_3d": ((192, 256, 256), "MR"),
    "mr_prostate_adc_ge": ((20, 256, 256), "MR"),
    "ct_pet_mr_rtstruct_sts002/dicom/STS_002/CT/image": ((48, 143, 161), "CT"),
    "ct_pet_mr_rtstruct_sts002/dicom/STS_002/MR_T1/image": ((35, 90, 115), "MR"),
    "ct_pet_mr_rtstruct_sts002/dicom/STS_002/PET/image": ((48, 27, 30), "PT"),
    "mr_head_enhanced_xa30_study/5_anat-T1w_acq-tfl": ((96, 128, 128), "MR"),
    "mr_head_enhanced_xa30_study/11_DWI_dir80_PA": ((39, 72, 72), "MR"),
    "mr_head_enhanced_xa30_study/7_func-bold_task-fa_run-1": ((33, 64, 64), "MR"),
}
#: Folder -> why it is refused when its series are made placeable (they lack a frame of reference).
SNIPPETS = {
    "mr_ct_vendor_snippets/failing/gantrytilting/001": "gantry-tilt",
    "mr_ct_vendor_snippets/failing/sliceincrement/001": "slice-gap",
    "mr_ct_vendor_snippets/failing/slicecount/001": "too-few-slices",
    "mr_ct_vendor_snippets/siemens/anatomical/001": "",
    "mr_ct_vendor_snippets/generic/compressed_rle/001": "",
    "mr_ct_vendor_snippets/generic/compressed_j2k/001": "",
    "mr_ct_vendor_snippets/philips_enhanced/anatomical/001": "",
}


@cache
def everything() -> tuple[dict[tuple[str, str], list[Instance]], dict[str, str]]:
    """Return (folder, series) -> instances, and file -> sentence for what cannot be read."""
    series, unreadable = defaultdict(list), {}
    for path in sorted(p for p in SHARED.rglob("*") if p.is_file() and "weights" not in p.parts):
        folder = str(path.parent.relative_to(SHARED))
        try:
            header = read_header(path)
        except InputRefused as refusal:
            assert refusal.code == "unreadable"
            unreadable[str(path.relative_to(SHARED))] = refusal.sentence
            continue
        # A few files lack UIDs: the node refuses them at the door; here they get one of their path.
        content = path.read_bytes()
        uid = text_of(header, "SOPInstanceUID") or str(path)
        instance = Instance(
            sop_instance_uid=uid,
            sop_class_uid=text_of(header, "SOPClassUID"),
            series_uid=text_of(header, "SeriesInstanceUID"),
            study_uid=text_of(header, "StudyInstanceUID"),
            transfer_syntax_uid="",
            path=path,
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            arrived_at=datetime(2026, 1, 2, tzinfo=UTC),
            sender="test",
        )
        series[folder, instance.series_uid].append(instance)
    return dict(series), unreadable


def spec_for(instances) -> InputSpec:
    modality = text_of(read_header(instances[0].path), "Modality")
    return InputSpec(modality=("CT", "MR", "PT"), unit=UNITS.get(modality, "1"))


def folder_series(folder: str) -> list[list[Instance]]:
    return [instances for (at, _), instances in everything()[0].items() if at == folder]


@pytest.mark.parametrize(
    "top", sorted(p.name for p in SHARED.iterdir() if p.is_dir()) if SHARED.is_dir() else []
)
def test_every_series_gives_a_volume_or_a_reason(top):
    for (folder, _), instances in everything()[0].items():
        if folder.split("/")[0] != top:
            continue
        for part in (instances, *([one] for one in instances if 1 < len(instances) < 60)):
            try:
                volume = load_volume(part, spec_for(part))
            except InputRefused as refusal:
                assert refusal.code in set(Reason)
                assert refusal.sentence.endswith(".") and "\n" not in refusal.sentence
            else:
                assert np.isfinite(volume.image.array).all()
                assert len(volume.slices) == len(volume.image.array)


def test_each_unreadable_file_gets_one_clear_line():
    unreadable = everything()[1]
    broken = {
        name: line for name, line in unreadable.items() if not name.endswith((".md", ".xml", ".json", ".txt"))
    }
    assert len(broken) >= 5
    for line in broken.values():
        assert line.startswith("A file of this input ") and line.endswith(".") and "\n" not in line


@pytest.mark.parametrize("folder", VOLUMES)
def test_honest_series_give_the_volume_that_they_hold(folder):
    shape, modality = VOLUMES[folder]
    (instances,) = [s for s in folder_series(folder) if len(s) > 1 or "enhanced" in folder]
    volume = load_volume(instances, spec_for(instances))
    assert volume.image.array.shape == shape and volume.image.modality == modality


def test_the_abdomen_in_jpeg_2000_is_a_volume_two_millimetres_apart():
    (instances,) = folder_series("ct_abdomen_siemens_j2k")
    volume = load_volume(instances, spec_for(instances))
    assert volume.image.array.shape == (20, 512, 512)
    assert volume.image.spacing_mm[0] == pytest.approx(2.0)
    assert volume.image.array.min() > -1100 and 300 < volume.image.array.max() < 4000


@pytest.mark.parametrize("folder", ["ct_chest_philips_5mm", "mr_head_t1_siemens_3d"])
def test_voxels_equal_those_of_pydicom_sorted_by_hand(folder):
    (instances,) = folder_series(folder)
    volume = load_volume(instances, spec_for(instances))
    planes = [pydicom.dcmread(instance.path) for instance in instances]
    orientation = np.array(planes[0].ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    planes.sort(key=lambda ds: float(normal @ np.array(ds.ImagePositionPatient, float)))
    for index, ds in enumerate(planes):
        measured = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
        np.testing.assert_array_equal(volume.image.array[index], measured.astype(np.float32))
        expected = np.array(ds.ImagePositionPatient, float)
        place = volume.image.affine[:3, :3] @ (index, 0, 0) + volume.image.affine[:3, 3]
        np.testing.assert_allclose(place, expected, atol=0.01)


@pytest.mark.parametrize("folder", ["ct_chest_philips_5mm", "mr_head_t1_siemens_3d"])
def test_highdicom_sees_the_same_volume(folder):
    highdicom = pytest.importorskip("highdicom")
    (instances,) = folder_series(folder)
    ours = load_volume(instances, spec_for(instances)).image
    theirs = highdicom.get_volume_from_series(
        [pydicom.dcmread(instance.path) for instance in instances], dtype=np.float32
    )
    array, affine = theirs.array, theirs.affine
    if affine[:3, 0] @ ours.affine[:3, 0] < 0:  # it orders along the other direction
        array = array[::-1]
        affine = affine @ np.array([[-1, 0, 0, len(array) - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    np.testing.assert_array_equal(ours.array, array)
    np.testing.assert_allclose(ours.affine, affine, atol=2e-3)


@pytest.mark.parametrize("folder", SNIPPETS)
def test_vendor_snippets_are_judged_rightly_once_they_can_be_placed(tmp_path, folder):
    paths = []
    for number, path in enumerate(sorted(p for p in (SHARED / folder).iterdir() if p.is_file())):
        try:
            ds = pydicom.dcmread(path)
        except pydicom.errors.InvalidDicomError:
            continue
        ds.FrameOfReferenceUID = "1.2.3.4"
        ds.SOPInstanceUID = ds.get("SOPInstanceUID") or f"1.2.3.4.{number}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.save_as(tmp_path / f"{number}")
        paths.append(tmp_path / f"{number}")
    instances = instances_of(paths)
    spec = dataclasses.replace(spec_for(instances), slices_min=3)
    if SNIPPETS[folder]:
        with pytest.raises(InputRefused) as caught:
            load_volume(instances, spec)
        assert caught.value.code == SNIPPETS[folder], caught.value.sentence
    else:
        assert load_volume(instances, spec).image.array.ndim == 3
