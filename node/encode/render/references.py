"""References to the images that an object is about."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset

from node.encode.items import sop_references
from node.model import Volume


def plane_references(volume: Volume, indices: Iterable[int]) -> list[Dataset]:
    """Return one reference per instance for these slices, with the frames where it has several."""
    references: dict[str, Dataset] = {}
    frames: dict[str, list[int]] = {}
    for index in indices:
        plane = volume.slices[index]
        uid = plane.sop_instance_uid
        references.setdefault(uid, *sop_references([(plane.sop_class_uid, uid)]))
        if plane.frame is not None:
            frames.setdefault(uid, []).append(plane.frame)
    for uid, numbers in frames.items():
        references[uid].ReferencedFrameNumber = sorted(numbers)
    return list(references.values())
