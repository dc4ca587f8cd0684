"""How long a series takes from disk to a float32 volume, beside pydicom with numpy and SimpleITK.

A simulated CT series of 1 000 instances of 512 x 512, 16 bit (some slices repeat; every header is its
own), in each transfer syntax, and the same as one enhanced multi-frame object. In turn, each time in a
new process that has done its imports and one small load, with the files in the page cache and the memory
just touched (what a virtual machine gave back to its host takes seconds to come again):

    node        `load_volumes`: headers, checks, order, decoding, rescaling
    numpy       ``pydicom.dcmread`` of all, sorted, ``np.stack`` of ``pixel_array * slope + intercept``
    SimpleITK   ``ImageSeriesReader``, then a cast to float32; left out unless installed

Prints seconds, CPU seconds, how far memory rose (the volume alone is 1 049 MB), and the node's ratios to
the others with their spread: above 1 the node is faster. JPEG Lossless needs DCMTK's ``dcmcjpeg``.
Run from the checkout, on a quiet machine:

    .venv/bin/python -m tests.benchmarks.read [ROUNDS] [INSTANCES]
"""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from node.assemble import load_volumes
from pipelines.contract import Card, InputSpec
from tests import phantoms
from tests.harness import memory_mb

ROWS = COLUMNS = 512
DISTINCT = 10  #: slices that are drawn and compressed; the others repeat them
MOST_MEMORY_BYTES = 5 << 30  #: more than anybody here takes for 1,000 instances
AFFINE = phantoms.make_affine(spacing_mm=(0.5, 0.7, 0.7))
SYNTAXES = {
    "uncompressed": ExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG Lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
MULTI_FRAME = ("uncompressed", "JPEG 2000")
CARD = Card(
    name="read",
    version="1",
    title="",
    maker="",
    intended_use="",
    use="a:B",
    inputs={"ct": InputSpec(modality=("CT",), unit="[hnsf'U]")},
)
Loader = Callable[[Sequence[Path]], object]


def main(rounds: int, instances: int) -> None:
    """Write the series, measure in turn, and print."""
    loaders = ["node", "numpy"] + ["SimpleITK"] * (importlib.util.find_spec("SimpleITK") is not None)
    with tempfile.TemporaryDirectory() as scratch:
        inputs = write_all(Path(scratch), instances)
        print(f"{instances} instances of {ROWS} x {COLUMNS}, {len(os.sched_getaffinity(0))} processors")
        for name, folder in inputs.items():
            taken: dict[str, list[dict[str, float]]] = {loader: [] for loader in loaders}
            for _ in range(rounds):
                for loader in loaders:
                    taken[loader].append(_in_new_process(loader, folder))
            _print(name, folder, taken)


def _in_new_process(loader: str, folder: Path) -> dict[str, float]:
    np.ones(MOST_MEMORY_BYTES, np.uint8)
    words = [sys.executable, "-m", "tests.benchmarks.read", loader, str(folder)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def _print(name: str, folder: Path, taken: dict[str, list[dict[str, float]]]) -> None:
    size_mb = sum(path.stat().st_size for path in folder.glob("*.dcm")) / 1e6
    print(f"\n{name}, {size_mb:.0f} MB")
    for loader, rounds in taken.items():
        median = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        line = f"  {loader:10} {median['s']:6.2f} s  {median['cpu_s']:6.2f} CPU s  +{median['mb']:5.0f} MB"
        for key, word in (("s", "time"), ("cpu_s", "CPU")):
            ratios = [theirs[key] / ours[key] for theirs, ours in zip(rounds, taken["node"], strict=True)]
            line += f"  {word} x{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(line, flush=True)


def measure(loader: str, folder: Path) -> dict[str, float]:
    """Load a folder in this process; return what it took and how far memory rose."""
    warnings.simplefilter("ignore")
    paths = sorted(folder.glob("*.dcm"))
    load = {"node": _node, "numpy": _numpy, "SimpleITK": _simpleitk}[loader](paths)
    load(sorted((folder / "small").glob("*.dcm")))
    before_mb, cpu_s, begun = memory_mb("VmHWM"), time.process_time(), time.perf_counter()
    load(paths)
    return {
        "s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu_s,
        "mb": memory_mb("VmHWM") - before_mb,
    }


def _node(paths: Sequence[Path]) -> Loader:
    # The journal knows the instances before anything is loaded.
    known = pickle.loads((paths[0].parent / "instances").read_bytes())  # noqa: S301  # written by us

    def load(wanted: Sequence[Path]) -> object:
        return load_volumes({"ct": [known[str(path)] for path in wanted]}, CARD)

    return load


def _numpy(_: Sequence[Path]) -> Loader:
    def rescaled(ds: Dataset) -> NDArray[np.float32]:
        array: NDArray[np.float32] = ds.pixel_array.astype(np.float32) * float(ds.RescaleSlope) + float(
            ds.RescaleIntercept
        )
        return array

    def load(wanted: Sequence[Path]) -> object:
        datasets = [dcmread(path) for path in wanted]
        if "PerFrameFunctionalGroupsSequence" in datasets[0]:
            ds = datasets[0]
            frames = ds.PerFrameFunctionalGroupsSequence
            along = [float(one.PlanePositionSequence[0].ImagePositionPatient[2]) for one in frames]
            rescale = [one.PixelValueTransformationSequence[0] for one in frames]
            array = ds.pixel_array[np.argsort(along)].astype(np.float32)
            for plane, one in zip(array, rescale, strict=True):
                plane *= float(one.RescaleSlope)
                plane += float(one.RescaleIntercept)
            return array
        datasets.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
        return np.stack([rescaled(ds) for ds in datasets])

    return load


def _simpleitk(_: Sequence[Path]) -> Loader:
    import SimpleITK as sitk  # its own name for itself

    def load(wanted: Sequence[Path]) -> object:
        if len(wanted) == 1:
            image = sitk.ReadImage(str(wanted[0]))
        else:
            reader = sitk.ImageSeriesReader()
            reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(wanted[0].parent)))
            image = reader.Execute()
        return sitk.GetArrayViewFromImage(sitk.Cast(image, sitk.sitkFloat32))

    return load


def write_all(root: Path, instances: int) -> dict[str, Path]:
    """Write a series per transfer syntax, and multi-frame objects; name -> folder."""
    slices = _draw(DISTINCT)
    inputs = {}
    for name, syntax in SYNTAXES.items():
        encoded = _encode(root / "encoded" / name, slices, syntax)
        if not encoded:
            print(f"{name} is left out: dcmcjpeg (Debian's dcmtk) is not installed")
            continue
        for folder, count in ((root / name, instances), (root / name / "small", 4)):
            _write_series(folder, encoded, count)
        _remember(root / name)
        inputs[name] = root / name
        if name in MULTI_FRAME:
            multi = root / f"{name} multi-frame"
            for folder, count in ((multi, instances), (multi / "small", 4)):
                _write_multi_frame(folder, encoded, count)
            _remember(multi)
            inputs[multi.name] = multi
    return inputs


def _remember(folder: Path) -> None:
    paths = sorted(folder.rglob("*.dcm"))
    known = {str(one.path): one for one in phantoms.instances_of(paths)}
    (folder / "instances").write_bytes(pickle.dumps(known))


def _draw(count: int) -> NDArray[np.int16]:
    """Return (count, rows, columns) int16 Hounsfield units: a body with noise, as compressible as a CT."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    inside = ((column - 256) / 200) ** 2 + ((row - 256) / 150) ** 2 < 1
    chance = np.random.default_rng(5)
    planes = []
    for index in range(count):
        tissue = 40 + 30 * np.sin(column / 17 + index) * np.cos(row / 23)
        noise = chance.normal(0, 1, inside.shape) * np.where(inside, 12, 7)
        planes.append((np.where(inside, tissue, -1000) + noise).round())
    return np.stack(planes).astype(np.int16)


def _encode(folder: Path, slices: NDArray[np.int16], syntax: str) -> list[Dataset]:
    """Return single-frame objects of these slices in a transfer syntax; none if there is no encoder."""
    by_dcmtk = syntax == JPEGLosslessSV1
    if by_dcmtk and shutil.which("dcmcjpeg") is None:
        return []
    paths = phantoms.write_ct_series(
        folder, slices, AFFINE, transfer_syntax=ExplicitVRLittleEndian if by_dcmtk else syntax
    )
    for path in paths if by_dcmtk else ():
        subprocess.run(["dcmcjpeg", "--encode-lossless-sv1", path, path], check=True)
    return [dcmread(path) for path in paths]


def _write_series(folder: Path, encoded: Sequence[Dataset], count: int) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        ds = encoded[index % len(encoded)]
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = phantoms.uid_of("read", index)
        ds.InstanceNumber = index + 1
        ds.ImagePositionPatient = [f"{v:.6g}" for v in phantoms.to_world(AFFINE, (index, 0, 0))]
        number = index * 7919 % count  # the order of names is not the order of slices
        ds.save_as(folder / f"{number:05d}.dcm")


def _write_multi_frame(folder: Path, encoded: Sequence[Dataset], count: int) -> None:
    path = phantoms.write_enhanced_ct(folder / "0.dcm", np.zeros((count, 2, 2), np.int16), AFFINE)
    ds = dcmread(path)
    ds.file_meta = copy.deepcopy(encoded[0].file_meta)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.Rows, ds.Columns = ROWS, COLUMNS
    compressed = ds.file_meta.TransferSyntaxUID.is_encapsulated
    frames = [
        next(generate_frames(one.PixelData, number_of_frames=1)) if compressed else one.PixelData
        for one in encoded
    ]
    all_frames = [frames[index % len(frames)] for index in range(count)]
    ds.PixelData = encapsulate(all_frames) if compressed else b"".join(all_frames)
    ds["PixelData"].VR = "OB" if compressed else "OW"
    ds["PixelData"].is_undefined_length = compressed
    ds.save_as(path)


if __name__ == "__main__":
    if sys.argv[1:] and not sys.argv[1].isdigit():
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
    else:
        main(*(int(word) for word in [*sys.argv[1:], *("3", "1000")[len(sys.argv) - 1 :]]))
