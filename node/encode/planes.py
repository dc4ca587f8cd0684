"""What multi-frame results on the grid of a source share: its planes, said as functional groups.

A frame needs only its plane (position, instance and frame number), the same for single-frame and
multi-frame sources; a volume may be some frames of a multi-frame instance.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset

from node.encode.header import Header
from node.encode.items import filed_images, image_reference, item, series_references
from node.encode.repair import decimal_string
from node.errors import EncodeError
from node.model import Slice, Volume, Volumes
from pipelines.contract import Code

SOURCE_FOR_PROCESSING = Code("121322", "DCM", "Source image for image processing operation")
#: Derivation (CID 7203) of what shows outlines.
SEGMENTATION = Code("113076", "DCM", "Segmentation")


def check_planes(volume: Volume) -> None:
    """Refuse a volume whose planes cannot be referred to, or are not where its affine puts them.

    Volumes and measurements trust the affine, the object's frames the positions; a tenth of the
    slice distance apart they would tell different stories.
    """
    affine = volume.image.affine
    if volume.image.is_waveform:
        raise EncodeError("a waveform has no planes on which anything could lie")
    if len(volume.slices) != volume.image.array.shape[0]:
        raise EncodeError("the volume does not name one source plane per slice")
    if not all((volume.study_uid, volume.series_uid, *(plane.sop_instance_uid for plane in volume.slices))):
        raise EncodeError("the source lacks a Study, Series or SOP Instance UID, so nothing can refer to it")
    if len({(plane.sop_instance_uid, plane.frame) for plane in volume.slices}) != len(volume.slices):
        raise EncodeError("two slices of the volume come from the same source plane")
    if volume.image.is_spatial != all(plane.position_mm is not None for plane in volume.slices):
        raise EncodeError("the volume and its planes disagree about having a place in the patient")
    if not volume.image.is_spatial:
        return
    said = np.array([plane.position_mm for plane in volume.slices], dtype=np.float64)
    index = np.arange(len(volume.slices)) % volume.image.slices
    meant = affine[:3, 3] + index[:, None] * affine[:3, 0]
    worst_mm = float(np.abs(said - meant).max())
    if not worst_mm <= 0.1 * volume.image.spacing_mm[0]:
        raise EncodeError(f"a source plane lies {worst_mm:.3f} mm from where the volume has it")


def add_references(dataset: Dataset, volumes: Volumes, role: str) -> None:
    """Name every instance used: the series of the grid first, other studies apart (PS3.3 C.12.2)."""
    here = volumes[role]
    used = [instance for volume in (here, *volumes.values()) for instance in filed_images(volume)]
    by_study = series_references(used, "ReferencedInstanceSequence")
    dataset.ReferencedSeriesSequence = by_study.pop(here.study_uid)
    if by_study:
        dataset.StudiesContainingOtherReferencedInstancesSequence = [
            item(StudyInstanceUID=study, ReferencedSeriesSequence=items) for study, items in by_study.items()
        ]


#: Stack ID where planes have an order but no place in the patient.
STACK = "1"


def plane_dimensions(volume: Volume) -> list[tuple[str, str]]:
    """Return by which attributes of which functional groups the planes of a volume are indexed.

    Planes without a place in the patient are numbered as they came (PS3.3 C.7.6.16.2.2). The same
    place at several times is told apart by its phase, which comes first.
    """
    if not volume.image.is_spatial:
        return [("InStackPositionNumber", "FrameContentSequence")]
    place = ("ImagePositionPatient", "PlanePositionSequence")
    return [("TemporalPositionIndex", "FrameContentSequence"), place] if volume.image.phases > 1 else [place]


def add_dimensions(dataset: Dataset, organization: str, dimensions: Iterable[tuple[str, str]]) -> None:
    """Say by what frames are indexed (PS3.3 C.7.6.17).

    Parameters
    ----------
    organization
        Dimension Organization UID.
    dimensions
        Keyword of an element, and that of the functional group that it is in.
    """
    dataset.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organization)]
    dataset.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organization,
            DimensionIndexPointer=tag_for_keyword(pointer),
            FunctionalGroupPointer=tag_for_keyword(group),
            DimensionDescriptionLabel=dictionary_description(pointer),
        )
        for pointer, group in dimensions
    ]


def plane_index(volume: Volume, index: int) -> tuple[int, ...]:
    """Return the Dimension Index Values of a plane, one for each of `plane_dimensions`."""
    phase, place = divmod(index, volume.image.slices)
    return (phase + 1, place + 1) if volume.image.phases > 1 else (index + 1,)


def plane_content(volume: Volume, index: int) -> dict[str, object]:
    """Return what Frame Content says of a plane beside its Dimension Index Values."""
    if not volume.image.is_spatial:
        return {"StackID": STACK, "InStackPositionNumber": index + 1}
    if volume.image.phases > 1:
        return {"TemporalPositionIndex": index // volume.image.slices + 1}
    return {}


def shared_groups(volume: Volume) -> Dataset:
    """Return Pixel Measures and Plane Orientation, as far as the volume knows them."""
    image = volume.image
    slice_mm, row_mm, column_mm = image.spacing_mm
    shared = Dataset()
    if image.is_calibrated:
        measures = item(PixelSpacing=[decimal_string(row_mm), decimal_string(column_mm)])
        shared.PixelMeasuresSequence = [measures]
    if not image.is_spatial:
        return shared
    columns, rows = (image.affine[:3, axis] for axis in (2, 1))
    thickness = image.facts.get("SliceThickness")
    thick_mm = float(thickness) if isinstance(thickness, int | float) and thickness > 0 else slice_mm
    cosines = (*(columns / np.linalg.norm(columns)), *(rows / np.linalg.norm(rows)))
    if image.is_calibrated:
        measures.SliceThickness = decimal_string(thick_mm)
        measures.SpacingBetweenSlices = decimal_string(slice_mm)
    orientation = item(ImageOrientationPatient=[decimal_string(float(c)) for c in cosines])
    shared.PlaneOrientationSequence = [orientation]
    return shared


def plane_groups(plane: Slice, derivation: Dataset, purpose: Dataset) -> Dataset:
    """Return Plane Position and Derivation Image of one frame (PS3.3 C.7.6.16.2).

    The two codes are the same for all of a thousand frames, so they are made once.
    """
    source = image_reference(
        plane,
        PurposeOfReferenceCodeSequence=[purpose],
        SpatialLocationsPreserved="YES",
    )
    groups = item(
        DerivationImageSequence=[item(DerivationCodeSequence=[derivation], SourceImageSequence=[source])]
    )
    if plane.position_mm is not None:
        position = [decimal_string(float(v)) for v in plane.position_mm]
        groups.PlanePositionSequence = [item(ImagePositionPatient=position)]
    return groups


def add_frame_of_reference(dataset: Dataset, volume: Volume, header: Header) -> None:
    """Say the source's frame of reference where it has one; none is ever invented (R-10).

    Images without a place in the patient must have Patient Orientation, empty where the planes may
    differ in it (Type 2C, PS3.3 C.7.6.1).
    """
    if not volume.image.is_spatial:
        dataset.PatientOrientation = None
    if volume.frame_of_reference_uid:
        dataset.FrameOfReferenceUID = volume.frame_of_reference_uid
        dataset.PositionReferenceIndicator = header.position_reference or None


def add_lossy(dataset: Dataset, header: Header) -> None:
    """Say whether any source was ever compressed with loss (R-09)."""
    dataset.LossyImageCompression = "01" if header.lossy.ever else "00"
    if header.lossy.ratio:
        dataset.LossyImageCompressionRatio = header.lossy.ratio
    if header.lossy.method:
        dataset.LossyImageCompressionMethod = header.lossy.method
