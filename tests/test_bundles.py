"""Small bundles of every kind, from DICOM to DICOM: what comes out is where, and what, it must be.

One node runs them all along its main path; the images are simulated, the answers known, and read back
with `tests.dicom_answers`, which shares no code with the node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless
from scipy.ndimage import map_coordinates

import node.compute.order
from node import flow
from node.accept import spool_file
from node.config import read_config
from node.job import JobState
from node.model import Outcome
from node.serve import open_node
from tests.bundle_sources import SOURCES, Sources, headers_of
from tests.bundle_zoo import ZOO, func, load, role, step, write
from tests.dicom_answers import (
    answers_of,
    drawn_in,
    drawn_in_space,
    frames_of,
    map_of,
    outlines_of,
    points_of,
    same_outline,
    same_points,
)
from tests.encode.judges import dciodvfy_errors, needs_dciodvfy
from tests.phantom_cine import BLOOD
from tests.phantom_planes import write_plane
from tests.phantoms import (
    asymmetric_phantom,
    make_affine,
    write_ct_series,
    write_enhanced_ct,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

CONFIG = """\
[node]
data = "data"
[accept]
reserve_gb = 0
[compute]
devices = ["cpu"]
isolation = "best"
tries = 1
[destinations.viewer]
transport = "folder"
path = "viewer"
also = ["parametric-map", "secondary-capture"]
[destinations.archive]
transport = "folder"
path = "archive"
report = "air"
coordinates = "patient"
segmentation = "labelmap"
"""
RULE = '[[rules]]\nname = "{name}"\npipeline = "{name}"\nsend_to = ["viewer", "archive"]\nwait_s = 0\n'

PLANES = '[inputs.view]\nmodality = ["CR", "DX", "MG", "US"]\nunit = "1"\nkind = "planes"'
#: The mask is a threshold, of Hounsfield units or of what a viewer shows.
IDENTITY = {
    "identity": replace(
        ZOO["labels"],
        network="(x > 200).float()",
        after=[*ZOO["labels"].after[1:2], step("SaveImaged", output_dir="@output_dir")],
    ),
    "identity-planes": replace(
        ZOO["labels"],
        inputs=[PLANES],
        terms='output = "channels"',
        before=load(),
        network="x",
        after=[func("(x > 0.5).float()"), step("SaveImaged", output_dir="@output_dir")],
        measure=["area"],
    ),
}
BUNDLES = {
    **{name: ZOO[name] for name in SOURCES},
    "tools": replace(ZOO["tools"], inputs=[role("video", "US", "1", "planes")]),
    "chained": replace(  # all that is no air, inside of what the identity outlines
        ZOO["chained"],
        inputs=[role("ct"), '[inputs.lungs]\nresult = "identity"'],
        network="(x[:, :1] > -500) * (x[:, 1:] == 1).float()",
    ),
    **IDENTITY,
}


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one study."""

    sources: Sources
    outcome: Outcome

    def frames(self, name=None):
        """Return the frames of a role; of the first, if none is named."""
        return frames_of(self.sources[name or next(iter(self.sources))])

    def objects(self, kind):
        return [pydicom.dcmread(thing.path) for thing in self.outcome.objects if thing.kind == kind]

    def only(self, kind):
        (one,) = self.objects(kind)
        return one

    def outlined(self, label, truth):
        """Say whether every Segmentation outlines the truth, frame by frame and in space."""
        segs = [seg for seg in self.objects("seg") if label in outlines_of(seg)]
        frames = self.frames()
        places = [
            frames[key].to_mm(np.argwhere(mask))
            for key, mask in truth.items()
            if frames[key].affine is not None
        ]
        for seg in segs:
            assert same_outline(outlines_of(seg)[label], truth)
            assert not places or same_points(points_of(seg, label), np.concatenate(places))
        return {str(seg.SOPClassUID) for seg in segs}


class Station:
    """One node, and all the bundles."""

    def __init__(self, node, folder: Path) -> None:
        self.node, self.folder = node, folder
        self._done: dict[str, Done] = {}

    def run(self, sources: Sources) -> Done:
        """Let series arrive and settle, do all jobs that come of it, and return the last."""
        node = self.node
        series = [
            [flow.receive(*spool_file(file, node.store), node).series_uid for file in files][-1]
            for files in sources.values()
        ]
        for uid in reversed(series):
            flow.plan(uid, node)
        last = None
        while job := node.journal.claim(node.clock()):
            flow.compute(job, node, lambda *_: None)
            last = node.journal.job(job.id)
            assert last.state in (JobState.SENDING, JobState.DONE), last
        assert last is not None, [node.journal.routing(uid) for uid in series]
        return Done(sources=sources, outcome=node.journal.outcome(last.id))

    def zoo(self, name: str) -> Done:
        """Return what one bundle of the zoo made of its case; it is run once."""
        if name not in self._done:
            self._done[name] = self.run(SOURCES[name](self.folder / "sources" / name))
        return self._done[name]


@pytest.fixture(scope="module")
def station(tmp_path_factory):
    folder = tmp_path_factory.mktemp("station")
    text = CONFIG
    for name, bundle in BUNDLES.items():
        card = write(folder / "bundles" / name, bundle, name)
        text += f'[pipelines.{name}]\nfolder = "bundles/{name}"\nsha256 = "{card.digest}"\n'
    for name, bundle in BUNDLES.items():
        series = [text for text in bundle.inputs if "result =" not in text]
        roles = [text.split(".")[1].split("]")[0] for text in series]
        text += RULE.format(name=name)
        if len(roles) == 1:
            text += f'match = {{ StudyDescription = "{name}" }}\n'
        for one in roles if len(roles) > 1 else ():
            text += f'inputs.{one} = {{ StudyDescription = "{name}", SeriesDescription = "{one}" }}\n'
    (folder / "node.toml").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        # Code from outside has a worker for itself; here one is enough for all of them.
        patch.setattr(node.compute.order, "OURS", folder)
        with open_node(read_config(folder / "node.toml")) as opened:
            yield Station(opened, folder)


BINARY, LABELMAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"


@needs_dciodvfy
@pytest.mark.parametrize("name", SOURCES)
def test_the_validator_finds_no_error_in_what_a_bundle_made(station, name):
    made = station.zoo(name).outcome.objects
    assert {thing.kind for thing in made} >= {"sr-text", "sr-air"}
    for thing in made:
        if pydicom.dcmread(thing.path, stop_before_pixels=True).SOPClassUID == LABELMAP:
            continue  # Debian's validator is older than that class, and what refers to it
        errors = [e for e in dciodvfy_errors(thing.path) if "SOP Class that is not segmentation" not in e]
        assert errors == [], thing.kind


# --- an outline is where it was seen, whatever the images are ----------------------------------------


def _ct(orientation, **options):
    def write_it(folder, headers):
        affine = make_affine(orientation)
        phantom = asymmetric_phantom((9, 24, 20), affine)
        seed = headers["StudyInstanceUID"]
        return write_ct_series(folder, phantom.array_hu, affine, seed=seed, headers=headers, **options)

    return write_it


def _enhanced_ct(orientation):
    def write_it(folder, headers):
        affine = make_affine(orientation, reversed_slices=True)
        phantom = asymmetric_phantom((9, 24, 20), affine)
        seed, file = headers["StudyInstanceUID"], folder / "a.dcm"
        return [
            write_enhanced_ct(file, phantom.array_hu, affine, seed=seed, order="shuffled", headers=headers)
        ]

    return write_it


GEOMETRIES = {
    "axial": _ct("axial"),
    "axial, in no order, numbered from the other end": _ct("axial", order="shuffled", numbering="reversed"),
    "sagittal": _ct("sagittal", order="reversed"),
    "coronal, compressed": _ct("coronal", transfer_syntax=JPEGLSLossless),
    "prone": _ct("prone"),
    "oblique, unsigned, with slopes": _ct("oblique", signed=False, rescale=(1.0, -1024.0)),
    "oblique, several frames": _enhanced_ct("oblique"),
    "sagittal, several frames": _enhanced_ct("sagittal"),
}


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_threshold_of_a_volume_is_outlined_voxel_for_voxel_in_the_patient(station, tmp_path, geometry):
    headers = headers_of(f"identity {geometry}", "ct", StudyDescription="identity")
    done = station.run({"ct": GEOMETRIES[geometry](tmp_path, headers)})
    truth = {key: frame.values > 200 for key, frame in done.frames().items()}
    assert done.outlined("Bright", truth) == {BINARY, LABELMAP}
    array_mask = asymmetric_phantom((9, 24, 20), np.eye(4)).mask
    assert sum(mask.sum() for mask in truth.values()) == array_mask.sum()
    for seg in (one for one in done.objects("seg") if one.SOPClassUID == BINARY):
        read = highdicom.seg.segread(seg.filename).get_volume(combine_segments=True)
        at = np.argwhere(np.asarray(read.array) == 1)
        places = at @ read.affine[:3, :3].T + read.affine[:3, 3]
        assert same_points(places, points_of(seg, "Bright"))


@pytest.mark.parametrize("modality", ["CR", "MG", "US"])
def test_a_threshold_of_pictures_is_outlined_pixel_for_pixel(station, tmp_path, modality):
    stored = np.zeros((3, 40, 60), np.uint8)
    stored[1, 5:9, 30:50] = 200  # an L without symmetry
    stored[1, 9:25, 46:50] = 200
    headers = headers_of(f"identity {modality}", "view", StudyDescription="identity-planes", WindowCenter=128)
    headers["WindowWidth"] = 256
    options = {"modality": modality, "seed": modality, "headers": headers}
    if modality == "US":
        files = [write_plane(tmp_path / "cine.dcm", stored, **options)]
    else:
        headers |= {"Modality": modality, "ImagerPixelSpacing": [0.2, 0.1]}
        options["modality"] = "CR"
        files = [
            write_plane(tmp_path / f"{number}.dcm", image, number=number, **options)
            for number, image in enumerate(stored, start=1)
        ]
    done = station.run({"view": files})
    truth = {key: frame.values > 100 for key, frame in done.frames().items()}
    assert done.outlined("Bright", truth)
    (area,) = done.outcome.summary
    assert (area["name"], area["segment"]) == ("Area", "Bright")
    known_mm2 = None if modality == "US" else pytest.approx(0.2 * 0.1 * np.sum(stored > 100), rel=1e-3)
    assert area["value"] == known_mm2


# --- every kind of output -----------------------------------------------------------------------------


def test_labels_are_outlined_and_measured(station):
    done = station.zoo("labels")
    truth = {key: frame.values > 200 for key, frame in done.frames().items()}
    assert done.outlined("Bright", truth) == {BINARY, LABELMAP}
    volume, mean = done.outcome.summary
    voxel_ml = 2.5 * 0.8 * 0.7 / 1000
    assert volume["value"] == pytest.approx(sum(mask.sum() for mask in truth.values()) * voxel_ml, rel=1e-3)
    assert mean["value"] == 300


def test_exclusive_channels_are_two_segments(station):
    done = station.zoo("one-hot")
    frames = done.frames().items()
    done.outlined("Bright", {key: frame.values > 200 for key, frame in frames})
    done.outlined("Body", {key: (frame.values > -500) & (frame.values <= 200) for key, frame in frames})


def test_overlapping_channels_of_four_series_stay_apart(station):
    done = station.zoo("channels")
    frames = frames_of(done.sources["flair"])
    # The outlines are on the first series, whose slices lie in the same places.
    first = {tuple(np.round(frame.affine[:, 2], 2)): key for key, frame in done.frames("t1c").items()}
    values = {first[tuple(np.round(frame.affine[:, 2], 2))]: frame.values for frame in frames.values()}
    whole = np.stack(list(values.values()))
    mean, deviation = whole[whole > 0].mean(), whole[whole > 0].std()
    done.outlined("Core", {key: one > mean + deviation for key, one in values.items()})
    # The network gives 0 outside of the body, a probability of one half, and that counts.
    done.outlined("Whole", {key: (one > mean) | (one == 0) for key, one in values.items()})


def test_a_probability_is_a_map_of_the_same_numbers_and_an_outline(station):
    done = station.zoo("probabilities")
    expected = {key: ((frame.values + 1000) / 2000).clip(0, 1) for key, frame in done.frames().items()}
    done.outlined("Dense", {key: one >= 0.6 for key, one in expected.items()})
    given = map_of(done.only("parametric-map"))
    assert given.keys() == expected.keys()
    assert all(np.allclose(given[key], one, atol=1e-6) for key, one in expected.items())


def test_a_restored_image_is_a_map_in_its_unit(station):
    done = station.zoo("image")
    one = done.only("parametric-map")
    given, frames = map_of(one), done.frames()
    assert given.keys() == frames.keys()
    assert all(np.allclose(given[key], frame.values / 2, atol=1e-3) for key, frame in frames.items())
    rwv = one.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert rwv.MeasurementUnitsCodeSequence[0].CodeValue == "[hnsf'U]"
    assert any("synthetic" in note for note in done.outcome.notes)


def test_what_stays_where_the_network_saw_it_is_taken_back_to_its_place(station):
    done = station.zoo("network-space")
    frames = done.frames()
    truth = np.concatenate([frame.to_mm(np.argwhere(frame.values > 200)) for frame in frames.values()])
    for seg in done.objects("seg"):
        found = points_of(seg, "Bright")
        assert np.linalg.norm(found.mean(axis=0) - truth.mean(axis=0)) < 0.7
        assert len(found) == pytest.approx(len(truth), rel=0.3)  # bars of 1.6 mm seen on voxels of 1 mm


def test_an_input_of_another_grid_lies_where_it_lies_in_the_patient(station):
    done = station.zoo("two-keys")
    coarse = sorted(done.frames("adc").values(), key=lambda frame: frame.affine[:, 2] @ _normal(frame))
    array = np.stack([frame.values for frame in coarse])
    step_mm = (coarse[-1].affine[:, 2] - coarse[0].affine[:, 2]) / (len(coarse) - 1)
    to_index = np.linalg.inv(np.column_stack([step_mm, coarse[0].affine[:, :2]]))
    seen = {}
    for key, frame in done.frames("t2").items():
        at = frame.to_mm(np.argwhere(np.ones(frame.values.shape))) - coarse[0].affine[:, 2]
        linear = map_coordinates(array, to_index @ at.T, order=1, mode="nearest")
        seen[key] = linear.reshape(frame.values.shape)
    (binary,) = (seg for seg in done.objects("seg") if seg.SOPClassUID == BINARY)
    found = outlines_of(binary)["Bright"]
    assert found.keys() <= seen.keys()
    for key, values in seen.items():
        mask = found.get(key, np.zeros(values.shape, bool))
        clear = np.abs(values - 400) > 1  # half-way between two voxels it may be either
        assert np.array_equal(mask[clear], values[clear] > 400)
    assert any("resampled" in note for note in done.outcome.notes)


def _normal(frame):
    return np.cross(frame.affine[:, 1], frame.affine[:, 0])


def test_what_another_pipeline_outlined_is_an_input_on_the_same_grid(station):
    done = station.zoo("chained")
    truth = {key: frame.values > 200 for key, frame in done.frames().items()}
    assert done.outlined("Bright in the first", truth) == {BINARY, LABELMAP}


def test_an_earlier_study_is_compared_with(station):
    done = station.zoo("prior")
    assert answers_of(done.only("sr-text"))["Growth"] == "Present"
    assert done.outcome.summary == ()


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("density", {"Type": "Heterogeneous"}),
        ("in-body", {"Type": "In body"}),
        ("rhythm", {"Strong": "Present", "Weak": "Absent"}),
    ],
)
def test_what_is_asked_of_a_picture_or_a_recording_is_answered_with_codes(station, name, answers):
    done = station.zoo(name)
    for kind in ("sr-text", "sr-air"):
        assert answers.items() <= answers_of(done.only(kind)).items()


def test_a_tool_is_outlined_on_each_frame_of_a_cine_in_colour(station):
    done = station.zoo("tools")
    truth = {key: frame.values[..., 2] > 127 for key, frame in done.frames().items()}
    assert len(truth) == 3
    for seg in done.objects("seg"):
        found = outlines_of(seg)["Tool"]
        assert found.keys() == truth.keys()
        for key, mask in truth.items():  # the network saw the picture at another size
            assert 2 * np.sum(found[key] & mask) > 0.9 * (found[key].sum() + mask.sum())
            assert np.allclose(np.argwhere(found[key]).mean(0), np.argwhere(mask).mean(0), atol=1.0)


def test_cells_are_drawn_around_what_was_seen(station):
    done = station.zoo("cells")
    (key,) = done.frames()
    drawn = list(drawn_in(done.only("sr-measurements")))
    assert {where for where, _ in drawn} == {key}
    around = sorted((at.min(axis=0).tolist(), at.max(axis=0).tolist()) for _, at in drawn)
    assert around == [
        ([1.5, 59.5], [2.5, 60.5]),
        ([9.5, 7.5], [13.5, 14.5]),
        ([29.5, 39.5], [35.5, 43.5]),
    ]


def test_a_beating_heart_is_outlined_at_every_phase_and_its_volumes_are_told(station):
    done = station.zoo("ventricle")
    truth = {key: frame.values == BLOOD for key, frame in done.frames().items()}
    (kind, *_) = (seg for seg in done.objects("seg"))
    assert same_outline(outlines_of(kind)["Left ventricle"], truth)
    told = {entry["name"]: entry["value"] for entry in done.outcome.summary}
    files = [pydicom.dcmread(file) for file in done.sources["cine"]]
    counts = {}
    for ds in files:
        phase = (int(ds.InstanceNumber) - 1) % 6
        counts[phase] = counts.get(phase, 0) + truth[str(ds.SOPInstanceUID), None].sum()
    largest, smallest = max(counts.values()), min(counts.values())
    voxel_ml = 6.0 * 2.0 * 1.9 / 1000
    assert told["Left Ventricular ED Volume"] == pytest.approx(largest * voxel_ml, rel=1e-3)
    assert told["Left Ventricular ES Volume"] == pytest.approx(smallest * voxel_ml, rel=1e-3)
    assert told["Cardiac ejection fraction"] == pytest.approx(100 * (1 - smallest / largest), abs=0.01)
    assert largest * voxel_ml == pytest.approx(4 / 3 * np.pi * 2.4**3, rel=0.05)


def test_a_landmark_of_a_cine_is_on_the_frame_where_it_was_seen(station):
    done = station.zoo("valves")
    frames = done.frames()
    drawn = dict(drawn_in(done.only("sr-measurements")))
    assert drawn.keys() == frames.keys()
    for key, at in drawn.items():
        middle = (at.min(axis=0) + at.max(axis=0)) / 2  # viewers are given a small square
        assert np.allclose(middle, np.argwhere(frames[key].values > 70).mean(axis=0), atol=1e-3)


def test_a_box_is_around_the_nodule_on_an_image_and_in_the_patient(station):
    done = station.zoo("nodules")
    frames = done.frames()
    bright = {key: np.argwhere(frame.values > 200) for key, frame in frames.items()}
    everywhere = np.concatenate(list(bright.values()))
    ((key, at),) = drawn_in(done.only("sr-measurements"))  # viewers draw one image of it
    assert len(bright[key])
    assert np.allclose(at.min(axis=0), everywhere.min(axis=0), atol=0.01)
    assert np.allclose(at.max(axis=0), everywhere.max(axis=0), atol=0.01)
    truth = np.concatenate([frames[key].to_mm(at) for key, at in bright.items() if len(at)])
    surface = np.concatenate(list(drawn_in_space(done.only("sr-air"))))
    assert np.allclose(surface.min(axis=0), truth.min(axis=0), atol=0.01)
    assert np.allclose(surface.max(axis=0), truth.max(axis=0), atol=0.01)


def test_a_landmark_lies_in_the_patient_where_it_was_seen(station):
    done = station.zoo("landmark")
    truth = np.concatenate(
        [frame.to_mm(np.argwhere(frame.values > 200)) for frame in done.frames().values()]
    ).mean(axis=0)
    (point,) = drawn_in_space(done.only("sr-air"))
    assert np.linalg.norm(point[0] - truth) < 1.0  # seen on voxels of 1 mm
