"""How long a mask of 104 classes takes to encode, how much memory, and how large the object is.

Makes a label map of 104 bodies in 300 slices of 512 x 512 on a simulated CT, and writes it as a BINARY
and as a Label Map Segmentation, and all results of such a job with the whole of `node.encode.encode`
(every object read back and judged). The rival in the same run is highdicom's writer. Each runs in a
process of its own, whose peak memory (Linux) is told without what it held before it began. Run from
the checkout:

    .venv/bin/python -m tests.benchmarks.segmentation [SLICES]
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import highdicom
import numpy as np
import pydicom

from node.encode import encode
from node.encode.common import save
from node.encode.seg.make import make_segs
from node.profile import Profile
from pipelines.contract import Findings, Segment
from tests import phantoms
from tests.encode.helpers import ANATOMY, LUNG, a_job, material_of, single_frame_volume
from tests.harness import forget_peak, memory_mb

CLASSES, ROWS, COLUMNS = 104, 512, 512
NEVER, ALWAYS = Profile(labelmap="never"), Profile(labelmap="always")


class Told(NamedTuple):
    """What is measured of a writer."""

    seconds: float
    cpu_s: float  #: of the process, whatever else the machine does
    peak_mb: float
    size: int  #: bytes written


@dataclass(frozen=True)
class Work:
    """What every writer is given."""

    folder: Path
    slices: int

    @property
    def affine(self) -> np.ndarray:
        return phantoms.make_affine(spacing_mm=(1.5, 0.8, 0.8))

    @property
    def labels(self) -> np.ndarray:
        return np.load(self.folder / "labels.npy")

    @property
    def segments(self) -> tuple[Segment, ...]:
        return tuple(
            Segment(number=number, label=f"Structure {number}", category=ANATOMY, kind=LUNG)
            for number in range(1, CLASSES + 1)
        )


def main(slices: int) -> None:
    """Measure every writer once, and print one line for each."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Work(Path(scratch), slices)
        labels = bodies((slices, ROWS, COLUMNS))
        np.save(work.folder / "labels.npy", labels)
        phantoms.write_ct_series(work.folder / "ct", np.zeros(labels.shape, np.int16), work.affine)
        frames = sum(len(np.unique(plane)) - 1 for plane in labels)
        print(f"{CLASSES} classes, {slices} x {ROWS} x {COLUMNS}, {frames} frames as BINARY")
        for name, write in WRITERS.items():
            told = alone(write, work)
            print(
                f"{name}: {told.seconds:.1f} s ({told.cpu_s:.1f} s of CPU), "
                f"{told.peak_mb:.0f} MB more at the peak, {told.size:,} bytes"
            )


def alone(write: Callable[[Work], Told], work: Work) -> Told:
    """Run a writer in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(write, work).result()


class Stopwatch:
    """Seconds and peak memory between its beginning and `told`."""

    def __init__(self) -> None:
        self.before_mb = memory_mb("VmRSS")
        forget_peak()
        self.begun, self.cpu_begun = time.perf_counter(), time.process_time()

    def told(self, size: int) -> Told:
        seconds, cpu_s = time.perf_counter() - self.begun, time.process_time() - self.cpu_begun
        return Told(seconds, cpu_s, memory_mb("VmHWM") - self.before_mb, size)


def binary(work: Work) -> Told:
    return _ours(work, NEVER)


def labelmap(work: Work) -> Told:
    return _ours(work, ALWAYS)


def whole_binary(work: Work) -> Told:
    return _everything(work, NEVER)


def whole_labelmap(work: Work) -> Told:
    return _everything(work, ALWAYS)


def rival_binary(work: Work) -> Told:
    return _rival(work, highdicom.seg.SegmentationTypeValues.BINARY, pydicom.uid.ExplicitVRLittleEndian)


def rival_labelmap(work: Work) -> Told:
    return _rival(work, highdicom.seg.SegmentationTypeValues.LABELMAP, pydicom.uid.RLELossless)


WRITERS: dict[str, Callable[[Work], Told]] = {
    "LABELMAP, RLE": labelmap,
    "LABELMAP, RLE, highdicom": rival_labelmap,
    "BINARY": binary,
    "BINARY, highdicom": rival_binary,
    "whole encode(), LABELMAP": whole_labelmap,
    "whole encode(), BINARY": whole_binary,
}


def bodies(shape: tuple[int, int, int]) -> np.ndarray:
    """Return a label map of ellipsoids in a grid, each about as large as an organ: uint8."""
    labels = np.zeros(shape, np.uint8)
    rng = np.random.default_rng(7)
    slices, rows, columns = np.ogrid[: shape[0], : shape[1], : shape[2]]
    for number in range(1, CLASSES + 1):
        centre = rng.uniform(0.15, 0.85, 3) * shape
        radius = np.array([shape[0] / 9, shape[1] / 14, shape[2] / 14]) * rng.uniform(0.5, 1.6)
        box = tuple(
            slice(max(0, int(c - r)), min(n, int(c + r) + 1))
            for c, r, n in zip(centre, radius, shape, strict=True)
        )
        distance = sum(
            ((axis - c) / r) ** 2
            for axis, c, r in zip(
                (slices[box[0]], rows[:, box[1]], columns[:, :, box[2]]), centre, radius, strict=True
            )
        )
        labels[box][distance <= 1] = number
    return labels


def _inputs(work: Work):
    labels = work.labels
    volume = single_frame_volume(work.folder / "again", np.zeros(labels.shape, np.int16), work.affine)
    findings = Findings(labelmap=labels, affine=work.affine, segments=work.segments)
    return volume, findings


def _ours(work: Work, profile: Profile) -> Told:
    volume, findings = _inputs(work)
    material = material_of(volume, findings, profile=profile)
    watch = Stopwatch()
    things = [
        save(dataset, work.folder / f"ours-{number}.dcm", kind="seg")
        for number, dataset in enumerate(make_segs(material))
    ]
    return watch.told(sum(thing.path.stat().st_size for thing in things))


def _everything(work: Work, profile: Profile) -> Told:
    volume, findings = _inputs(work)
    folder = work.folder / profile.labelmap
    folder.mkdir()
    watch = Stopwatch()
    outcome = encode(a_job(), findings, {"ct": volume}, folder, [profile])
    return watch.told(sum(thing.path.stat().st_size for thing in outcome.objects))


def _rival(work: Work, kind, syntax) -> Told:
    paths = sorted((work.folder / "ct").iterdir())
    sources = [pydicom.dcmread(path) for path in paths]
    sources.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    labels = work.labels
    anatomy, lung = (highdicom.sr.CodedConcept(*code) for code in (ANATOMY, LUNG))
    family = highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence")
    algorithm = highdicom.AlgorithmIdentificationSequence("rival", family, "1")
    automatic = highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    described = [
        highdicom.seg.SegmentDescription(s.number, s.label, anatomy, lung, automatic, algorithm)
        for s in work.segments
    ]
    watch = Stopwatch()
    made = highdicom.seg.Segmentation(
        sources, labels, kind, described, highdicom.UID(), 1, highdicom.UID(), 1, "rival", "rival", "1", "1",
        transfer_syntax_uid=syntax,
    )  # fmt: skip
    path = work.folder / "rival.dcm"
    made.save_as(path)
    return watch.told(path.stat().st_size)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
