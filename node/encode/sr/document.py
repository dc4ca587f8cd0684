"""What both structured reports share: document modules, evidence, and who observed what."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from pydicom.dataset import Dataset

from node.encode.common import declare_schemes, new_result
from node.encode.header import Header
from node.encode.identity import Algorithm, EncodeJob, algorithm_of
from node.encode.items import code_of, instances_of, item, sop_references
from node.encode.material import Material
from node.encode.sr import tree
from node.encode.sr.tree import HAS_CONCEPT_MOD, HAS_OBS_CONTEXT
from node.model import ResultObject, Volumes
from pipelines.contract import Code

LANGUAGE = Code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
OBSERVER_TYPE = Code("121005", "DCM", "Observer Type")
DEVICE = Code("121007", "DCM", "Device")
DEVICE_UID = Code("121012", "DCM", "Device Observer UID")
DEVICE_NAME = Code("121013", "DCM", "Device Observer Name")
DEVICE_MANUFACTURER = Code("121014", "DCM", "Device Observer Manufacturer")
DEVICE_MODEL = Code("121015", "DCM", "Device Observer Model Name")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
ALGORITHM_NAME = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_PARAMETERS = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_VERSION = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_MAKER = Code("122405", "DCM", "Algorithm Manufacturer")

#: What was imaged, said by the modality, where the source names no procedure (CID 29).
MODALITIES = {
    "CT": Code("CT", "DCM", "Computed Tomography"),
    "MR": Code("MR", "DCM", "Magnetic Resonance"),
    "PT": Code("PT", "DCM", "Positron emission tomography"),
}


def new_report(material: Material, kind: str, root: Dataset, *, sop_class: str, variant: str = "") -> Dataset:
    """Return an SR document around a content tree (PS3.3 C.17.1 to C.17.3).

    Preliminary, complete, unverified: no person has seen it (R-45). The evidence names every
    instance that was used, and the siblings: our own objects that this report refers to.
    """
    header = material.header
    dataset = new_result(material, kind, sop_class=sop_class, modality="SR", variant=variant)
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.PerformedProcedureCodeSequence = copy.deepcopy(
        list(header.dataset.get("ProcedureCodeSequence", ()))
    )
    if header.requests:
        dataset.ReferencedRequestSequence = [_request(request, header) for request in header.requests]
    study_uid = str(header.dataset.StudyInstanceUID)
    evidence = _evidence(study_uid, material.volumes, material.siblings)
    dataset.CurrentRequestedProcedureEvidenceSequence = [evidence.pop(study_uid)]
    if evidence:
        dataset.PertinentOtherEvidenceSequence = list(evidence.values())
    for element in root:
        if element.keyword != "RelationshipType":
            dataset[element.tag] = element
    declare_schemes(dataset, [root], material.algorithm.maker, header)
    return dataset


def observation_context(job: EncodeJob) -> list[Dataset]:
    """Return language (TID 1204) and device observer (TID 1001, 1002, 1004)."""
    algorithm = algorithm_of(job.card)
    return [
        tree.code(HAS_CONCEPT_MOD, LANGUAGE, ENGLISH),
        tree.code(HAS_OBS_CONTEXT, OBSERVER_TYPE, DEVICE),
        tree.uidref(HAS_OBS_CONTEXT, DEVICE_UID, algorithm.device_uid),
        tree.text(HAS_OBS_CONTEXT, DEVICE_NAME, job.ae_title),
        tree.text(HAS_OBS_CONTEXT, DEVICE_MANUFACTURER, algorithm.maker),
        tree.text(HAS_OBS_CONTEXT, DEVICE_MODEL, algorithm.name),
    ]


def procedures_reported(header: Header, modality: str) -> list[Dataset]:
    """Return what was imaged: the source's procedure codes, else its modality."""
    codes = [code_of(item) for item in header.dataset.get("ProcedureCodeSequence", ())]
    if not codes and modality in MODALITIES:
        codes = [MODALITIES[modality]]
    return [tree.code(HAS_CONCEPT_MOD, PROCEDURE_REPORTED, code) for code in codes]


def algorithm_items(algorithm: Algorithm, how: str = HAS_CONCEPT_MOD) -> list[Dataset]:
    """Return TID 4019, Algorithm Identification."""
    found = [
        tree.text(how, ALGORITHM_NAME, algorithm.name),
        tree.text(how, ALGORITHM_VERSION, algorithm.version),
        tree.text(how, ALGORITHM_MAKER, algorithm.maker),
    ]
    if algorithm.parameters:
        found.append(tree.text(how, ALGORITHM_PARAMETERS, algorithm.parameters))
    return found


def _request(request: Dataset, header: Header) -> Dataset:
    """Return a Referenced Request item (PS3.3 C.17.2) made of a Request Attributes item."""
    studies = request.get("ReferencedStudySequence")
    accession = request.get("AccessionNumber")
    return item(
        StudyInstanceUID=request.get("StudyInstanceUID") or header.dataset.StudyInstanceUID,
        ReferencedStudySequence=copy.deepcopy(list(studies)) if studies else [],
        AccessionNumber=accession if accession is not None else header.dataset.get("AccessionNumber", ""),
        IssuerOfAccessionNumberSequence=copy.deepcopy(request.get("IssuerOfAccessionNumberSequence")),
        PlacerOrderNumberImagingServiceRequest=request.get("PlacerOrderNumberImagingServiceRequest", ""),
        FillerOrderNumberImagingServiceRequest=request.get("FillerOrderNumberImagingServiceRequest", ""),
        RequestedProcedureID=request.get("RequestedProcedureID", ""),
        RequestedProcedureDescription=request.get("RequestedProcedureDescription", ""),
        RequestedProcedureCodeSequence=copy.deepcopy(list(request.get("RequestedProcedureCodeSequence", ()))),
    )


def _evidence(study_uid: str, volumes: Volumes, siblings: Sequence[ResultObject]) -> dict[str, Dataset]:
    """Return study UID -> Hierarchical SOP Instance Reference item; each instance once."""
    series: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for volume in volumes.values():
        known = series.setdefault((volume.study_uid, volume.series_uid), [])
        known += [instance for instance in instances_of(volume) if instance not in known]
    for sibling in siblings:
        series[study_uid, sibling.series_uid] = [(sibling.sop_class_uid, sibling.sop_instance_uid)]
    studies: dict[str, list[Dataset]] = {}
    for (study, uid), instances in series.items():
        reference = item(SeriesInstanceUID=uid, ReferencedSOPSequence=sop_references(instances))
        studies.setdefault(study, []).append(reference)
    return {
        study: item(StudyInstanceUID=study, ReferencedSeriesSequence=items)
        for study, items in studies.items()
    }
