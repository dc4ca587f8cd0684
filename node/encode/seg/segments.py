"""Segments as items of a Segment Sequence (PS3.3 C.8.20.2, Table C.8.20-4)."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from skimage.color import rgb2lab

from node.encode.common import algorithm_identification
from node.encode.items import coded, item
from node.encode.material import Material
from node.encode.repair import cut
from node.encode.tracking import tracking_id, tracking_uid
from pipelines.contract import Code, Segment

SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept")
BACKGROUND = Code("125040", "DCM", "Background")
BLACK = (0, 0, 0)


def segment_item(material: Material, segment: Segment, number: int) -> Dataset:
    """Return the description of one segment of the findings under its number within an object."""
    kind = coded(segment.kind)
    side = [coded(segment.laterality)] if segment.laterality else None
    if side:
        kind.SegmentedPropertyTypeModifierCodeSequence = side
    region = coded(segment.anatomic_region) if segment.anatomic_region else None
    if region is not None and side:
        region.AnatomicRegionModifierSequence = [coded(segment.laterality)] if segment.laterality else None
    algorithm = material.algorithm
    return item(
        SegmentNumber=number,
        SegmentLabel=cut(segment.label, 64),
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName=algorithm.name,
        SegmentationAlgorithmIdentificationSequence=[algorithm_identification(algorithm)],
        SegmentedPropertyCategoryCodeSequence=[coded(segment.category)],
        SegmentedPropertyTypeCodeSequence=[kind],
        AnatomicRegionSequence=[region] if region is not None else None,
        TrackingID=tracking_id(segment),
        TrackingUID=tracking_uid(material, segment),
        RecommendedDisplayCIELabValue=cielab(segment.colour_rgb),
    )


def background_item(material: Material) -> Dataset:
    """Return the description of what belongs to no segment, which a label map must have.

    It is nothing that was found, so it has no tracking identifiers.
    """
    return item(
        SegmentNumber=0,
        SegmentLabel="Background",
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName=material.algorithm.name,
        SegmentedPropertyCategoryCodeSequence=[coded(SPATIAL_CONCEPT)],
        SegmentedPropertyTypeCodeSequence=[coded(BACKGROUND)],
        RecommendedDisplayCIELabValue=cielab(BLACK),
    )


def cielab(colour_rgb: tuple[int, int, int]) -> list[int]:
    """Return an sRGB colour, 0..255, as CIELab scaled to 16 bit (PS3.3 C.10.7.1.1)."""
    lab = rgb2lab(np.array(colour_rgb, dtype=np.float64).reshape(1, 1, 3) / 255)[0, 0]
    scaled = (lab + np.array([0, 128, 128])) * 65535 / np.array([100, 255, 255])
    return [int(v) for v in np.clip(np.rint(scaled), 0, 65535)]
