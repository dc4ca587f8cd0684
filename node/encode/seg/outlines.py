"""The outlines of a job as receivers see them: all its Segmentations, read from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.encode.items import item
from node.encode.seg.readback import EncodedSeg, read_seg
from node.errors import EncodeError
from node.model import ResultObject, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one segment of the findings is encoded."""

    seg: EncodedSeg
    thing: ResultObject
    number: int  #: Segment Number within that object


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlines:
    """Every segment of the findings, in whichever object it lies."""

    places: Mapping[int, Place]  #: `Segment.number` of the findings -> where it is
    shape: tuple[int, int, int]  #: (slices, rows, columns) of the volume

    def voxels(self, number: int) -> Mapping[int, int]:
        """Return slice index -> voxels set, where there are any; empty for an empty segment."""
        place = self.places[number]
        return place.seg.voxels.get(place.number, {})

    def plane(self, number: int, index: int) -> NDArray[np.bool_]:
        """Return one slice of one segment: (rows, columns), bool."""
        place = self.places[number]
        frame = place.seg.frames.get(place.number, {}).get(index)
        return np.zeros(self.shape[1:], dtype=bool) if frame is None else place.seg.plane(frame, place.number)

    def mask(self, *numbers: int) -> NDArray[np.bool_]:
        """Return one segment, or the union of several: (slices, rows, columns), bool."""
        whole = np.zeros(self.shape, dtype=bool)
        for number in numbers:
            for index in self.voxels(number):
                whole[index] |= self.plane(number, index)
        return whole

    def key_slice(self, number: int) -> int | None:
        """Return the slice where a segment is largest, the first of equals; None for an empty one."""
        areas = self.voxels(number)
        return max(areas, key=lambda index: (areas[index], -index)) if areas else None

    def reference(self, number: int) -> Dataset:
        """Return a Referenced SOP item that points at a segment."""
        place = self.places[number]
        return item(
            ReferencedSOPClassUID=place.thing.sop_class_uid,
            ReferencedSOPInstanceUID=place.thing.sop_instance_uid,
            ReferencedSegmentNumber=place.number,
        )

    def tracking(self, number: int) -> tuple[str, str]:
        """Return Tracking ID and Tracking UID as the segment carries them."""
        place = self.places[number]
        for segment in place.seg.dataset.SegmentSequence:
            if int(segment.SegmentNumber) == place.number:
                return str(segment.TrackingID), str(segment.TrackingUID)
        raise EncodeError(f"the segmentation does not describe its segment {place.number}")


def read_outlines(things: Sequence[ResultObject], volume: Volume, uids: Mapping[str, int]) -> Outlines:
    """Read the Segmentations of a job.

    Parameters
    ----------
    uids
        Tracking UID -> `Segment.number` of the findings.

    Raises
    ------
    EncodeError
        A segment of the findings is in none of the objects, or in two.
    """
    places: dict[int, Place] = {}
    for thing in things:
        seg = read_seg(thing.path, volume)
        for segment in seg.dataset.SegmentSequence:
            number = uids.get(str(segment.get("TrackingUID", "")))
            if number is None:
                continue  # the background of a label map
            if number in places:
                raise EncodeError(f"segment {number} is in two segmentations")
            places[number] = Place(seg=seg, thing=thing, number=int(segment.SegmentNumber))
    if missing := sorted(set(uids.values()) - set(places)):
        raise EncodeError(f"segment {missing[0]} is in no segmentation")
    return Outlines(places=places, shape=volume.image.array.shape)
