"""The text report: what a person reads, in any viewer that can print a tree.

One line per result ("Left lung: Volume 2,431 mL"), below it the coded number it was inferred
from. Everything is here, also what the measurement report cannot hold: results about the whole
examination, empty structures, cautions, what was noticed of the images, and who made it.
Containers are SEPARATE, so that viewers print names and values line by line (viewers.md, fact 6).
There is always a text report: finding nothing is a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydicom.dataset import Dataset
from pydicom.uid import EnhancedSRStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.material import Material
from node.encode.numbers import Number, grouped
from node.encode.seg.outlines import Outlines
from node.encode.sr import tree
from node.encode.sr.document import algorithm_items, new_report, observation_context, procedures_reported
from node.encode.sr.measurements import evaluation_item, number_item
from node.encode.sr.tree import CONTAINS, INFERRED_FROM
from node.model import Volumes
from pipelines.contract import Code, Evaluation, Findings

TITLE = Code("18748-4", "LN", "Diagnostic Imaging Report")
FINDINGS = Code("59776-5", "LN", "Findings")
PROCEDURE = Code("55111-9", "LN", "Current Procedure Descriptions")
FINDING = Code("121071", "DCM", "Finding")
COMMENT = Code("121106", "DCM", "Comment")
PROCEDURE_DESCRIPTION = Code("121065", "DCM", "Procedure Description")

NOTHING_FOUND = "Nothing was found"


def make_text(material: Material) -> Iterator[Dataset]:
    """Yield the report for people (Enhanced SR). Its evidence names all siblings."""
    card, algorithm = material.job.card, material.algorithm
    about = [f"{card.title} ({algorithm.name} {algorithm.version}, {algorithm.maker})"]
    if card.intended_use:
        about.append(f"Intended use: {card.intended_use}")
    lines = _lines(material.findings, material.outlines, material.numbers, image_notes(material.volumes))
    root = tree.container(
        None,
        TITLE,
        [
            *observation_context(material.job),
            *procedures_reported(material.header, material.volume.image.modality),
            tree.text(CONTAINS, COMMENT, RESEARCH_NOTICE),
            *(tree.text(CONTAINS, COMMENT, w) for w in (card.warning,) if w),
            tree.container(CONTAINS, FINDINGS, lines),
            tree.container(
                CONTAINS,
                PROCEDURE,
                [
                    *(tree.text(CONTAINS, PROCEDURE_DESCRIPTION, line) for line in about),
                    *algorithm_items(algorithm, CONTAINS),
                ],
            ),
        ],
    )
    yield new_report(material, "sr-text", root, sop_class=EnhancedSRStorage)


def image_notes(volumes: Volumes) -> list[str]:
    """Return what was noticed of the images and is tolerable, with its input where there are several."""
    return [
        f"Images: {note}." if len(volumes) == 1 else f"Images of input '{role}': {note}."
        for role, volume in volumes.items()
        for note in volume.notes
    ]


def _lines(
    findings: Findings, outlines: Outlines | None, numbers: Sequence[Number], noticed: Sequence[str]
) -> list[Dataset]:
    lines: list[Dataset] = []
    empty = {
        s.number: s.label for s in findings.segments if outlines is not None and not outlines.voxels(s.number)
    }
    if findings.segments and len(empty) == len(findings.segments):
        lines.append(_line(f"{NOTHING_FOUND}: no part of the image was marked as {_listed(empty.values())}."))
    elif not findings.segments and not numbers and not findings.evaluations:
        lines.append(_line(f"{NOTHING_FOUND} by this analysis."))
    for segment in findings.segments:
        if segment.number in empty and len(empty) < len(findings.segments):
            lines.append(_line(f"{segment.label}: {NOTHING_FOUND.lower()}."))
        lines += [_number_line(n) for n in numbers if n.measurement.segment == segment.number]
        lines += [
            _evaluation_line(e, segment.label) for e in findings.evaluations if e.segment == segment.number
        ]
    lines += [_number_line(n) for n in numbers if n.measurement.segment is None]
    lines += [_evaluation_line(e, "") for e in findings.evaluations if e.segment is None]
    lines += [tree.text(CONTAINS, COMMENT, f"Caution: {caution}") for caution in findings.cautions]
    lines += [tree.text(CONTAINS, COMMENT, note) for note in noticed]
    return lines


def _line(sentence: str, children: Sequence[Dataset] = ()) -> Dataset:
    return tree.text(CONTAINS, FINDING, sentence, children)


def _number_line(number: Number) -> Dataset:
    subject = f"{number.label}: " if number.label else ""
    return _line(f"{subject}{number.name} {number.text}", [number_item(INFERRED_FROM, number)])


def _evaluation_line(evaluation: Evaluation, label: str) -> Dataset:
    subject = f"{label}: " if label else ""
    chance = ""
    if evaluation.probability is not None:
        chance = f" (probability {grouped(100 * evaluation.probability)} %)"
    sentence = f"{subject}{evaluation.name.meaning}: {evaluation.value.meaning}{chance}"
    return _line(sentence, [evaluation_item(INFERRED_FROM, evaluation)])


def _listed(labels: Iterable[str]) -> str:
    names = list(labels)
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
