"""Maps of numbers (heat maps, parameters, probabilities) as Parametric Maps (PS3.3 A.75, C.8.32).

32 bit floating point on the source's own grid; a value is what it says, in its unit. A map is
written from its first to its last slice with a value that is not 0, without gaps and for every phase
of a cine, so that a viewer can take the frames for a volume; where there is no frame, the value is 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from node.encode.common import ARTIFICIAL_INTELLIGENCE, declare_schemes, new_result
from node.encode.items import coded, item
from node.encode.material import Material, NotApplicable
from node.encode.planes import (
    SOURCE_FOR_PROCESSING,
    add_dimensions,
    add_frame_of_reference,
    add_lossy,
    add_references,
    check_planes,
    plane_content,
    plane_dimensions,
    plane_groups,
    shared_groups,
)
from node.encode.repair import cut, decimal_string
from node.encode.tracking import ANATOMICAL_CATEGORIES
from node.errors import EncodeError
from node.model import Volume
from pipelines.contract import Code, Map

QUANTITY = Code("246205007", "SCT", "Quantity")
FINDING = Code("121071", "DCM", "Finding")
#: Where nothing more is known than that it is a body.
TISSUE = Code("85756007", "SCT", "Tissue")
#: Laterality (CID 244) -> Frame Laterality.
SIDES = {"24028007": "R", "7771000": "L", "51440002": "B"}
#: A map of values, not an image of its own sort (PS3.3 C.8.32.2).
IMAGE_TYPE = ["DERIVED", "PRIMARY", "VOLUME", "QUANTITY"]


def make_parametric_maps(material: Material) -> Iterator[Dataset]:
    """Yield one Parametric Map for each map that has a value other than 0.

    Raises
    ------
    NotApplicable
        The images have no frame of reference, which the object needs (PS3.3 A.75.3), or, once the
        others are made: some maps are 0 everywhere, or larger than an object may be.
    EncodeError
        A map is not on the grid of the images, or holds a value that is not finite.
    """
    volume, maps = material.volume, material.findings.maps
    if not maps:
        raise NotApplicable("No Parametric Map was made: the pipeline gives no maps.")
    if not (volume.frame_of_reference_uid and volume.image.is_spatial):
        raise NotApplicable("No Parametric Map was made: the images have no frame of reference.")
    check_planes(volume)
    number, empty, large = 0, 0, 0
    for one in maps:
        occupied = written_slices(one, material)
        if not occupied:
            empty += 1
        elif len(occupied) * one.array[0].nbytes > material.job.presentation.max_object_mb * 1e6:
            large += 1
        else:
            number += 1
            yield _parametric_map(material, one, occupied, number)
    if empty or large:
        raise NotApplicable(
            f"Of {len(maps)} maps {number} became a Parametric Map: {empty} hold nothing but 0, "
            f"{large} need more than max_object_mb."
        )


def written_slices(one: Map, material: Material) -> list[int]:
    """Return the slices of a map that are written, in the order of their frames; none if all values are 0.

    That order is along the normal of the planes, phase by phase: dcmqi takes the first frame for the
    lowest, wherever it says that it lies.

    Raises
    ------
    EncodeError
        The map is not on the grid of the images, or holds a value that is not finite.
    """
    if one.array.shape != material.volume.image.array.shape:
        raise EncodeError(f"a map has the shape {one.array.shape}, the image another")
    if not all(np.isfinite(plane).all() for plane in one.array):
        raise EncodeError("a map holds a value that is not a finite number")
    image = material.volume.image
    occupied = sorted({index % image.slices for index, plane in enumerate(one.array) if plane.any()})
    places = range(occupied[0], occupied[-1] + 1) if occupied else range(0)
    steps, rows, columns = image.affine[:3, :3].T
    if np.dot(np.cross(columns, rows), steps) < 0:
        places = places[::-1]
    return [phase * image.slices + place for phase in range(image.phases) for place in places]


def frame_indices(volume: Volume, indices: Sequence[int]) -> list[list[int]]:
    """Return the Dimension Index Values of frames: their rank along the normal, below their phase."""
    phases = volume.image.phases
    places = len(indices) // phases
    ranks = [[number // places + 1, number % places + 1] for number in range(len(indices))]
    return ranks if phases > 1 else [[place] for _, place in ranks]


def _parametric_map(material: Material, one: Map, indices: Sequence[int], number: int) -> Dataset:
    volume, header = material.volume, material.header
    values = np.ascontiguousarray(one.array[indices], dtype="<f4")
    dataset = new_result(
        material, "parametric-map", sop_class=ParametricMapStorage, modality="OT", number=number
    )
    if header.body_part:
        dataset.BodyPartExamined = header.body_part
    if header.requests:
        dataset.RequestAttributesSequence = list(header.requests)
    add_frame_of_reference(dataset, volume, header)
    dataset.ImageType = IMAGE_TYPE
    dataset.AcquisitionContextSequence = []
    dataset.ContentLabel = "MAP"
    dataset.ContentDescription = cut(one.label, 64)
    dataset.ContentCreatorName = None
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"
    add_lossy(dataset, header)
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated = 32
    add_references(dataset, material.volumes, material.role)
    organization = material.job.uid(f"parametric-map {number} dimensions")
    add_dimensions(dataset, organization, plane_dimensions(volume))
    dataset.SharedFunctionalGroupsSequence = [_shared(material, one)]
    # what it was derived by: nothing in CID 7203 says that a model computed it
    purpose, derivation = coded(SOURCE_FOR_PROCESSING), coded(ARTIFICIAL_INTELLIGENCE)
    groups = []
    for index, values_of_frame in zip(indices, frame_indices(volume, indices), strict=True):
        group = plane_groups(volume.slices[index], derivation, purpose)
        content = plane_content(volume, index)
        group.FrameContentSequence = [item(DimensionIndexValues=values_of_frame, **content)]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    declare_schemes(dataset, dataset.SharedFunctionalGroupsSequence, material.algorithm.maker, header)
    dataset.FloatPixelData = values.tobytes()
    return dataset


def _shared(material: Material, one: Map) -> Dataset:
    """Return what all frames share, above all what the values are and in which unit."""
    low, high = float(min(0.0, one.array.min())), float(max(0.0, one.array.max()))
    shared = shared_groups(material.volume)
    shared.ParametricMapFrameTypeSequence = [item(FrameType=IMAGE_TYPE)]
    shared.FrameAnatomySequence = [_anatomy(material, one)]
    shared.PixelValueTransformationSequence = [item(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")]
    shared.FrameVOILUTSequence = [
        item(
            WindowCenter=decimal_string((low + high) / 2),
            WindowWidth=decimal_string(high - low),
            VOILUTFunction="LINEAR_EXACT",
        )
    ]
    shared.RealWorldValueMappingSequence = [
        item(
            LUTLabel=cut(one.label, 16),
            LUTExplanation=cut(f"{one.label}; 0 where there is no frame", 64),
            DoubleFloatRealWorldValueFirstValueMapped=low,
            DoubleFloatRealWorldValueLastValueMapped=high,
            RealWorldValueIntercept=0.0,
            RealWorldValueSlope=1.0,
            MeasurementUnitsCodeSequence=[coded(one.unit)],
            QuantityDefinitionSequence=[*_quantity(material, one)],
        )
    ]
    return shared


def _anatomy(material: Material, one: Map) -> Dataset:
    """Return where the values are from (PS3.3 C.7.6.16.2.8), without which dcmqi, and so 3D Slicer, crash."""
    region, side = TISSUE, "U"
    if one.segment is not None:
        segment = material.findings.segments[one.segment - 1]
        anatomical = segment.category.value in ANATOMICAL_CATEGORIES
        region = segment.kind if anatomical else segment.anatomic_region or TISSUE
        side = SIDES.get(segment.laterality.value, "U") if segment.laterality else "U"
    return item(FrameLaterality=side, AnatomicRegionSequence=[coded(region)])


def _quantity(material: Material, one: Map) -> Iterator[Dataset]:
    """Yield what the values are and, for the probability of a segment, of what."""
    yield _answer(QUANTITY, one.quantity)
    if one.segment is not None:
        yield _answer(FINDING, material.findings.segments[one.segment - 1].kind)


def _answer(name: Code, value: Code) -> Dataset:
    return item(ValueType="CODE", ConceptNameCodeSequence=[coded(name)], ConceptCodeSequence=[coded(value)])
