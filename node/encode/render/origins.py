"""What a rendering was made from: the segmentations and reports of the same job (R-47)."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset

from node.encode.items import coded, filed_results, series_references, sop_references
from node.encode.material import Material
from node.encode.planes import SOURCE_FOR_PROCESSING


def add_siblings(dataset: Dataset, material: Material, *, series: bool = True) -> None:
    """Name the objects of the job that say the same in full (PS3.3 C.12.4).

    ``series``: also by series (PS3.3 C.12.2), where the IOD has that module.
    """
    siblings = material.siblings
    if not siblings:
        return
    dataset.SourceInstanceSequence = [
        *(dataset.get("SourceInstanceSequence") or []),
        *source_instances((s.sop_class_uid, s.sop_instance_uid) for s in siblings),
    ]
    if series:
        study_uid = material.volume.study_uid
        ours = series_references(filed_results(study_uid, siblings), "ReferencedInstanceSequence")
        named = dataset.get("ReferencedSeriesSequence") or []
        dataset.ReferencedSeriesSequence = [*named, *ours[study_uid]]


def source_instances(instances: Iterable[tuple[str, str]]) -> list[Dataset]:
    """Return items of a Source Instance Sequence for (SOP Class UID, SOP Instance UID)."""
    purpose = coded(SOURCE_FOR_PROCESSING)
    references = sop_references(instances)
    for reference in references:
        reference.PurposeOfReferenceCodeSequence = [purpose]
    return references
