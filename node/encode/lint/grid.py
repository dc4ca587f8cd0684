"""What objects on the grid of a source must say of it: the images used, the spacing, the directions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset

from node.encode.items import used_instances
from node.encode.material import Material
from pipelines.contract import Image

#: How far written geometry may be from the source's: OHIF compares positions to 0.001 mm.
POSITION_MM = 0.001
DIRECTION = 1e-4


def reference_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    """Yield what is wrong with the references to the images used and to their frame of reference."""
    volume = material.volume
    series = dataset.get("ReferencedSeriesSequence") or [Dataset()]
    if series[0].get("SeriesInstanceUID") != volume.series_uid:
        yield "the first Referenced Series is not the one whose grid is used, so viewers cannot open it"
    studies = dataset.get("StudiesContainingOtherReferencedInstancesSequence") or ()
    everywhere = [*series, *(s for study in studies for s in study.ReferencedSeriesSequence)]
    named = {
        str(reference.ReferencedSOPInstanceUID)
        for one in everywhere
        for reference in one.get("ReferencedInstanceSequence") or ()
    }
    if named != used_instances(material.volumes):
        yield "the referenced instances are not those that were used"
    if dataset.get("FrameOfReferenceUID", "") != volume.frame_of_reference_uid:
        yield "the frame of reference is not that of the source"


def grid_faults(dataset: Dataset, image: Image) -> Iterator[str]:
    """Yield what is wrong with rows, columns, spacing and orientation."""
    if (dataset.Rows, dataset.Columns) != image.array.shape[1:]:
        yield "Rows and Columns are not those of the source"
    shared = dataset.SharedFunctionalGroupsSequence[0]
    if ("PixelMeasuresSequence" in shared) != image.is_calibrated:
        yield "Pixel Measures are there although nobody knows them, or absent although known"
    elif image.is_calibrated:
        measures = shared.PixelMeasuresSequence[0]
        between = [measures.SpacingBetweenSlices] if image.is_spatial else [image.spacing_mm[0]]
        written = [float(v) for v in (*between, *measures.PixelSpacing)]
        if not np.allclose(written, image.spacing_mm, rtol=1e-5, atol=0):
            yield "the spacing is not that of the source"
    if ("PlaneOrientationSequence" in shared) != image.is_spatial:
        yield "an orientation is there although the source has none, or absent although it has one"
    elif image.is_spatial:
        yield from orientation_faults(shared, image)


def orientation_faults(shared: Dataset, image: Image) -> Iterator[str]:
    """Yield that the directions of rows and columns in functional groups are not those of the image."""
    axes = image.affine[:3, [2, 1]]
    cosines = np.array([float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    if not np.allclose(cosines, (axes / np.linalg.norm(axes, axis=0)).T.ravel(), atol=DIRECTION):
        yield "the orientation is not that of the source"
