"""What holds of the inputs of a case together: one patient, one current study, shared frames of reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydicom import Dataset

from node.assemble.frames import patient_of
from node.assemble.reason import Reason, refused
from node.header.read import read_header
from node.header.value import text_of
from node.model import Instance, Volume, Volumes
from node.patient import is_placeholder
from pipelines.contract import Card

_ID: Final = "Patient ID"
#: Of a patient, what tells that two are not one (PS3.3 C.7.1.1); shown are these words alone.
_WORDS: Final = (_ID, "Issuer of Patient ID", "Patient's Birth Date", "Patient's Sex")
_SEXES: Final = ("M", "F", "O")  #: any other word says that it is not known


def check_together(inputs: Mapping[str, Sequence[Instance]], card: Card) -> None:
    """Refuse inputs that are not of one patient, or not of the study that their role asks for.

    Of every input its first instance is looked at; that the others agree with it is checked where
    they are read.

    Raises
    ------
    InputRefused
        ``several-studies``, ``no-prior``, ``several-patients`` or ``unreadable``.
    """
    first = {role: inputs[role][0] for role in card.inputs if inputs.get(role)}
    current = {role: one.study_uid for role, one in first.items() if card.inputs[role].study == "current"}
    if len(set(current.values())) > 1:
        raise refused(
            Reason.SEVERAL_STUDIES,
            f"The inputs {_listed(list(current))} are of {len(set(current.values()))} studies; this pipeline "
            "takes them from one. Narrow the rule.",
        )
    for role, one in first.items():
        if card.inputs[role].study == "prior" and one.study_uid in current.values():
            raise refused(
                Reason.NO_PRIOR, f"Input '{role}' is of the current study; an earlier one is needed."
            )
    people = [_person(read_header(one.path)) for one in first.values()]
    stated = {what: {person[what] for person in people} for what in _WORDS}
    # What one of them does not say is no contradiction: older studies often lack the issuer.
    differ = [what for what in _WORDS if len(stated[what] - (set() if what is _ID else {""})) > 1]
    if differ:
        raise refused(
            Reason.SEVERAL_PATIENTS,
            f"The inputs {_listed(list(first))} are not known to be of one patient: they differ in "
            f"{' and '.join(differ)}. Nothing was computed; correct that at its source.",
        )
    # Without any ID a study is of one patient; that two studies are cannot be known.
    if "" in stated[_ID] and len({one.study_uid for one in first.values()}) > 1:
        raise refused(
            Reason.SEVERAL_PATIENTS,
            f"The inputs {_listed(list(first))} are not known to be of one patient: their Patient ID is "
            "absent, or one that many may have. Nothing was computed; correct it at its source.",
        )


def _person(ds: Dataset) -> dict[str, str]:
    """Return what is compared and never told; "" for what is not said."""
    number, issuer = patient_of(ds)
    birth_date = "".join(one for one in text_of(ds, "PatientBirthDate") if one.isdigit())
    sex = text_of(ds, "PatientSex").upper()
    said = "" if is_placeholder(number) else number, issuer, birth_date, sex if sex in _SEXES else ""
    return dict(zip(_WORDS, said, strict=True))


def with_frames_of_reference(volumes: Volumes) -> dict[str, Volume]:
    """Return volumes whose images say which of them lie in one frame of reference.

    The word is a number of this case alone: a UID would let a model know a patient again.
    """
    words: dict[str, str] = {}
    told = {}
    for role, volume in volumes.items():
        uid = volume.frame_of_reference_uid
        word = words.setdefault(uid, str(len(words) + 1)) if uid else ""
        told[role] = replace(volume, image=replace(volume.image, frame_of_reference=word))
    return told


def _listed(roles: Sequence[str]) -> str:
    return " and ".join(f"'{role}'" for role in roles)
