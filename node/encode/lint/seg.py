"""What a Segmentation must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from node.encode.items import code_of, instances_of
from node.encode.material import Material
from node.encode.seg.grid import occupied_frames, overlap, plane_at
from node.encode.seg.readback import EncodedSeg, read_seg
from node.model import ResultObject, Volume, Volumes
from pipelines.contract import Findings, Segment

#: How far written geometry may be from the source's: OHIF compares positions to 0.001 mm.
POSITION_MM = 0.001
DIRECTION = 1e-4


def seg_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a Segmentation."""
    findings, volumes, role = material.findings, material.volumes, material.role
    seg = read_seg(result.path, material.volume)
    if dataset.SOPClassUID != SegmentationStorage or dataset.Modality != "SEG":
        yield "the class or modality is not Segmentation"
    if dataset.SegmentationType != "BINARY" or (dataset.BitsAllocated, dataset.BitsStored) != (1, 1):
        yield "it is not BINARY with one bit per pixel"
    yield from _reference_faults(dataset, volumes, role)
    yield from _grid_faults(seg, material.volume)
    yield from _segment_faults(dataset, findings)
    yield from _frame_faults(seg, findings, material.volume)


def _reference_faults(dataset: Dataset, volumes: Volumes, role: str) -> Iterator[str]:
    volume = volumes[role]
    series = dataset.get("ReferencedSeriesSequence") or [Dataset()]
    if series[0].get("SeriesInstanceUID") != volume.series_uid:
        yield "the first Referenced Series is not the one whose grid is used, so viewers cannot open it"
    studies = dataset.get("StudiesContainingOtherReferencedInstancesSequence") or ()
    everywhere = [*series, *(s for study in studies for s in study.ReferencedSeriesSequence)]
    named = {
        reference.ReferencedSOPInstanceUID
        for one in everywhere
        for reference in one.get("ReferencedInstanceSequence") or ()
    }
    used = {uid for v in volumes.values() for _, uid in instances_of(v)}
    if named != used:
        yield "the referenced instances are not those that were used"
    if dataset.get("FrameOfReferenceUID", "") != volume.frame_of_reference_uid:
        yield "the frame of reference is not that of the source"


def _grid_faults(seg: EncodedSeg, volume: Volume) -> Iterator[str]:
    dataset = seg.dataset
    if (dataset.Rows, dataset.Columns) != volume.image.array.shape[1:]:
        yield "Rows and Columns are not those of the source"
    shared = dataset.SharedFunctionalGroupsSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    written = [float(v) for v in (measures.SpacingBetweenSlices, *measures.PixelSpacing)]
    if not np.allclose(written, volume.image.spacing_mm, rtol=1e-5, atol=0):
        yield "the spacing is not that of the source"
    axes = volume.image.affine[:3, [2, 1]]
    cosines = np.array([float(v) for v in shared.PlaneOrientationSequence[0].ImageOrientationPatient])
    if not np.allclose(cosines, (axes / np.linalg.norm(axes, axis=0)).T.ravel(), atol=DIRECTION):
        yield "the orientation is not that of the source"


def _segment_faults(dataset: Dataset, findings: Findings) -> Iterator[str]:
    items = dataset.SegmentSequence
    if [int(s.SegmentNumber) for s in items] != [s.number for s in findings.segments]:
        yield "the segments are not those of the findings"
        return
    if len({s.get("TrackingUID") for s in items}) != len(items):
        yield "two segments share one Tracking UID"
    equipment = dataset.ContributingEquipmentSequence[0]
    maker, name, version = equipment.Manufacturer, equipment.ManufacturerModelName, equipment.SoftwareVersions
    for segment, found in zip(items, findings.segments, strict=True):
        number = found.number
        if not segment.get("TrackingID") or not segment.get("TrackingUID"):
            yield f"segment {number} has no tracking identifier"
        if not 0 < len(str(segment.get("SegmentLabel", ""))) <= 64:
            yield f"segment {number} has no label, or one above 64 characters"
        if not segment.get("RecommendedDisplayCIELabValue"):
            yield f"segment {number} has no display colour"
        algorithms = segment.get("SegmentationAlgorithmIdentificationSequence") or [Dataset()]
        said = tuple(algorithms[0].get(f"Algorithm{k}") for k in ("Source", "Name", "Version"))
        if said != (maker, name, version) or segment.get("SegmentAlgorithmName") != name:
            yield f"segment {number} names another algorithm than the equipment"
        yield from _code_faults(segment, found)


def _code_faults(segment: Dataset, found: Segment) -> Iterator[str]:
    number = found.number
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    category = segment.SegmentedPropertyCategoryCodeSequence[0]
    if code_of(category)[:2] != found.category[:2] or code_of(kind)[:2] != found.kind[:2]:
        yield f"segment {number} has other codes than the findings"
    sides = [code_of(m) for m in kind.get("SegmentedPropertyTypeModifierCodeSequence") or ()]
    if [side[:2] for side in sides] != ([found.laterality[:2]] if found.laterality else []):
        yield f"segment {number} lies on another side than the findings say"
    regions = [code_of(r) for r in segment.get("AnatomicRegionSequence") or ()]
    if [region[:2] for region in regions] != ([found.anatomic_region[:2]] if found.anatomic_region else []):
        yield f"segment {number} lies in another region than the findings say"


def _frame_faults(seg: EncodedSeg, findings: Findings, volume: Volume) -> Iterator[str]:
    """Each frame: its segment, its source, its place, its pixels."""
    dataset = seg.dataset
    groups = dataset.PerFrameFunctionalGroupsSequence
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if int(dataset.NumberOfFrames) != len(groups):
        yield "Number of Frames and the functional groups disagree"
    bits = len(groups) * rows * columns
    needed = -(-bits // 8)
    if len(dataset.PixelData) != needed + needed % 2:
        yield "Pixel Data has not the length that its frames need"
    known = {segment.number for segment in findings.segments}
    occupied = set(occupied_frames(findings, volume.image.array.shape[0]))
    written = {(number, index) for number, frames in seg.frames.items() for index in frames}
    if len(written) != len(groups):
        yield "two frames show the same segment on the same plane"
    if not set(seg.frames) <= known:
        yield "a frame belongs to a segment that is not described"
    if occupied and written != occupied:
        yield "the frames are not those where the findings have voxels"
    displaced = unequal = undimensioned = 0
    for number, frames in seg.frames.items():
        for index, frame in frames.items():
            group = groups[frame]
            wanted = volume.slices[index].position_mm
            said = group.get("PlanePositionSequence")
            position = [float(v) for v in said[0].ImagePositionPatient] if said else None
            displaced += (position is None) != (wanted is None)
            if position is not None and wanted is not None:
                displaced += not np.allclose(position, wanted, atol=POSITION_MM)
            undimensioned += list(group.FrameContentSequence[0].DimensionIndexValues) != [number, index + 1]
            if number in known and seg.shape[1:] == volume.image.array.shape[1:]:
                unequal += not np.array_equal(seg.plane(frame, number), plane_at(findings, number, index))
    if displaced:
        yield f"{displaced} frames do not lie where their source plane lies"
    if undimensioned:
        yield f"{undimensioned} frames have other Dimension Index Values than segment and plane"
    if unequal:
        yield f"{unequal} frames do not hold the pixels of the findings"
    if dataset.get("SegmentsOverlap") != ("YES" if overlap(findings) else "NO"):
        yield "Segments Overlap does not say whether segments overlap"
