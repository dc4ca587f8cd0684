"""Results are taken back: a rejection note as IHE Imaging Object Change Management has it (R-13).

A Key Object Selection Document (PS3.3 A.35.4, PS3.16 TID 2010) whose title says why, and which
refers to exactly what a destination was given. An archive that knows the profile hides those
objects; one that does not keeps a note that says so.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

import node
from node.encode.common import RESEARCH_NOTICE, described, save
from node.encode.header import UNREADABLE, read_header
from node.encode.identity import NODE_NAME, derived_uid
from node.encode.items import filed_results, sop_references, study_references
from node.encode.kinds import KINDS, NEXT_OF_KIND, what_of
from node.encode.lint.alone import lint_alone
from node.encode.repair import cut
from node.encode.sr import tree
from node.encode.sr.document import ENGLISH, LANGUAGE
from node.encode.sr.tree import CONTAINS, HAS_CONCEPT_MOD
from node.errors import EncodeError
from node.job import JobSpec, Withdrawal
from node.model import ResultObject
from node.profile import Presentation
from pipelines.contract import Code

KEY_OBJECT_SELECTION_CLASS = "1.2.840.10008.5.1.4.1.1.88.59"
KEY_OBJECT_DESCRIPTION = Code("113012", "DCM", "Key Object Description")
#: Titles of CID 7010 that mean a rejection (IHE RAD TF-3 4.66).
TITLES: Mapping[Withdrawal, Code] = {
    Withdrawal.QUALITY: Code("113001", "DCM", "Rejected for Quality Reasons"),
    Withdrawal.SAFETY: Code("113037", "DCM", "Rejected for Patient Safety Reasons"),
    Withdrawal.WORKLIST: Code("113038", "DCM", "Incorrect Modality Worklist Entry"),
    Withdrawal.RETENTION: Code("113039", "DCM", "Data Retention Policy Expired"),
}
#: SOP Classes of what TID 2010 refers to as COMPOSITE: reports, presentation states, documents,
#: structure sets. All others that we write are images.
_NO_IMAGES = tuple(f"1.2.840.10008.5.1.4.1.1.{part}" for part in ("88.", "11.", "104.", "481.3"))


def write_rejection(
    rejected: Sequence[ResultObject],
    reason: Withdrawal,
    spec: JobSpec,
    like: Path,
    path: Path,
    *,
    now: datetime,
    number: int,
    ae_title: str,
    presentation: Presentation,
) -> ResultObject:
    """Write the note that rejects these objects.

    Parameters
    ----------
    rejected
        As they went to a destination; in one study, that of the job.
    like
        A result of the job or any other instance of its study: what the note says of patient and
        study is what the results said.
    number
        Counts the notes of a job from 1.

    Raises
    ------
    EncodeError
        The file at ``like`` cannot be read, or the note would be wrong.
    """
    header = read_header(like, spec.study_uid, [like])
    told = [
        str(reason),
        str(number),
        now.isoformat(),  # a note is no repeatable result: the same work may be withdrawn twice
        *sorted(thing.sop_instance_uid for thing in rejected),
        repr(presentation),
    ]
    seeds = (spec.key, node.__version__, ae_title, "rejection-note", *told)
    local = header.local(now.astimezone())
    note = copy.deepcopy(header.dataset)
    if header.utc_offset:
        note.TimezoneOffsetFromUTC = header.utc_offset
    note.SOPClassUID = KEY_OBJECT_SELECTION_CLASS
    note.SOPInstanceUID = derived_uid(*seeds, "instance")
    note.SeriesInstanceUID = derived_uid(*seeds, "series")
    note.InstanceCreatorUID = node.INSTANCE_CREATOR_UID
    note.InstanceCreationDate = note.ContentDate = note.SeriesDate = local.strftime("%Y%m%d")
    note.InstanceCreationTime = note.ContentTime = note.SeriesTime = local.strftime("%H%M%S.%f")
    note.ContentQualification = "RESEARCH"
    note.Modality = "KO"
    offset = KINDS["rejection-note"].series_offset + NEXT_OF_KIND * (number - 1)
    note.SeriesNumber = presentation.series_number + offset
    pipeline, version = cut(spec.pipeline, 64), cut(spec.pipeline_version, 64) or "unversioned"
    note.SeriesDescription = described(presentation, pipeline, version, what_of("rejection-note", number))
    note.InstanceNumber = 1
    note.Manufacturer = note.ManufacturerModelName = NODE_NAME
    note.DeviceSerialNumber = cut(ae_title, 64)
    note.SoftwareVersions = node.__version__
    note.ReferencedPerformedProcedureStepSequence = []
    note.CurrentRequestedProcedureEvidenceSequence = [
        *study_references(filed_results(spec.study_uid, rejected)).values()
    ]
    if requests := _requests(like):
        note.ReferencedRequestSequence = requests
    said = (
        f"The results of {pipeline} {version} were withdrawn by an operator of the node that made them. "
        f"{RESEARCH_NOTICE}"
    )
    content = [
        tree.code(HAS_CONCEPT_MOD, LANGUAGE, ENGLISH),
        tree.text(CONTAINS, KEY_OBJECT_DESCRIPTION, said),
        *(_reference(thing) for thing in rejected),
    ]
    for element in tree.container(None, TITLES[reason], content, template="2010"):
        note[element.tag] = element
    made = save(note, path, kind="rejection-note", siblings=rejected)
    try:
        lint_alone(made)
    except EncodeError:
        path.unlink()
        raise
    return made


def _reference(thing: ResultObject) -> Dataset:
    (reference,) = sop_references([(thing.sop_class_uid, thing.sop_instance_uid)])
    image = tree.image(CONTAINS, None, reference)
    if thing.sop_class_uid.startswith(_NO_IMAGES):
        image.ValueType = "COMPOSITE"
    return image


def _requests(like: Path) -> list[Dataset]:
    """Return the orders that a report on disk names (type 1C of the Key Object Document Module)."""
    try:
        source = pydicom.dcmread(like, stop_before_pixels=True)
        if source.get("InstanceCreatorUID") != node.INSTANCE_CREATOR_UID:
            return []
        return copy.deepcopy(list(source.get("ReferencedRequestSequence") or ()))
    except UNREADABLE:
        return []
