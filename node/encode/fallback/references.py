"""References from an object to its siblings, turned to what went in their place."""

from __future__ import annotations

from collections.abc import Mapping

from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from node.encode.material import NotApplicable
from node.model import ResultObject

Swaps = Mapping[str, ResultObject]  #: SOP Instance UID of the replaced object -> its stand-in


def point_at(dataset: Dataset, swaps: Swaps) -> None:
    """Let every reference to a replaced object, anywhere in a data set, name its stand-in.

    Segments keep their numbers, frames of a label map do not become frames of a Segmentation.

    Raises
    ------
    NotApplicable
        Single frames of a replaced segmentation are referred to.
    """
    if not swaps:
        return
    for element in dataset:
        if element.VR != "SQ" or not element.value:
            continue
        items: list[Dataset] = []
        for item in element.value:
            parts = _by_series(item, swaps) if "SeriesInstanceUID" in item else [item]
            for part in parts:
                _turn(part, swaps)
                point_at(part, swaps)
            items += parts
        element.value = items


def _turn(item: Dataset, swaps: Swaps) -> None:
    """Turn a Referenced SOP item."""
    old = item.get("ReferencedSOPInstanceUID")
    new = swaps.get(str(old)) if old is not None else None
    if new is None:
        return
    other_class = item.get("ReferencedSOPClassUID") != new.sop_class_uid
    if other_class and new.sop_class_uid == SegmentationStorage and "ReferencedFrameNumber" in item:
        raise NotApplicable("It refers to frames of a label map, which a BINARY segmentation does not have.")
    item.ReferencedSOPClassUID = new.sop_class_uid
    item.ReferencedSOPInstanceUID = new.sop_instance_uid


def _by_series(item: Dataset, swaps: Swaps) -> list[Dataset]:
    """Return an item about a series (evidence, referenced series) as one for each series it is now about."""
    lists = [e for e in item if e.VR == "SQ" and any("ReferencedSOPInstanceUID" in one for one in e.value)]
    own = str(item.SeriesInstanceUID)
    homes: dict[str, dict[str, list[Dataset]]] = {}
    for element in lists:
        for one in element.value:
            new = swaps.get(str(one.get("ReferencedSOPInstanceUID")))
            home = homes.setdefault(new.series_uid if new else own, {})
            home.setdefault(element.keyword, []).append(one)
    if set(homes) <= {own}:
        return [item]
    parts, turned = [], {element.tag for element in lists}
    for series_uid, contents in homes.items():
        part = Dataset()
        part.update({e.tag: e for e in item if e.tag not in turned and e.keyword != "SeriesInstanceUID"})
        part.SeriesInstanceUID = series_uid
        for keyword, references in contents.items():
            setattr(part, keyword, references)
        parts.append(part)
    return parts
