"""Train the network of this bundle on simulated phantoms, and measure it on held-out ones.

    python -m pipelines.phantom_inserts.train

Takes some ten minutes on one CPU core, is deterministic on one machine, and writes
``models/model.pt``. The network and its preprocessing are those of ``configs/inference.json``.
The card pins the weights: put the printed SHA-256 into ``card.toml``.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from monai.utils import set_determinism
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from pipelines.bundle import BundlePipeline
from pipelines.codes import HOUNSFIELD_UNIT
from pipelines.contract import Image, read_card
from pipelines.phantom_inserts.simulate import Rod, Sphere, grid_points, random_scene, render

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "models" / "model.pt"
PATCH = 40  # voxels along each side of a training patch
BATCH = 3
SEED = 20
HELD_OUT = 900_000  # first seed of the phantoms that are never trained on
RAS = np.array([[-1.0], [-1.0], [1.0], [1.0]])


def batch(
    rng: np.random.Generator, pixdim_mm: list[float], range_hu: list[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (n, 1, x, y, z) scaled to -1..1, and truth (n, 3, x, y, z), shares of each voxel."""
    images: list[NDArray[np.float32]] = []
    truths: list[NDArray[np.float32]] = []
    while len(images) < BATCH:
        scene = random_scene(rng)
        if not scene.inserts:
            continue
        target = scene.inserts[rng.integers(len(scene.inserts))].centre_mm
        middle = target + rng.uniform(-35, 35, 3)
        scale = rng.uniform(0.8, 1.3)  # a network that knows sizes too well would not know new ones
        affine = np.diag([*(scale * np.array(pixdim_mm)), 1.0]) * RAS  # (x, y, z) of a RAS grid -> LPS mm
        affine[:3, 3] = middle - affine[:3, :3].sum(1) * PATCH / 2
        hu, truth = render(
            scene,
            grid_points(affine, (PATCH,) * 3),
            blur_mm=rng.uniform(1, 4),
            noise_hu=rng.uniform(2, 20),
            seed=int(rng.integers(2**31)),
        )
        low, high = range_hu
        images.append(np.clip((hu - low) / (high - low), 0, 1)[np.newaxis] * 2 - 1)
        truths.append(np.concatenate([1 - truth.sum(0, keepdims=True), truth]))
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(truths))


def train(minutes: float, steps: int) -> None:
    """Write the weights."""
    parser = ConfigParser()
    parser.read_config(FOLDER / "configs" / "inference.json")
    set_determinism(seed=SEED)
    rng = np.random.default_rng(SEED)
    network = parser.get_parsed_content("network_def").train()
    dice_of = DiceCELoss(softmax=True, include_background=False, batch=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=8e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=8e-3, total_steps=steps, pct_start=0.2)
    began = time.monotonic()
    for step in range(1, steps + 1):
        image, truth = batch(rng, parser["pixdim_mm"], parser["range_hu"])
        optimiser.zero_grad()
        answer = network(image)
        # Dice finds the inserts fast but puts contours too far out. Cross-entropy against shares of
        # voxels then moves them to where half of a voxel is inside.
        loss = dice_of(answer, truth.round()) if step < 0.5 * steps else cross_entropy(answer, truth)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0:
            say(f"step {step}/{steps}  loss {loss.item():.5f}  {time.monotonic() - began:.0f} s")
        if time.monotonic() - began > 60 * minutes:
            say("stopped by the time limit: these weights are not reproducible")
            break
    WEIGHTS.parent.mkdir(exist_ok=True)
    torch.save(network.state_dict(), WEIGHTS)


def evaluate(scenes: int) -> None:
    """Print what the bundle achieves on phantoms that were not trained on, run as the node runs it."""
    card = read_card(FOLDER / "card.toml")
    sha256 = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    say(f'{WEIGHTS.stat().st_size / 1e6:.2f} MB; for the card: weights_sha256 = "{sha256}"')
    pipeline = BundlePipeline(replace(card, bundle={**card.bundle, "weights_sha256": sha256}))
    pipeline.load("cpu")
    shared, total, errors = np.zeros(2), np.zeros(2), []
    for seed in range(HELD_OUT, HELD_OUT + scenes):
        rng = np.random.default_rng(seed)
        scene = random_scene(rng)
        spacing_mm = np.array([rng.uniform(1.5, 3), *[rng.uniform(1, 2)] * 2])
        reach_mm = scene.tank.reach_mm + 15
        affine = np.zeros((4, 4))  # axial: slices along z, rows along y, columns along x
        affine[[2, 1, 0, 3], range(4)] = [*spacing_mm, 1]
        affine[:3, 3] = scene.tank.centre_mm - reach_mm
        shape = tuple(np.ceil(2 * reach_mm / spacing_mm).astype(int))
        hu, truth = render(scene, grid_points(affine, shape), noise_hu=rng.uniform(3, 15), seed=seed)
        findings = pipeline.analyze(
            {"ct": Image(array=hu, affine=affine, unit=HOUNSFIELD_UNIT, modality="CT")}
        )
        volumes = [m.value for m in findings.measurements if m.check == "volume"]
        for kind, shape_of in enumerate((Sphere, Rod)):
            mask, true = findings.mask(kind + 1), truth[kind] > 0.5
            shared[kind] += np.count_nonzero(mask & true)
            total[kind] += np.count_nonzero(mask) + np.count_nonzero(true)
            if true_ml := sum(i.volume_ml for i in scene.inserts if isinstance(i, shape_of)):
                errors.append(abs(volumes[kind] / true_ml - 1))
    sphere, rod = 2 * shared / total
    say(f"held out, {scenes} phantoms: Dice sphere {sphere:.3f}, rod {rod:.3f};")
    say(f"error of the volume: median {np.median(errors):.1%}, largest {np.max(errors):.1%}")


def say(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--steps", type=int, default=500)
    arguments.add_argument("--minutes", type=float, default=30.0, help="give up after this long")
    arguments.add_argument("--evaluate", action="store_true", help="only measure the weights that are there")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)  # neighbours on the machine cost less, and sums keep one order
    if not chosen.evaluate:
        train(chosen.minutes, chosen.steps)
    evaluate(scenes=12)
