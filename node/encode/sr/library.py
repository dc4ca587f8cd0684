"""The images that a report is about (TID 1600, 1601, 1602, 1604)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from node.encode.header import UNREADABLE
from node.encode.items import instances_of, item
from node.encode.material import Material
from node.encode.repair import Unrepairable, repair
from node.encode.sr import tree
from node.encode.sr.document import modality_code
from node.encode.sr.groups import time_point
from node.encode.sr.tree import CONTAINS, HAS_ACQ_CONTEXT
from node.model import Slice, Volume
from pipelines.contract import Code

IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
MODALITY = Code("121139", "DCM", "Modality")
STUDY_DATE = Code("111060", "DCM", "Study Date")
FRAME_OF_REFERENCE = Code("112227", "DCM", "Frame of Reference UID")
ROWS = Code("110910", "DCM", "Pixel Data Rows")
COLUMNS = Code("110911", "DCM", "Pixel Data Columns")
HORIZONTAL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
VERTICAL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")
SLICE_SPACING = Code("112226", "DCM", "Spacing between slices")
_ORIENTATION = tuple(
    Code(str(110904 + 3 * i + j), "DCM", f"Image Orientation (Patient) {axis} {part}")
    for i, axis in enumerate(("Row", "Column"))
    for j, part in enumerate("XYZ")
)
MILLIMETRE = Code("mm", "UCUM", "mm")
PIXELS = Code("{pixels}", "UCUM", "pixels")
COSINE = Code("{-1:1}", "UCUM", "{-1:1}")


def key_images(keys: Sequence[Slice], modality: str) -> Dataset:
    """Return the images that something is drawn on, each once.

    The group is a row of TID 1600; TID 1601 begins at the image, so no container names it.
    """
    once = list(dict.fromkeys((k.sop_class_uid, k.sop_instance_uid) for k in keys))
    shared = [tree.code(HAS_ACQ_CONTEXT, MODALITY, modality_code(modality))]
    return _library([tree.container(CONTAINS, IMAGE_LIBRARY_GROUP, [*shared, *_images(once)])])


def whole_library(material: Material) -> list[Dataset]:
    """Return every image that was used, a group for each input with what its images have in common.

    A recording is no image; the groups of measurements refer to it. Without any image there is none.
    """
    groups = [
        tree.container(
            CONTAINS,
            IMAGE_LIBRARY_GROUP,
            [*time_point(material, role), *_descriptors(volume), *_images(instances_of(volume))],
        )
        for role, volume in material.volumes.items()
        if not volume.image.is_waveform
    ]
    return [_library(groups)] if groups else []


def _library(groups: Sequence[Dataset]) -> Dataset:
    return tree.container(CONTAINS, IMAGE_LIBRARY, groups, template="1600")


def _images(instances: Sequence[tuple[str, str]]) -> list[Dataset]:
    return [
        tree.image(CONTAINS, None, item(ReferencedSOPClassUID=c, ReferencedSOPInstanceUID=i))
        for c, i in instances
    ]


def _descriptors(volume: Volume) -> list[Dataset]:
    """TID 1602, and for slices of a body TID 1604."""
    image = volume.image
    _, rows, columns = image.array.shape
    found = [tree.code(HAS_ACQ_CONTEXT, MODALITY, modality_code(image.modality))]
    if date := _study_date(volume):
        found.append(tree.day(HAS_ACQ_CONTEXT, STUDY_DATE, date))
    if volume.frame_of_reference_uid:
        found.append(tree.uidref(HAS_ACQ_CONTEXT, FRAME_OF_REFERENCE, volume.frame_of_reference_uid))
    found += [
        tree.num(HAS_ACQ_CONTEXT, ROWS, rows, PIXELS),
        tree.num(HAS_ACQ_CONTEXT, COLUMNS, columns, PIXELS),
    ]
    slice_mm, row_mm, column_mm = (float(f"{v:.7g}") for v in image.spacing_mm)
    if image.is_calibrated:
        found += [
            tree.num(HAS_ACQ_CONTEXT, HORIZONTAL_SPACING, column_mm, MILLIMETRE),
            tree.num(HAS_ACQ_CONTEXT, VERTICAL_SPACING, row_mm, MILLIMETRE),
        ]
    if image.is_spatial:
        found.append(tree.num(HAS_ACQ_CONTEXT, SLICE_SPACING, slice_mm, MILLIMETRE))
        vectors = (image.affine[:3, axis] for axis in (2, 1))  # along a row, then down a column
        cosines = np.concatenate([vector / np.linalg.norm(vector) for vector in vectors])
        found += [
            tree.num(HAS_ACQ_CONTEXT, name, round(float(cosine), 9) + 0.0, COSINE)
            for name, cosine in zip(_ORIENTATION, cosines, strict=True)
        ]
    return found


def _study_date(volume: Volume) -> str:
    """Return the date of the study an input belongs to, "" where the source says none that is legal."""
    try:
        found = pydicom.dcmread(volume.slices[0].path, stop_before_pixels=True, specific_tags=["StudyDate"])
        return repair("DA", found.get("StudyDate"))
    except (OSError, InvalidDicomError, Unrepairable, *UNREADABLE):
        return ""
