"""How long a case takes: the node's warm worker, MONAI's own command, and the forward passes alone.

The same bundle (a 3D UNet as the Model Zoo's spleen bundle has one, then a small one; random weights,
96 x 96 x 96 windows half over each other) and the same CT go through

    the node        DICOM on disk to results on disk: load, compute, encode, each in its worker
    the command     ``python -m monai.bundle run``, a new process, NIfTI to NIfTI
    the passes      the network alone on as many windows, in batches as large, in this process

Prints seconds of every round and the medians of the ratios, then what four cases take one after the
other, and with as many under way as the engine has room for. Where other programs are busy, look at the
ratio of processor times. Run from the checkout:

    .venv/bin/python -m tests.benchmarks.bundle [ROUNDS] [DEVICE]

The command needs pytorch-ignite and fire, which the node does not; without them it is left out:

    .venv/bin/python -m pip install --constraint deploy/constraints.txt --editable '.[benchmark]'
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.inferers.utils import dense_patch_slices
from monai.networks.nets import UNet

from node import flow
from node.accept import spool_file
from node.config import read_config
from node.flow import Node
from node.job import Job, JobState
from node.serve import open_node, utc_now
from pipelines.contract import folder_digest
from tests import phantoms
from tests.bundles import threshold_metadata, write_bundle

SHAPE, SPACING_MM = (80, 192, 192), (2.5, 1.5, 1.5)  #: slices, rows, columns
PIXDIM = (1.5, 1.5, 2.0)
WINDOW, AT_ONCE, OVERLAP = (96, 96, 96), 4, 0.5
CASES = 4
UNET = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [16, 32, 64, 128, 256],
    "strides": [2, 2, 2, 2],
    "num_res_units": 2,
    "norm": "batch",
}
NETWORKS = {"spleen": UNET, "small": {**UNET, "channels": [4, 8, 16], "strides": [2, 2], "num_res_units": 0}}
CONFIG = """\
[node]
data = "data"
[accept]
reserve_gb = 0.01
[accept.dimse]
enabled = false
[compute]
devices = ["{device}"]
[pipelines.tiny]
folder = "{folder}"
sha256 = "{digest}"
[destinations.shelf]
transport = "folder"
path = "shelf"
[[rules]]
name = "every CT"
pipeline = "tiny"
send_to = ["shelf"]
[rules.match]
Modality = "CT"
"""


def main(rounds: int, device: str) -> None:
    """Measure, and print."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    affine = phantoms.make_affine(spacing_mm=SPACING_MM)
    phantom = phantoms.asymmetric_phantom(SHAPE, affine)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        series = [
            phantoms.write_ct_series(folder / f"ct{n}", phantom.array_hu, affine, seed=f"round {n}")
            for n in range(rounds + 1 + 2 * CASES)
        ]
        image = nibabel.Nifti1Image(phantom.array_hu.T.astype(np.float32), _nifti_affine(affine))
        nibabel.save(image, folder / "ct.nii.gz")
        for name, settings in NETWORKS.items():
            print(f"-- {name}: UNet of {settings['channels']} channels", flush=True)
            around = folder / name
            around.mkdir()
            network = _bundle(around, folder / "ct.nii.gz", settings, device)
            with _node(around, device) as node:
                _compare(rounds, node, series, around, network, device)
                _overlap(node, series[rounds + 1 :])


def _compare(rounds: int, node: Node, series, folder: Path, network: UNet, device: str) -> None:
    whole, compute, processors, cold = [], [], [], []
    for number in range(rounds + 1):
        job, used_s = _planned(node, series[number]), _worker_s(node)
        begun = time.monotonic()
        flow.compute(job, node, lambda *_: None)
        node_s, used_s = time.monotonic() - begun, _worker_s(node) - used_s
        steps = dict(node.journal.outcome(job.id).seconds)
        passing_s = time.process_time()
        passes_s, count = _passes(network, device)
        passing_s = time.process_time() - passing_s
        command_s = _command(folder) if number else None
        told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in steps.items())
        beside = f"; command {command_s:.2f} s" if command_s else ""
        word = f"round {number}" if number else "first, cold"
        print(
            f"{word}: node {node_s:.2f} s ({told}); {count} windows alone {passes_s:.2f} s{beside}",
            flush=True,
        )
        if number:
            whole.append(node_s / passes_s)
            compute.append(steps["compute"] / passes_s)
            processors.append(used_s / passing_s)
            cold += [command_s / node_s] if command_s else []
    print("compute step / forward passes:", _spread(compute))
    print("compute step / forward passes, processor time:", _spread(processors))
    print("whole case, warm / forward passes:", _spread(whole))
    print("cold command / whole case, warm:", _spread(cold) if cold else "needs '.[benchmark]'")


def _overlap(node: Node, series) -> None:
    """Print how long some cases take one after the other, and overlapping."""
    for slots in (1, node.engine.slots):
        some, series = series[:CASES], series[CASES:]
        jobs = [_planned(node, files) for files in some]
        begun = time.monotonic()
        with ThreadPoolExecutor(slots) as pool:
            list(pool.map(lambda job: flow.compute(job, node, lambda *_: None), jobs))
        took_s = time.monotonic() - begun
        assert {node.journal.job(job.id).state for job in jobs} == {JobState.SENDING}
        print(f"{CASES} cases, {slots} under way: {took_s:.2f} s, {CASES * 3600 / took_s:.0f} an hour")


def _worker_s(node: Node) -> float:
    """Return the processor seconds that the device's worker has used so far."""
    worker = node.engine._slots[0].worker
    fields = Path(f"/proc/{worker.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime


def _spread(ratios: list[float]) -> str:
    return f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


@contextmanager
def _node(folder: Path, device: str) -> Iterator[Node]:
    config = folder / "node.toml"
    digest = folder_digest(folder / "unet")
    config.write_text(CONFIG.format(device=device, folder=folder / "unet", digest=digest))
    with open_node(read_config(config)) as node:
        yield node


def _planned(node: Node, files) -> Job:
    """Receive a series and claim the job that is made of it."""
    for file in files:
        instance = flow.receive(*spool_file(file, node.store), node)
    (job,) = flow.plan(instance.series_uid, node)
    claimed = node.journal.claim(utc_now())
    assert claimed is not None and claimed.id == job.id and claimed.state is JobState.COMPUTING
    return claimed


def _bundle(around: Path, image: Path, settings: dict[str, Any], device: str) -> UNet:
    torch.manual_seed(0)
    network = UNet(**settings).eval()
    config = _config(around, image, settings, device)
    metadata = threshold_metadata()
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 2
    write_bundle(around / "unet", config, metadata=metadata, network=network, measure=("volume",))
    return network.to(device)


def _config(around: Path, image_file: Path, settings: dict[str, Any], device: str) -> dict[str, Any]:
    """Return a configuration with the structure of the spleen bundle's."""
    image, pred = {"keys": "image"}, {"keys": "pred"}
    return {
        "imports": ["$import torch"],
        "bundle_root": str(around / "unet"),
        "device": f"$torch.device('{device}')",
        "network_def": {"_target_": "UNet", **settings},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", **image},
                {"_target_": "EnsureChannelFirstd", **image},
                {"_target_": "Orientationd", **image, "axcodes": "RAS"},
                {"_target_": "Spacingd", **image, "pixdim": PIXDIM, "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged",
                    **image,
                    "a_min": -57,
                    "a_max": 164,
                    "b_min": 0,
                    "b_max": 1,
                    "clip": True,
                },
                {"_target_": "EnsureTyped", **image},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": [{"image": str(image_file)}],
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": WINDOW,
            "sw_batch_size": AT_ONCE,
            "overlap": OVERLAP,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", **pred, "softmax": True},
                {
                    "_target_": "Invertd",
                    **pred,
                    "transform": "@preprocessing",
                    "orig_keys": "image",
                    "nearest_interp": False,
                    "to_tensor": True,
                },
                {"_target_": "AsDiscreted", **pred, "argmax": True},
                {"_target_": "SaveImaged", **pred, "output_dir": str(around / "saved")},
            ],
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": True,
        },
        "load": "$@network_def.load_state_dict(torch.load(@bundle_root + '/models/model.pt'))",
        "run": ["$@load", "$@evaluator.run()"],
    }


def _nifti_affine(affine):
    """Return the affine of an array (columns, rows, slices) in RAS."""
    return np.diag((-1.0, -1.0, 1.0, 1.0)) @ affine[:, [2, 1, 0, 3]]


def _passes(network: UNet, device: str) -> tuple[float, int]:
    """Return the seconds of the network alone on all windows of the case, and their number."""
    resampled = [
        max(96, round((n - 1) * mm / to) + 1)
        for n, mm, to in zip(SHAPE[::-1], SPACING_MM[::-1], PIXDIM, strict=True)
    ]
    interval = [round(edge * (1 - OVERLAP)) for edge in WINDOW]
    count = len(dense_patch_slices(resampled, WINDOW, interval))
    windows = torch.rand(AT_ONCE, 1, *WINDOW, device=device)
    on_gpu = device != "cpu"
    with torch.inference_mode(), torch.autocast(torch.device(device).type, enabled=on_gpu):
        begun = time.monotonic()
        for first in range(0, count, AT_ONCE):
            network(windows[: min(AT_ONCE, count - first)])
        if on_gpu:
            torch.cuda.synchronize()
    return time.monotonic() - begun, count


def _command(folder: Path) -> float | None:
    """Return the seconds of MONAI's command; None where it cannot run."""
    if any(importlib.util.find_spec(name) is None for name in ("ignite", "fire")):
        return None
    configs = folder / "unet" / "configs"
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(configs / "inference.json")]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "--meta_file", str(configs / "metadata.json")], capture_output=True, text=True, check=False
    )
    took_s = time.monotonic() - begun
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((folder / "saved").rglob("*.nii.gz")), "it saved something"
    return took_s


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2] if len(sys.argv) > 2 else "cpu")
