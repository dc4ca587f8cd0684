"""What a Segmentation must be, beside what every object must be (`node.encode.lint`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from node.encode.identity import Algorithm
from node.encode.items import code_of
from node.encode.lint.grid import POSITION_MM, grid_faults, reference_faults
from node.encode.material import Material
from node.encode.planes import plane_content, plane_dimensions, plane_index
from node.encode.seg.fractional import CERTAIN, count_fractions, fraction_at, probability_maps
from node.encode.seg.grid import count_voxels, labels_at, plane_at
from node.encode.seg.readback import EncodedSeg, read_seg
from node.encode.seg.segments import BACKGROUND
from node.encode.tracking import tracking_uid
from node.model import ResultObject, Volume
from node.profile import LABELMAP_CLASS
from pipelines.contract import Segment


def seg_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of the outlines: a BINARY or a Label Map Segmentation."""
    seg = _read(result, material)
    bits = (int(dataset.BitsAllocated), int(dataset.BitsStored), int(dataset.HighBit))
    if seg.encoding == "LABELMAP":
        if dataset.SOPClassUID != LABELMAP_CLASS or dataset.Modality != "SEG":
            yield "the class or modality is not Label Map Segmentation"
        if bits not in ((8, 8, 7), (16, 16, 15)):
            yield "it is a label map without 8 or 16 bits per pixel"
        yield from _background_faults(dataset)
    else:
        if dataset.SOPClassUID != SegmentationStorage or dataset.Modality != "SEG":
            yield "the class or modality is not Segmentation"
        if seg.encoding != "BINARY" or bits != (1, 1, 0):
            yield "it is not BINARY with one bit per pixel"
    if dataset.get("SegmentsOverlap") != "NO":
        yield "Segments Overlap is not NO, or is not said"
    yield from _common_faults(seg, material)
    segments = _segments_of(dataset, material)
    if segments is None:
        yield "the segments are not those of the findings"
        return
    yield from _segment_faults(dataset, segments, material.algorithm)
    if seg.encoding == "LABELMAP":
        yield from _labelmap_faults(seg, segments, material)
    else:
        yield from _binary_faults(seg, segments, material)


def fractional_faults(dataset: Dataset, result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of a FRACTIONAL Segmentation."""
    seg = _read(result, material)
    if dataset.SOPClassUID != SegmentationStorage or dataset.Modality != "SEG":
        yield "the class or modality is not Segmentation"
    bits = (int(dataset.BitsAllocated), int(dataset.BitsStored), int(dataset.HighBit))
    if seg.encoding != "FRACTIONAL" or bits != (8, 8, 7):
        yield "it is not FRACTIONAL with eight bits per pixel"
        return
    if dataset.get("SegmentationFractionalType") != "PROBABILITY":
        yield "the fractions are not said to be probabilities"
    if dataset.get("MaximumFractionalValue") != CERTAIN:
        yield f"Maximum Fractional Value is not {CERTAIN}, so every probability would be another"
    yield from _common_faults(seg, material)
    segments = _segments_of(dataset, material)
    maps = probability_maps(material.findings, material.volume)
    if segments is None or not {segment.number for segment in segments} <= set(maps):
        yield "the segments are not those whose probability the findings give"
        return
    yield from _segment_faults(dataset, segments, material.algorithm)
    yield from _identity_faults(seg)
    voxels = np.stack([count_fractions(maps[segment.number]) for segment in segments])
    yield from _extent_faults(seg, voxels)
    unequal = 0
    for number, frames in seg.frames.items():
        for index, frame in frames.items():
            if number <= len(segments) and seg.shape == material.volume.image.array.shape:
                wanted = fraction_at(maps[segments[number - 1].number], index)
                unequal += not np.array_equal(seg.pixels[frame], wanted)
    if unequal:
        yield f"{unequal} frames do not hold the probabilities of the findings"


def _read(result: ResultObject, material: Material) -> EncodedSeg:
    """Return the object as it lies on disk; what was read from the same bytes before will do."""
    for place in material.outlines.places.values() if material.outlines else ():
        if (place.thing.path, place.thing.sha256) == (result.path, result.sha256):
            return place.seg
    return read_seg(result.path, material.volume)


def _segments_of(dataset: Dataset, material: Material) -> list[Segment] | None:
    """Return the findings' segments that an object describes, in its order; None if it is unsound."""
    found = {tracking_uid(material, segment): segment for segment in material.findings.segments}
    items = [s for s in dataset.SegmentSequence if int(s.SegmentNumber) > 0]
    segments = [found.get(str(s.get("TrackingUID", ""))) for s in items]
    known = [segment for segment in segments if segment is not None]
    if len(known) < len(items) or [int(s.SegmentNumber) for s in items] != list(range(1, len(items) + 1)):
        # told apart from what is merely lost: an item without identifier keeps its place
        return _in_place(items, material.findings.segments)
    return known


def _in_place(items: Sequence[Dataset], segments: Sequence[Segment]) -> list[Segment] | None:
    """Return the segments when the object describes all of them in their order, identified or not."""
    numbers = [int(s.SegmentNumber) for s in items]
    return list(segments) if numbers == [segment.number for segment in segments] else None


def _common_faults(seg: EncodedSeg, material: Material) -> Iterator[str]:
    """What holds for every encoding: references, grid, planes."""
    yield from reference_faults(seg.dataset, material)
    yield from grid_faults(seg.dataset, material.volume.image)
    yield from _plane_faults(seg, material.volume)


def _plane_faults(seg: EncodedSeg, volume: Volume) -> Iterator[str]:
    """Each frame: its source, its place, its indices."""
    dataset = seg.dataset
    if int(dataset.NumberOfFrames) != len(seg.groups):
        yield "Number of Frames and the functional groups disagree"
    bits = len(seg.groups) * int(dataset.Rows) * int(dataset.Columns) * int(dataset.BitsAllocated)
    needed = -(-bits // 8)
    native = not dataset.file_meta.TransferSyntaxUID.is_compressed
    if native and len(dataset.PixelData) != needed + needed % 2:
        yield "Pixel Data has not the length that its frames need"
    indexed = [
        (d.DimensionIndexPointer, d.get("FunctionalGroupPointer")) for d in dataset.DimensionIndexSequence
    ]
    wanted_indices = [(tag_for_keyword(k), tag_for_keyword(g)) for k, g in plane_dimensions(volume)]
    if seg.encoding != "LABELMAP":
        wanted_indices.insert(0, (0x0062000B, 0x0062000A))  # Referenced Segment Number
    if indexed != wanted_indices:
        yield "the Dimension Index Sequence does not index frames by their segment and plane"
    displaced = undimensioned = 0
    for group in seg.groups:
        wanted, said = volume.slices[group.index].position_mm, group.position_mm
        displaced += (said is None) != (wanted is None)
        if said is not None and wanted is not None:
            displaced += not np.allclose(said, wanted, atol=POSITION_MM)
        segment = () if group.number is None else (group.number,)
        said_beside = (group.stack_position, group.temporal_position)
        wanted_beside = plane_content(volume, group.index)
        undimensioned += group.dimensions != (*segment, *plane_index(volume, group.index)) or said_beside != (
            wanted_beside.get("InStackPositionNumber"),
            wanted_beside.get("TemporalPositionIndex"),
        )
    if displaced:
        yield f"{displaced} frames do not lie where their source plane lies"
    if undimensioned:
        yield f"{undimensioned} frames have other Dimension Index Values than segment and plane"


def _background_faults(dataset: Dataset) -> Iterator[str]:
    """Label maps describe what is no segment as well (PS3.3 C.8.20.2.3)."""
    last = dataset.SegmentSequence[-1]
    kinds = last.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
    if int(last.SegmentNumber) != 0 or code_of(kinds[0])[:2] != BACKGROUND[:2]:
        yield "the background is not described as segment 0, behind the others"
    if dataset.get("PixelPaddingValue") != 0:
        yield "Pixel Padding Value does not name the background"
    if any("SegmentIdentificationSequence" in g for g in dataset.PerFrameFunctionalGroupsSequence):
        yield "a frame of a label map is said to be of one segment"


def _segment_faults(dataset: Dataset, segments: Sequence[Segment], algorithm: Algorithm) -> Iterator[str]:
    wanted = (algorithm.maker, algorithm.name, algorithm.version)
    items = [s for s in dataset.SegmentSequence if int(s.SegmentNumber) > 0]
    if len({s.get("TrackingUID") for s in items}) != len(items):
        yield "two segments share one Tracking UID"
    for segment, found in zip(items, segments, strict=True):
        number = int(segment.SegmentNumber)
        if not segment.get("TrackingID") or not segment.get("TrackingUID"):
            yield f"segment {number} has no tracking identifier"
        if not 0 < len(str(segment.get("SegmentLabel", ""))) <= 64:
            yield f"segment {number} has no label, or one above 64 characters"
        if not segment.get("RecommendedDisplayCIELabValue"):
            yield f"segment {number} has no display colour"
        algorithms = segment.get("SegmentationAlgorithmIdentificationSequence") or [Dataset()]
        said = tuple(algorithms[0].get(f"Algorithm{k}") for k in ("Source", "Name", "Version"))
        if said != wanted or segment.get("SegmentAlgorithmName") != algorithm.name:
            yield f"segment {number} names another algorithm than that of the job"
        yield from _code_faults(segment, found, number)


def _code_faults(segment: Dataset, found: Segment, number: int) -> Iterator[str]:
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


def _identity_faults(seg: EncodedSeg) -> Iterator[str]:
    """Where each frame is of one segment: each pair of segment and plane once, and described."""
    described = {int(segment.SegmentNumber) for segment in seg.dataset.SegmentSequence}
    if len({(group.number, group.index) for group in seg.groups}) != len(seg.groups):
        yield "two frames show the same segment on the same plane"
    if not set(seg.frames) <= described:
        yield "a frame belongs to a segment that is not described"


def _extent_faults(seg: EncodedSeg, voxels: np.ndarray) -> Iterator[str]:
    """The frames are those where there is something; ``voxels``: (segments of the object, slices)."""
    occupied = {(int(k) + 1, int(index)) for k, index in np.argwhere(voxels > 0)}
    if occupied and {(group.number, group.index) for group in seg.groups} != occupied:
        yield "the frames are not those where the findings have voxels"


def _binary_faults(seg: EncodedSeg, segments: Sequence[Segment], material: Material) -> Iterator[str]:
    yield from _identity_faults(seg)
    findings, volume = material.findings, material.volume
    voxels = count_voxels(findings, volume.image.array.shape[0])
    yield from _extent_faults(seg, voxels[[segment.number - 1 for segment in segments]])
    if seg.shape != volume.image.array.shape:
        return  # told already
    unequal = 0
    for number, frames in seg.frames.items():
        for index, frame in frames.items():
            if number <= len(segments):
                wanted = plane_at(findings, segments[number - 1].number, index)
                unequal += not np.array_equal(seg.plane(frame, number), wanted)
    if unequal:
        yield f"{unequal} frames do not hold the pixels of the findings"


def _labelmap_faults(seg: EncodedSeg, segments: Sequence[Segment], material: Material) -> Iterator[str]:
    described = {int(segment.SegmentNumber) for segment in seg.dataset.SegmentSequence}
    if undescribed := sorted(set(seg.frames) - described):
        yield f"the pixel value {undescribed[0]} is that of no described segment"
    volume = material.volume
    shown = [group.index for group in seg.groups]
    if sorted(shown) != list(range(len(volume.slices))):
        yield "the frames are not the planes of the source, each once"
    if seg.shape != volume.image.array.shape:
        return  # told already
    unequal = sum(
        not np.array_equal(seg.pixels[frame], labels_at(material.findings, segments, index))
        for frame, index in enumerate(shown)
    )
    if unequal:
        yield f"{unequal} frames do not hold the pixels of the findings"
