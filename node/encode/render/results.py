"""What a report says in words and numbers, in the order in which it is read."""

from __future__ import annotations

from dataclasses import dataclass

from node.encode.material import Material
from node.encode.numbers import Number, grouped
from node.encode.places import images_name
from node.encode.sr.groups import found_nothing, undetected
from node.encode.sr.text import image_notes, map_sentence, nothing_sentences
from node.model import Volume
from node.slices import reached
from pipelines.contract import Detection, Evaluation


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    first: bool = True  #: of its group
    colour_rgb: tuple[int, int, int] | None = None


def fact_rows(material: Material) -> list[tuple[str, str]]:
    """Return what was analyzed, how, and when; nothing about the patient."""
    algorithm = material.algorithm
    rows = [("Made by", f"{algorithm.name} {algorithm.version} ({algorithm.maker}), automatically")]
    moment = material.header.local(material.job.created_at)
    rows.append(("Made at", moment.strftime("%Y-%m-%d %H:%M %z").strip()))
    for role, volume in material.volumes.items():
        image = volume.image
        count, height, width = image.array.shape
        if image.is_waveform:
            sampling_hz = float(image.facts["sampling_hz"])
            said = f"{image.modality}, {count} channel{'s' if count > 1 else ''} of "
            said += f"{width / sampling_hz:.4g} s at {sampling_hz:.4g} Hz"
            rows.append(("Recording" if len(material.volumes) == 1 else f"Recording, input '{role}'", said))
            continue
        slice_mm, row_mm, column_mm = image.spacing_mm
        said = f"{image.modality}, {count} image{'s' if count > 1 else ''} of {width} x {height}"
        if image.phases > 1:
            said += f", {image.phases} phases of {image.slices} slice{'s' if image.slices > 1 else ''}"
        if image.is_spatial:
            said += f", voxels of {column_mm:.3g} x {row_mm:.3g} x {slice_mm:.3g} mm"
        elif image.is_calibrated:
            said += f", pixels of {column_mm:.3g} x {row_mm:.3g} mm"
        rows.append(("Images" if len(material.volumes) == 1 else f"Images, input '{role}'", said))
    return rows


def general_lines(material: Material) -> list[str]:
    """Return what was found about the whole image, or that nothing was."""
    findings, outlines = material.findings, material.outlines
    empty = [s.label for s in findings.segments if outlines is not None and not outlines.voxels(s.number)]
    lines = nothing_sentences(material)
    lines += [evaluation_text(e) for e in findings.evaluations if e.segment is None and e.detection is None]
    there = len(findings.segments) - len(empty)
    if there:
        lines.append(f"{there} structure{'s' if there > 1 else ''} outlined.")
    if empty and not found_nothing(material):
        lines.append(f"No part of the image was marked as: {', '.join(empty)}.")
    if count := len(findings.detections):
        lines.append(f"{count} detection{'s' if count > 1 else ''}.")
    if not found_nothing(material):
        lines += [f"{kind.meaning}: none was detected." for kind in undetected(material)]
    return [*lines, *(map_sentence(one) for one in findings.maps)]


def measurement_rows(material: Material) -> list[Row]:
    """Return numbers and evaluations by structure, then those of unions and of the whole image."""
    rows: list[Row] = []
    for segment in material.findings.segments:
        told = [(n.name, n.text) for n in _numbers(material) if n.measurement.segment == segment.number]
        told += [
            (e.name.meaning, _answer(e)) for e in material.findings.evaluations if e.segment == segment.number
        ]
        rows += _group(segment.label, told, segment.colour_rgb)
    rest = [n for n in _numbers(material) if n.measurement.segment is None]
    whole = "Whole recording" if material.volume.image.is_waveform else "Whole image"
    for label in dict.fromkeys(n.label for n in rest):
        rows += _group(label or whole, [(n.name, n.text) for n in rest if n.label == label], None)
    return rows


def _numbers(material: Material) -> list[Number]:
    return [n for n in material.numbers if n.measurement.detection is None]


def _group(name: str, told: list[tuple[str, str]], colour: tuple[int, int, int] | None) -> list[Row]:
    return [
        Row((name if place == 0 else "", what, value), place == 0, colour)
        for place, (what, value) in enumerate(told)
    ]


def detection_rows(material: Material) -> list[Row]:
    """Return detections with place, confidence and what else is said of them."""
    findings = material.findings
    rows = []
    for found in findings.detections:
        more = [f"{n.name} {n.text}" for n in material.numbers if n.measurement.detection == found.number]
        more += [evaluation_text(e) for e in findings.evaluations if e.detection == found.number]
        sure = "" if found.confidence is None else f"{grouped(round(100 * found.confidence, 1))} %"
        what = found.label if found.label == found.kind.meaning else f"{found.label} ({found.kind.meaning})"
        rows.append(
            Row(
                (f"{found.number}  {what}", place_of(found, material.volume), sure, "; ".join(more)),
                True,
                found.colour_rgb,
            )
        )
    return rows


def place_of(found: Detection, volume: Volume) -> str:
    """Return where a detection lies: region, side, images."""
    where = reached(found, len(volume.slices))
    images = images_name(volume, where[0], where[-1])
    region = " ".join(code.meaning for code in (found.laterality, found.anatomic_region) if code).strip()
    return f"{region}, {images}" if region else images


def evaluation_text(evaluation: Evaluation) -> str:
    """Return a qualitative evaluation as a sentence without its end."""
    return f"{evaluation.name.meaning}: {_answer(evaluation)}"


def _answer(evaluation: Evaluation) -> str:
    if evaluation.probability is None:
        return evaluation.value.meaning
    return f"{evaluation.value.meaning} (probability {grouped(round(100 * evaluation.probability, 2))} %)"


def notes(material: Material) -> list[str]:
    """Return cautions of the pipeline and what was noticed of the images."""
    return [*material.findings.cautions, *image_notes(material.volumes)]
