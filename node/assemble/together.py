"""What holds of the inputs of a case together: one patient, one current study, shared frames of reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from node.assemble.frames import patient_of
from node.assemble.header import read_header
from node.assemble.reason import Reason, refused
from node.model import Instance, Volume, Volumes
from pipelines.contract import Card


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
    patients = {role: patient_of(read_header(one.path)) for role, one in first.items()}
    known: tuple[str, str] | None = None
    for role, (number, issuer) in patients.items():
        if known is None:
            known = (number, issuer)
        # An issuer that one of them does not name is no contradiction: older studies often lack it.
        same = number == known[0] and (issuer == known[1] or not issuer or not known[1])
        # Without any ID a study is of one patient; that two studies are cannot be known.
        if not same or (not number and first[role].study_uid != next(iter(first.values())).study_uid):
            raise refused(
                Reason.SEVERAL_PATIENTS,
                f"The inputs {_listed(list(first))} are not known to be of one patient. Nothing was "
                "computed; correct Patient ID at its source.",
            )


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
