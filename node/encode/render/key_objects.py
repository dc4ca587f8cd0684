"""The images that matter, as a Key Object Selection (PS3.3 A.35.4, PS3.16 TID 2010).

For each segment the slice where it is largest, for each detection the slice through its middle; and
the objects of this job that say what was found there.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage

from node.encode.common import RESEARCH_NOTICE, declare_schemes, new_result
from node.encode.items import filed_images, filed_results, sop_references, study_references
from node.encode.material import Material, NotApplicable
from node.encode.places import image_name
from node.encode.render.references import plane_references
from node.encode.repair import cut
from node.encode.sr import tree
from node.encode.sr.document import observation_context
from node.encode.sr.regions import detection_regions, key_region
from node.encode.sr.tree import CONTAINS
from node.model import ResultObject
from pipelines.contract import Code

#: CID 7010. "For Research" would be as true, but readers' work lists leave such images out.
TITLE = Code("113000", "DCM", "Of Interest")
DESCRIPTION = Code("113012", "DCM", "Key Object Description")


def make_key_objects(material: Material) -> Iterator[Dataset]:
    """Yield the selection; its evidence is what it refers to.

    Raises
    ------
    NotApplicable
        Nothing was found, so no image stands out.
    """
    reasons = key_slices(material)
    if not reasons:
        raise NotApplicable("No Key Object Selection was made: no image shows a finding.")
    volume, algorithm = material.volume, material.algorithm
    images = plane_references(volume, sorted(reasons))
    said = [
        f"{RESEARCH_NOTICE} Selected automatically by {algorithm.name} {algorithm.version}.",
        *(f"{', '.join(labels)}: {image_name(volume, index)}." for index, labels in sorted(reasons.items())),
    ]
    root = tree.container(
        None,
        TITLE,
        [
            *observation_context(material.job),
            tree.text(CONTAINS, DESCRIPTION, "\n".join(said)),
            *(tree.image(CONTAINS, None, reference) for reference in images),
            *(_sibling(thing) for thing in material.siblings),
        ],
        template="2010",
    )
    dataset = new_result(material, "key-objects", sop_class=KeyObjectSelectionDocumentStorage, modality="KO")
    dataset.ReferencedPerformedProcedureStepSequence = []
    # frames are told in the content alone
    shown = {volume.slices[index].sop_instance_uid for index in reasons}
    evidence = [
        *(one for one in filed_images(volume) if one.sop_instance_uid in shown),
        *filed_results(volume.study_uid, material.siblings),
    ]
    dataset.CurrentRequestedProcedureEvidenceSequence = list(study_references(evidence).values())
    for element in root:
        if element.keyword != "RelationshipType":
            dataset[element.tag] = element
    declare_schemes(dataset, [root], algorithm.maker, material.header)
    yield dataset


def key_slices(material: Material) -> dict[int, list[str]]:
    """Return the slices that matter, and the labels of what each shows."""
    findings, outlines = material.findings, material.outlines
    reasons: dict[int, list[str]] = {}
    for segment in findings.segments:
        index = outlines.key_slice(segment.number) if outlines is not None else None
        if index is not None:
            reasons.setdefault(index, []).append(cut(segment.label, 64))
    for detection in findings.detections:
        index = key_region(detection_regions(detection, material.volume)).index
        reasons.setdefault(index, []).append(cut(detection.label, 64))
    return reasons


def _sibling(thing: ResultObject) -> Dataset:
    """Return a reference to one of our own objects; a Segmentation is an image, a report is not."""
    (reference,) = sop_references([(thing.sop_class_uid, thing.sop_instance_uid)])
    content = tree.image(CONTAINS, None, reference)
    content.ValueType = "COMPOSITE" if thing.kind.startswith("sr-") else "IMAGE"
    return content
