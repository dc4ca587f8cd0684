"""The shipped bundle: a network with a known answer, at the right place, in every orientation."""

from __future__ import annotations

import json
from math import pi
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigParser

from pipelines.bundle import BundlePipeline
from pipelines.contract import Code, Image, InputRefused, read_card
from pipelines.phantom_inserts.simulate import Rod, Scene, Sphere, grid_points, random_scene, render
from tests.paths import REPOSITORY, SHARED, needs_shared
from tests.phantoms import make_affine, to_world

pytestmark = pytest.mark.long

FOLDER = REPOSITORY / "pipelines" / "phantom_inserts"
HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
CENTRE_MM = np.array([18.3, -31.7, 42.9])  # of the sphere, LPS


@pytest.fixture(scope="module")
def pipeline():
    made = BundlePipeline(read_card(FOLDER / "card.toml"))
    made.load("cpu")
    return made


def scene(radius_mm=20.0):
    middle = np.array([5.0, -20.0, 40.0])
    tank = Rod(centre_mm=middle, axis=np.array([0.0, 0, 1]), radius_mm=80, length_mm=140, value_hu=0)
    rod = Rod(
        centre_mm=middle + np.array([-40.0, 0, 5]),
        axis=np.array([0.0, 0.6, 0.8]),
        radius_mm=10,
        length_mm=60,
        value_hu=930,
    )
    sphere = Sphere(centre_mm=CENTRE_MM, radius_mm=radius_mm, value_hu=120)
    return Scene(tank=tank, wall_mm=5, table_mm=12, inserts=(sphere, rod))


def seen(what, affine, shape, noise_hu=6.0, seed=0):
    hu, _ = render(what, grid_points(affine, shape), noise_hu=noise_hu, seed=seed)
    return {"ct": Image(array=hu, affine=affine, unit=HU, modality="CT")}


def around(middle_mm, affine, shape):
    """Return the affine moved so that the middle of the grid lies at a point."""
    moved = affine.copy()
    moved[:3, 3] = middle_mm - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return moved


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reversed"])
@pytest.mark.parametrize("orientation", ["axial", "sagittal", "coronal", "oblique"])
def test_a_sphere_of_20_mm_radius_is_found_where_it_is_with_33_5_ml(pipeline, orientation, reverse):
    shape = (82, 112, 104)
    affine = around(scene().tank.centre_mm, make_affine(orientation, spacing_mm=(2.5, 1.9, 2.0)), shape)
    if reverse:
        affine = affine @ np.array([[-1.0, 0, 0, shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    case = seen(scene(), affine, shape)
    pipeline.check(case)
    findings = pipeline.analyze(case)
    centroid = to_world(affine, np.argwhere(findings.mask(1)).mean(axis=0))
    assert np.linalg.norm(centroid - CENTRE_MM) < 0.5
    volumes = {m.segment: m.value for m in findings.measurements if m.check == "volume"}
    assert volumes[1] == pytest.approx(4 / 3 * pi * 20**3 / 1000, rel=0.04)
    assert volumes[2] == pytest.approx(pi * 10**2 * 60 / 1000, rel=0.10)
    means = {m.segment: m.value for m in findings.measurements if m.check == "mean"}
    assert means[1] == pytest.approx(120, abs=10)


def test_fresh_phantoms_are_segmented_with_a_dice_above_095(pipeline):
    shared, total = np.zeros(2), np.zeros(2)
    for seed in range(90_000, 90_003):
        drawn = random_scene(np.random.default_rng(seed))
        extent = int(np.ceil(2 * (drawn.tank.reach_mm + 12) / 3))
        affine = around(drawn.tank.centre_mm, make_affine("axial", spacing_mm=(3.0, 3.0, 3.0)), (extent,) * 3)
        hu, truth = render(drawn, grid_points(affine, (extent,) * 3), noise_hu=10.0, seed=seed)
        findings = pipeline.analyze({"ct": Image(array=hu, affine=affine, unit=HU, modality="CT")})
        for kind in range(2):
            mask, true = findings.mask(kind + 1), truth[kind] > 0.5
            shared[kind] += np.count_nonzero(mask & true)
            total[kind] += np.count_nonzero(mask) + np.count_nonzero(true)
    assert (2 * shared / total > 0.95).all(), 2 * shared / total


def test_a_phantom_without_inserts_gives_empty_outlines_and_no_volume(pipeline):
    empty = Scene(tank=scene().tank, wall_mm=5, table_mm=0, inserts=())
    shape = (60, 72, 72)
    affine = around(empty.tank.centre_mm, make_affine("axial", spacing_mm=(3.0, 3.0, 3.0)), shape)
    findings = pipeline.analyze(seen(empty, affine, shape))
    assert findings.labelmap.sum() < 20
    assert all(m.value < 0.5 for m in findings.measurements if m.check == "volume")


@needs_shared
@pytest.mark.parametrize(
    "series", ["ct_chest_philips_5mm", "ct_abdomen_siemens_j2k", "ct_pet_mr_rtstruct_sts002"]
)
def test_real_patients_are_refused(pipeline, series):
    import pydicom

    slices = []
    for path in sorted((SHARED / series).rglob("*")):
        try:
            instance = pydicom.dcmread(path)
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        if instance.get("Modality") == "CT" and "PixelSpacing" in instance:
            slices.append(instance)
    slices.sort(key=lambda s: s.ImagePositionPatient[2])
    array = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    affine = make_affine("axial", spacing_mm=(3.0, *map(float, slices[0].PixelSpacing)))
    with pytest.raises(InputRefused) as refusal:
        pipeline.check({"ct": Image(array=array.astype(np.float32), affine=affine, unit=HU, modality="CT")})
    assert refusal.value.code == "not-a-water-phantom"


def test_phantoms_as_they_were_trained_on_are_not_refused(pipeline):
    for seed in range(15):
        drawn = random_scene(np.random.default_rng(seed))
        extent = int(np.ceil(2 * (drawn.tank.reach_mm + 10) / 4))
        affine = around(drawn.tank.centre_mm, make_affine("axial", spacing_mm=(4.0, 3.0, 3.0)), (extent,) * 3)
        pipeline.check(seen(drawn, affine, (extent,) * 3, noise_hu=20.0, seed=seed))


def test_it_is_a_whole_monai_bundle_and_says_what_it_is():
    for name in (
        "LICENSE",
        "configs/metadata.json",
        "configs/inference.json",
        "models/model.pt",
        "docs/README.md",
    ):
        assert (FOLDER / name).is_file()
    assert (FOLDER / "models" / "model.pt").stat().st_size < 3_000_000
    metadata = json.loads((FOLDER / "configs" / "metadata.json").read_text())
    for key in (
        "version monai_version pytorch_version numpy_version required_packages_version task description"
        " authors copyright network_data_format intended_use data_source"
    ).split():
        assert key in metadata
    card = read_card(FOLDER / "card.toml")
    assert metadata["version"] == card.version
    for text in (metadata["intended_use"], card.warning, (FOLDER / "docs" / "README.md").read_text()):
        assert "ot for patients" in text
    assert "imulated" in metadata["data_source"]


def test_the_bundles_own_configuration_builds_in_monai_without_the_node(tmp_path):
    parser = ConfigParser()
    parser.read_config(str(FOLDER / "configs" / "inference.json"))
    parser["bundle_root"] = str(FOLDER)
    parser["dataset_dir"] = str(tmp_path)
    for part in ("network_def", "preprocessing", "inferer", "dataset"):
        assert parser.get_parsed_content(part) is not None
    assert Path(parser.get_parsed_content("output_dir")).name == "eval"
