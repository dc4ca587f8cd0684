"""The text report: what a person reads, in any viewer that can print a tree.

One line per result ("Left lung: Volume 2,431 mL"), below it the coded number it was inferred
from. Everything is here, also what the measurement report cannot hold: results about the whole
examination, empty structures, cautions, what was noticed of the images, and who made it.
Containers are SEPARATE, so that viewers print names and values line by line (viewers.md, fact 6).
There is always a text report: finding nothing is a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedSRStorage

from node.encode.common import RESEARCH_NOTICE
from node.encode.material import Material
from node.encode.numbers import Number, grouped
from node.encode.places import image_name
from node.encode.sr import tree
from node.encode.sr.document import (
    algorithm_items,
    derived_objects,
    new_report,
    observation_context,
    procedures_reported,
)
from node.encode.sr.groups import (
    certainty_item,
    evaluation_item,
    finding_site,
    found_nothing,
    number_item,
    undetected,
)
from node.encode.sr.regions import Region, detection_regions, image_item, key_region
from node.encode.sr.tree import CONTAINS, INFERRED_FROM
from node.model import Volume, Volumes
from pipelines.contract import Code, Detection, Evaluation, Map

TITLE = Code("18748-4", "LN", "Diagnostic Imaging Report")
ECG_TITLE = Code("11524-6", "LN", "EKG study")
FINDINGS = Code("59776-5", "LN", "Findings")
PROCEDURE = Code("55111-9", "LN", "Current Procedure Descriptions")
FINDING = Code("121071", "DCM", "Finding")
COMMENT = Code("121106", "DCM", "Comment")
PROCEDURE_DESCRIPTION = Code("121065", "DCM", "Procedure Description")

NOTHING_FOUND = "Nothing was found"


def make_text(material: Material) -> Iterator[Dataset]:
    """Yield the report for people (Enhanced SR). It refers to all siblings."""
    card, algorithm = material.job.card, material.algorithm
    about = [f"{card.title} ({algorithm.name} {algorithm.version}, {algorithm.maker})"]
    if card.intended_use:
        about.append(f"Intended use: {card.intended_use}")
    if material.job.predecessors:
        about.append("This report takes the place of the one that an earlier run gave.")
    root = tree.container(
        None,
        title_of(material.volume),
        [
            *observation_context(material.job),
            *procedures_reported(material.header, material.volume.image.modality),
            *notices(material),
            tree.container(CONTAINS, FINDINGS, _lines(material)),
            tree.container(
                CONTAINS,
                PROCEDURE,
                [
                    *(tree.text(CONTAINS, PROCEDURE_DESCRIPTION, line) for line in about),
                    *algorithm_items(algorithm, CONTAINS),
                ],
            ),
            *derived_objects(material, in_words=True),
        ],
    )
    yield new_report(material, "sr-text", root, sop_class=EnhancedSRStorage)


def title_of(volume: Volume) -> Code:
    """Return what a report for people is called."""
    return ECG_TITLE if volume.image.modality == "ECG" else TITLE


def image_notes(volumes: Volumes) -> list[str]:
    """Return what was noticed of the images and is tolerable, with its input where there are several."""
    return [
        f"{what}: {note}." if len(volumes) == 1 else f"{what} of input '{role}': {note}."
        for role, volume in volumes.items()
        for what in ["Recording" if volume.image.is_waveform else "Images"]
        for note in volume.notes
    ]


def _lines(material: Material) -> list[Dataset]:
    findings, outlines, numbers = material.findings, material.outlines, material.numbers
    answers = findings.evaluations
    lines: list[Dataset] = []
    empty = {
        s.number: s.label for s in findings.segments if outlines is not None and not outlines.voxels(s.number)
    }
    lines += [_line(sentence) for sentence in nothing_sentences(material)]
    for segment in findings.segments:
        if segment.number in empty and not found_nothing(material):
            lines.append(_line(f"{segment.label}: {NOTHING_FOUND.lower()}."))
        told = [_number_line(n) for n in numbers if n.measurement.segment == segment.number]
        told += [_evaluation_line(e, segment.label) for e in answers if e.segment == segment.number]
        if not told and outlines is not None and (slices := len(outlines.voxels(segment.number))):
            told = [_line(f"{segment.label}: marked on {slices} image{'s' if slices > 1 else ''}.")]
        lines += told
    for detection in findings.detections:
        lines.append(_detection_line(material, detection))
        lines += [_number_line(n) for n in numbers if n.measurement.detection == detection.number]
        lines += [_evaluation_line(e, detection.label) for e in answers if e.detection == detection.number]
    if not found_nothing(material):
        lines += [_line(f"{kind.meaning}: none was detected.") for kind in undetected(material)]
    lines += [_line(map_sentence(one)) for one in findings.maps]
    loose = [n for n in numbers if n.measurement.segment is None and n.measurement.detection is None]
    lines += [_number_line(n) for n in loose]
    lines += [_evaluation_line(e, "") for e in answers if e.segment is None and e.detection is None]
    return [*lines, *remarks(material)]


def notices(material: Material) -> list[Dataset]:
    """Return that this is for research, and the warning of the card: what every root report begins with."""
    told = (RESEARCH_NOTICE, material.job.card.warning)
    return [tree.text(CONTAINS, COMMENT, sentence) for sentence in told if sentence]


def remarks(material: Material) -> list[Dataset]:
    """Return the cautions of the pipeline and what was noticed of the images."""
    told = [*(f"Caution: {c}" for c in material.findings.cautions), *image_notes(material.volumes)]
    return [tree.text(CONTAINS, COMMENT, sentence) for sentence in told]


def nothing_sentences(material: Material) -> list[str]:
    """Return that nothing was found, and of what; no sentence where something was."""
    if not found_nothing(material):
        return []
    said = []
    if empty := [segment.label for segment in material.findings.segments]:
        said.append(f"{NOTHING_FOUND}: no part of the image was marked as {_listed(empty)}.")
    if missing := undetected(material):
        names = _listed(kind.meaning for kind in missing)
        said.append(f"{NOTHING_FOUND}: no {names} was detected.")
    return said or [f"{NOTHING_FOUND} by this analysis."]


def map_sentence(one: Map) -> str:
    """Return which map there is."""
    return f"Map of {one.quantity.meaning.lower()}: {one.label}."


def detection_sentence(material: Material, detection: Detection) -> str:
    """Return what was found, where, and how sure the algorithm is, in one sentence."""
    volume = material.volume
    drawn = detection_regions(detection, volume)
    region = key_region(drawn)
    side, site = detection.laterality, finding_site(detection)
    where = " ".join(code.meaning for code in (side, site) if code is not None and code != detection.kind)
    what = f"{detection.label}: {detection.kind.meaning}" + (f", {where}" if where else "")
    column, row = region.points.mean(axis=0) if len(region.points) == 1 else _middle(region)
    place = f"{image_name(volume, region.index)}, row {row + 0.5:.0f}, column {column + 0.5:.0f}"
    if len(drawn) > 1:
        place += f" (seen on {len(drawn)} images)"
    sure = "" if detection.confidence is None else f", confidence {grouped(100 * detection.confidence)} %"
    return f"{what}, on {place}{sure}."


def _middle(region: Region) -> NDArray[np.float64]:
    middle: NDArray[np.float64] = (region.points.min(axis=0) + region.points.max(axis=0)) / 2
    return middle


def _detection_line(material: Material, detection: Detection) -> Dataset:
    region = key_region(detection_regions(detection, material.volume))
    below = [image_item(region, material.volume, INFERRED_FROM)]
    if detection.confidence is not None:
        below.append(certainty_item(INFERRED_FROM, detection.confidence))
    return _line(detection_sentence(material, detection), below)


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
