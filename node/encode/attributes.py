"""Which attributes of the source a result carries on, declared; `node.encode.header` copies them.

What an archive, a worklist or a reader knows a patient and a study by, from the Patient, Clinical
Trial, General Study and Patient Study modules (PS3.3 C.7.1, C.7.2), so that they are the same as
before (R-01). What describes the patient's state and is not needed for that, such as pregnancy or
allergies, stays with the source.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute and what may stand in it."""

    keyword: str
    type2: bool = False  #: must be present, empty if need be
    identifier: bool = False  #: never shortened
    values: frozenset[str] = frozenset()  #: the only legal values, if enumerated
    items: tuple[Attribute, ...] = ()  #: of a sequence: what an item may hold
    needs: tuple[str, ...] = ()  #: of a sequence: an item without these is left out
    one_of: tuple[str, ...] = ()  #: of a sequence: an item needs at least one of these


def _plain(*keywords: str) -> tuple[Attribute, ...]:
    return tuple(Attribute(keyword) for keyword in keywords)


def _identifiers(*keywords: str) -> tuple[Attribute, ...]:
    return tuple(Attribute(keyword, identifier=True) for keyword in keywords)


#: Code Sequence Macro (PS3.3 Table 8.8-1), basic attributes.
CODE_ITEM = (
    *_identifiers("CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "LongCodeValue"),
    Attribute("CodeMeaning"),
)


def _codes(keyword: str) -> Attribute:
    return Attribute(
        keyword,
        items=CODE_ITEM,
        needs=("CodingSchemeDesignator", "CodeMeaning"),
        one_of=("CodeValue", "LongCodeValue"),
    )


#: HL7v2 Hierarchic Designator Macro (PS3.3 Table 10-17).
_DESIGNATOR = _identifiers("LocalNamespaceEntityID", "UniversalEntityID", "UniversalEntityIDType")


def _issuer(keyword: str) -> Attribute:
    return Attribute(keyword, items=_DESIGNATOR, one_of=("LocalNamespaceEntityID", "UniversalEntityID"))


def _references(keyword: str) -> Attribute:
    """SOP Instance Reference Macro (PS3.3 Table 10-11)."""
    needs = ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
    return Attribute(keyword, items=_identifiers(*needs), needs=needs)


_ISSUER_QUALIFIERS = Attribute(
    "IssuerOfPatientIDQualifiersSequence",
    items=(*_identifiers("UniversalEntityID", "UniversalEntityIDType"), _codes("AssigningFacilitySequence")),
    one_of=("UniversalEntityID", "AssigningFacilitySequence"),
)

PATIENT = (
    Attribute("PatientName", type2=True),
    Attribute("PatientID", type2=True, identifier=True),
    *_identifiers("IssuerOfPatientID", "TypeOfPatientID"),
    _ISSUER_QUALIFIERS,
    Attribute("PatientBirthDate", type2=True),
    Attribute("PatientBirthTime"),
    Attribute("PatientSex", type2=True, values=frozenset({"M", "F", "O"})),
    Attribute(
        "OtherPatientIDsSequence",
        items=(*_identifiers("PatientID", "IssuerOfPatientID", "TypeOfPatientID"), _ISSUER_QUALIFIERS),
        needs=("PatientID", "TypeOfPatientID"),
    ),
    *_plain("OtherPatientNames", "EthnicGroup", "PatientComments"),
    Attribute("QualityControlSubject", values=frozenset({"YES", "NO"})),
    Attribute("PatientIdentityRemoved", values=frozenset({"YES", "NO"})),
    Attribute("DeidentificationMethod"),
    _codes("DeidentificationMethodCodeSequence"),
)

#: Copied whole or not at all: its Type 1 attributes make no sense alone (PS3.3 C.7.1.3).
CLINICAL_TRIAL = (
    *_identifiers("ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    Attribute("ClinicalTrialProtocolName", type2=True),
    Attribute("ClinicalTrialSiteID", type2=True, identifier=True),
    Attribute("ClinicalTrialSiteName", type2=True),
    *_identifiers("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
)
CLINICAL_TRIAL_NEEDS = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID")
CLINICAL_TRIAL_ONE_OF = ("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID")

STUDY = (
    Attribute("StudyDate", type2=True),
    Attribute("StudyTime", type2=True),
    Attribute("AccessionNumber", type2=True, identifier=True),
    _issuer("IssuerOfAccessionNumberSequence"),
    Attribute("ReferringPhysicianName", type2=True),
    Attribute("StudyID", type2=True, identifier=True),
    *_plain("StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"),
    _codes("RequestingServiceCodeSequence"),
    _codes("ProcedureCodeSequence"),
    _references("ReferencedStudySequence"),
)

PATIENT_STUDY = (
    *_plain("AdmittingDiagnosesDescription", "PatientAge", "PatientSize", "PatientWeight", "Occupation"),
    *_plain("AdditionalPatientHistory"),
    *_identifiers("AdmissionID"),
    _issuer("IssuerOfAdmissionIDSequence"),
    *_identifiers("ServiceEpisodeID"),
    *_plain("ServiceEpisodeDescription"),
)

#: Request Attributes Macro (PS3.3 Table 10-9).
REQUEST = Attribute(
    "RequestAttributesSequence",
    items=(
        *_identifiers("RequestedProcedureID", "AccessionNumber", "ScheduledProcedureStepID"),
        _issuer("IssuerOfAccessionNumberSequence"),
        _references("ReferencedStudySequence"),
        *_identifiers("StudyInstanceUID", "PlacerOrderNumberImagingServiceRequest"),
        *_identifiers("FillerOrderNumberImagingServiceRequest"),
        *_plain("RequestedProcedureDescription", "ScheduledProcedureStepDescription"),
        _codes("RequestedProcedureCodeSequence"),
    ),
    one_of=("RequestedProcedureID", "AccessionNumber"),
)

#: VM of 1-n in the dictionary: several values are legal.
MULTIPLE = frozenset({"PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "OtherPatientNames"})
MULTIPLE |= {"AdmittingDiagnosesDescription", "DeidentificationMethod"}
