"""A real chest: what looks only inside the lungs sees the lungs that lung-density outlined, and no more."""

from __future__ import annotations

import pydicom
import pytest

from node.analyze import analyze
from node.config import read_config
from node.job import JobState
from tests import toy_chain
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.paths import SHARED, needs_shared

pytestmark = [needs_shared, pytest.mark.slow]

IF_EMPHYSEMA = """\
[rules.results.lung-density]
measurement = { name = "LAA-950", segment = "Left lung", min = 5.0 }
present = ["Left lung", "Right lung"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Pipeline -> its job and what it told, of a chain that a rule on results begins; and the files."""
    folder = tmp_path_factory.mktemp("chest")
    lungs = ["Left lung", "Right lung"]
    toys = toy_chain.install(folder, toy_chain.card("dense", "lung-density", above=-500, segments=lungs))
    rules = "".join(
        f'[[rules]]\nname = "{name}"\npipeline = "{name}"\n[rules.match]\nModality = "CT"\n{more}'
        for name, more in {"lung-density": "", "dense": IF_EMPHYSEMA}.items()
    )
    (folder / "node.toml").write_text(f"{toys}{rules}", encoding="utf-8")
    config = read_config(folder / "node.toml")
    place = SHARED / "ct_chest_philips_5mm"
    result = analyze(place, folder / "out", config, None, lambda *_: None)
    return {job.spec.pipeline: (job, outcome) for job, outcome in result.jobs}, folder / "out"


def test_the_voxels_that_are_given_are_those_of_each_lung(run):
    jobs, out = run
    assert [job.state for job, _ in jobs.values()] == [JobState.DONE] * 2
    told = {
        name: {(row["segment"], row["name"]): row["value"] for row in outcome.summary}
        for name, (_, outcome) in jobs.items()
    }
    whole = told["lung-density"]
    seg = next(file for file in map(pydicom.dcmread, out.glob("*.dcm")) if file.Modality == "SEG")
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel_ml = float(measures.SpacingBetweenSlices) * float(measures.PixelSpacing[0]) ** 2 / 1000
    for number, lung in ((1, "Left lung"), (2, "Right lung")):
        given = told["dense"][("", f"Voxels given as {number}")]
        assert given * voxel_ml == pytest.approx(whole[(lung, "Volume")], rel=1e-5)
    dense_ml = sum(told["dense"][(half, "Volume")] for half in ("Left half", "Right half"))
    assert 0 < dense_ml < 0.1 * whole[("Left lung + Right lung", "Volume")], "nothing outside of the lungs"


@needs_dciodvfy
def test_objects_that_were_made_with_a_result_are_in_order(run):
    jobs, out = run
    for made in jobs["dense"][1].objects:
        assert dciodvfy_errors(out / f"{made.sop_instance_uid}.dcm") == []
