"""Step 5: findings become DICOM objects.

    header    the source's header, repaired          attributes.py repair.py
    identity  who made it, derived UIDs              common.py items.py
    seg       outlines as a Segmentation             readback.py reads it again
    numbers   what is reported, checked              contour.py
    sr        measurements for viewers, text for people   tree.py report.py
    lint      the last word before anything is sent

Every object is judged as it lies on disk, not as it was meant.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.durable import sync_folder
from node.encode.common import save
from node.encode.header import read_header
from node.encode.identity import EncodeJob
from node.encode.lint import lint
from node.encode.numbers import reported
from node.encode.readback import read_seg
from node.encode.seg import make_seg
from node.encode.sr_measurements import make_measurement_report
from node.encode.sr_text import image_notes, make_text_report
from node.errors import EncodeError
from node.model import ResultObject, Volumes
from pipelines.contract import Findings

__all__ = ["EncodeJob", "Encoded", "encode", "lint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What became of the findings of one job."""

    objects: tuple[ResultObject, ...]  #: in the order they are to be sent
    summary: tuple[Mapping[str, Any], ...]  #: each {"name", "value", "unit", "segment"} as reported
    notes: tuple[str, ...]  #: header repairs, cautions, what was left out; no patient data


def encode(job: EncodeJob, findings: Findings, volumes: Volumes, folder: Path) -> Encoded:
    """Write the findings of one job as DICOM objects.

    ``seg.dcm`` when structures were outlined, ``sr-measurements.dcm`` when any of them has a
    voxel, and always ``sr-text.dcm``: synced files in ``folder``, which exists.

    Raises
    ------
    EncodeError
        The objects would be wrong; every fault is listed. Whatever lies in the folder is not to
        be sent.
    """
    role = findings.role or next(iter(job.card.inputs), next(iter(volumes)))
    if role not in volumes:
        raise EncodeError(f"the findings are on the grid of '{role}', which is no input of this job")
    volume = volumes[role]
    paths = [plane.path for v in volumes.values() for plane in v.slices]
    header = read_header(volume.slices[0].path, volume.study_uid, paths)
    notes = [*header.notes, *image_notes(volumes)]
    objects: list[ResultObject] = []
    with warnings.catch_warnings():  # pydicom quotes values in its warnings
        warnings.simplefilter("ignore")
        seg = None
        if findings.segments:
            dataset = make_seg(job, header, findings, volumes, role)
            objects.append(save(dataset, folder / "seg.dcm", kind="seg"))
            seg = read_seg(objects[0].path, volume)
        numbers = reported(findings, seg, volume)
        if seg is not None:
            measured = make_measurement_report(
                job, header, findings, volumes, role, seg=seg, seg_object=objects[0], numbers=numbers
            )
            if measured is None:
                notes.append("No measurement report: no structure has a voxel; the text report says so.")
            else:
                path = folder / "sr-measurements.dcm"
                refers_to = (objects[0].sop_instance_uid,)
                objects.append(save(measured, path, kind="sr-measurements", refers_to=refers_to))
        told = make_text_report(
            job, header, findings, volumes, role, seg=seg, siblings=objects, numbers=numbers
        )
        siblings = tuple(o.sop_instance_uid for o in objects)
        objects.append(save(told, folder / "sr-text.dcm", kind="sr-text", refers_to=siblings))
        sync_folder(folder)
        lint(objects, volumes, job=job, findings=findings, role=role, seg=seg)
    return Encoded(
        objects=tuple(objects),
        summary=tuple(number.summary() for number in numbers),
        notes=(*notes, *findings.cautions),
    )
