"""What all structured reports share: document modules, evidence, references, who observed what."""

from __future__ import annotations

import copy

from pydicom.dataset import Dataset

from node.encode.common import OWN_SCHEME, declare_schemes, new_result, series_number
from node.encode.header import Header
from node.encode.identity import Algorithm, EncodeJob, algorithm_of
from node.encode.items import Filed, code_of, filed_images, filed_results, item, study_references
from node.encode.kinds import what_of
from node.encode.material import Material
from node.encode.places import sentence_case
from node.encode.sr import tree
from node.encode.sr.tree import CONTAINS, HAS_CONCEPT_MOD, HAS_OBS_CONTEXT, INFERRED_FROM
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

DERIVED_OBJECTS = Code("DERIVED-OBJECTS", OWN_SCHEME, "Derived objects")
DERIVED_OBJECT = Code("DERIVED-OBJECT", OWN_SCHEME, "Derived object")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
#: Kinds of object that SR refers to as an image; to all others as a composite object.
IMAGES = frozenset({"seg", "fractional", "parametric-map", "secondary-capture"})

_MODALITIES = {  # CID 29
    "CR": "Computed Radiography",
    "CT": "Computed Tomography",
    "DX": "Digital Radiography",
    "ECG": "Electrocardiography",
    "EEG": "Electroencephalography",
    "EMG": "Electromyography",
    "EPS": "Cardiac Electrophysiology",
    "ES": "Endoscopy",
    "HD": "Hemodynamic Waveform",
    "IO": "Intra-oral Radiography",
    "IVUS": "Intravascular Ultrasound",
    "MG": "Mammography",
    "MR": "Magnetic Resonance",
    "NM": "Nuclear Medicine",
    "OCT": "Optical Coherence Tomography",
    "OP": "Ophthalmic Photography",
    "OPT": "Ophthalmic Tomography",
    "PT": "Positron emission tomography",
    "PX": "Panoramic X-Ray",
    "RESP": "Respiratory Waveform",
    "RF": "Radiofluoroscopy",
    "RG": "Radiographic imaging",
    "SM": "Slide Microscopy",
    "US": "Ultrasound",
    "XA": "X-Ray Angiography",
    "XC": "External-camera Photography",
}
#: What was done to get the images, where the source names no procedure (CID 100).
_PROCEDURES = {
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
    "ECG": Code("29303009", "SCT", "Electrocardiographic procedure"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "XA": Code("77343006", "SCT", "Angiography"),
}


def modality_code(modality: str) -> Code:
    """Return what images were made with; one of an unknown kind is still an imaging procedure."""
    meaning = _MODALITIES.get(modality)
    return Code(modality, "DCM", meaning) if meaning else IMAGING_PROCEDURE


def new_report(material: Material, kind: str, root: Dataset, *, sop_class: str, variant: str = "") -> Dataset:
    """Return an SR document around a content tree (PS3.3 C.17.1 to C.17.3).

    Preliminary, complete, unverified: no person has seen it (R-45). The evidence names every
    instance that was used, and the siblings: our own objects that this report refers to. Its UIDs
    depend on the reports that it supersedes.
    """
    header, superseded = material.header, material.job.predecessors
    told = " ".join([variant, *(p.sop_instance_uid for p in superseded)]).strip()
    dataset = new_result(material, kind, sop_class=sop_class, modality="SR", variant=told)
    if superseded:
        named = [Filed(p.study_uid, p.series_uid, p.sop_class_uid, p.sop_instance_uid) for p in superseded]
        dataset.PredecessorDocumentsSequence = list(study_references(named).values())
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
    used = [instance for volume in material.volumes.values() for instance in filed_images(volume)]
    evidence = study_references([*used, *filed_results(study_uid, material.siblings)])
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
    """Return what was imaged: the source's procedure codes, else what its modality tells."""
    codes = [code_of(item) for item in header.dataset.get("ProcedureCodeSequence", ())]
    codes = codes or [_PROCEDURES.get(modality, IMAGING_PROCEDURE)]
    return [tree.code(HAS_CONCEPT_MOD, PROCEDURE_REPORTED, code) for code in codes]


def derived_objects(material: Material, *, in_words: bool) -> list[Dataset]:
    """Return the section by which a root report refers to all other objects of its job (H-02).

    Parameters
    ----------
    in_words
        Each reference stands below a line that names the object, because viewers print an image in
        a list as "[IMAGE is not supported]"; without, it is an item of the list itself.
    """
    if not material.siblings:
        return []
    counts: dict[str, int] = {}
    items = []
    for thing in material.siblings:
        counts[thing.kind] = counts.get(thing.kind, 0) + 1
        reference = item(
            ReferencedSOPClassUID=thing.sop_class_uid, ReferencedSOPInstanceUID=thing.sop_instance_uid
        )
        refer = tree.image if thing.kind in IMAGES else tree.composite
        if in_words:
            what, number = what_of(thing.kind, counts[thing.kind]), counts[thing.kind]
            line = f"{sentence_case(what)}, series {series_number(material.job, thing.kind, number)}"
            items.append(
                tree.text(CONTAINS, DERIVED_OBJECT, line, [refer(INFERRED_FROM, DERIVED_OBJECT, reference)])
            )
        else:
            items.append(refer(CONTAINS, DERIVED_OBJECT, reference))
    return [tree.container(CONTAINS, DERIVED_OBJECTS, items)]


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
