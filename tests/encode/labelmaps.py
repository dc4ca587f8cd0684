"""Jobs whose segmentation is a label map, as files: what a destination may not take."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

import node
from node.encode import encode
from node.model import Outcome, ResultObject
from node.profile import Profile
from tests.encode.helpers import (
    LEFT_LUNG,
    NODULE_SEGMENT,
    RIGHT_LUNG,
    a_job,
    enhanced_volume,
    findings_of,
    single_frame_volume,
)
from tests.phantoms import make_affine

SHAPE = (9, 31, 27)  #: frames that end within a byte
LABELMAPS = Profile(labelmap="always")


def a_case(folder: Path, source: str):
    """Return a volume, the masks of two lungs and a nodule that do not overlap, and their findings."""
    affine = make_affine("oblique")
    array = np.random.default_rng(5).integers(-1000, 200, SHAPE).astype(np.int16)
    if source == "enhanced":
        volume = enhanced_volume(folder / "in.dcm", array, affine)
    else:
        volume = single_frame_volume(folder / "in", array, affine, reverse=source == "reversed")
    left, right, nodule = (np.zeros(SHAPE, bool) for _ in range(3))
    left[1:8, 4:28, 2:12] = True
    right[1:7, 4:28, 14:25] = True
    nodule[3:5, 9:13, 16:21] = True
    right &= ~nodule
    masks = [left, right, nodule]
    return volume, masks, findings_of(volume, masks, [LEFT_LUNG, RIGHT_LUNG, NODULE_SEGMENT])


def encoded(case, folder: Path, *profiles: Profile) -> Outcome:
    volume, _, findings = case
    folder.mkdir()
    return encode(a_job(), findings, {"ct": volume}, folder, profiles)


def copied(objects, folder: Path) -> tuple[ResultObject, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(replace(o, path=Path(shutil.copy(o.path, folder / o.path.name))) for o in objects)


def things(found) -> list[ResultObject]:
    """Return what stands in, of `stand_ins` that left nothing without."""
    assert all(one.thing is not None for one in found.values()), [one.sentence for one in found.values()]
    return [one.thing for one in found.values()]


def as_ours(dataset: Dataset) -> None:
    """Say what every object of ours says; stand-ins are judged by it before they leave."""
    dataset.InstanceCreatorUID, dataset.SpecificCharacterSet = node.INSTANCE_CREATOR_UID, "ISO_IR 192"
    dataset.ContentQualification = "RESEARCH"
    dataset.ContentDate, dataset.ContentTime = "20261121", "120000"
