"""The result matrix: the studies that hold every kind of object, its rows, and how it is written."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from node.encode.rejection import write_rejection
from node.job import JobSpec, Withdrawal
from node.profile import EXTRAS, Presentation, Profile
from tests.viewer import dwv, ohif
from tests.viewer.studies import SHAPES, Study, phantom

SQUARE = (2.5, 0.8, 0.8)  #: slices, rows, columns in mm

#: Title, key of `node.encode.kinds.KINDS`, whether the outlines are a label map.
ROWS: Sequence[tuple[str, str, bool]] = (
    ("Segmentation, BINARY", "seg", False),
    ("Segmentation, LABELMAP", "seg", True),
    ("Segmentation, FRACTIONAL", "fractional", False),
    ("SR of profile viewer: measurements", "sr-measurements", False),
    ("SR of profiles viewer and text: report", "sr-text", False),
    ("SR of profile air", "sr-air", False),
    ("SR of profile segment-only", "sr-segments", False),
    ("Secondary Capture overlays", "secondary-capture", False),
    ("Encapsulated PDF", "pdf", False),
    ("RT Structure Set", "rtstruct", False),
    ("Grayscale Softcopy Presentation State", "presentation-state", False),
    ("Parametric Map", "parametric-map", False),
    ("Key Object Selection", "key-objects", False),
    ("Rejection note", "rejection-note", False),
)
COLUMNS = (
    "dciodvfy: 0 errors",
    "Orthanc stores it over C-STORE",
    "Orthanc stores it over STOW-RS",
    "DCMTK reads it",
    "dcmqi reads it",
    "highdicom reads it",
    "OHIF shows it",
    "dwv shows it",
)
_HEAD = """# Result matrix

What becomes of each kind of object that the node writes, in programs that other people wrote. Every
cell was measured by `tests/viewer/test_matrix.py` (`deploy/test.sh -m viewer`), which fails when a
program answers otherwise than this page says, and then names the command that renews it.

"yes" means that what came out was compared with what went in: voxels, numbers, pixels, places or
sentences, not only that a program ended well. "-" means that there is nothing to ask.

"""


def everything(folder: Path) -> Study:
    """Return a study with one of everything: all reports, all extras, and a note that rejects them."""
    profiles = [Profile(also=EXTRAS), Profile(report="air"), Profile(report="segment-only")]
    study = phantom(folder, "matrix", spacing_mm=SQUARE, pointing=tuple(SHAPES), maps=True, profiles=profiles)
    spec = JobSpec(
        pipeline="lung-density",
        pipeline_version="0.1.0",
        pipeline_digest="ab" * 32,
        study_uid=study.study_uid,
        inputs={},
        input_digest="cd" * 32,
        rule="all",
        send_to=("archive",),
    )
    note = write_rejection(
        study.objects,
        Withdrawal.QUALITY,
        spec,
        study.only("sr-text"),
        folder / "rejection-note.dcm",
        now=datetime(2026, 3, 5, tzinfo=UTC),
        number=1,
        ae_title="RADNODE",
        presentation=Presentation(),
    )
    return replace(study, results={**study.results, note.kind: (note.path,)})


def labelmap(folder: Path) -> Study:
    """Return a study whose outlines are a label map."""
    profiles = [Profile(labelmap="always")]
    return phantom(folder, "matrix-labelmap", spacing_mm=SQUARE, profiles=profiles)


def page(cells: Mapping[str, Sequence[str]]) -> str:
    """Return the page for these verdicts: title of a row -> one verdict per column."""
    notes: dict[str, int] = {}
    lines = ["| object | kind | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for title, kind, _ in ROWS:
        told = []
        for verdict in cells[title]:
            word, _, why = verdict.partition(": ")
            told.append(f"{word} [{notes.setdefault(why, len(notes) + 1)}]" if why else word)
        lines.append(f"| {title} | `{kind}` | " + " | ".join(told) + " |")
    reasons = [f"{number}. {why[0].upper()}{why[1:]}." for why, number in notes.items()]
    versions = [f"- {name} {version}" for name, version in _versions()]
    return "\n".join([_HEAD + "Asked were:\n", *versions, "", *lines, "", "Why:", "", *reasons, ""])


def table(text: str) -> str:
    """Return what of the page must stay the same: not the versions, which security updates change."""
    return text.partition("\n| object ")[2]


def _versions() -> list[tuple[str, str]]:
    names = {
        "Orthanc": "orthanc",
        "Orthanc's DICOMweb plugin": "orthanc-dicomweb",
        "DCMTK": "dcmtk",
        "dicom3tools (dciodvfy)": "dicom3tools",
        "Chromium": "chromium",
    }
    found = [(name, _debian(package)) for name, package in names.items()]
    found += [(name, importlib.metadata.version(name)) for name in ("dcmqi", "highdicom")]
    return [*found, ("OHIF (@ohif/app)", ohif.VERSION), ("dwv", dwv.VERSION)]


def _debian(package: str) -> str:
    command = ["dpkg-query", "--show", "--showformat=${Version}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"(Debian {done.stdout})" if done.returncode == 0 and done.stdout else "(not of Debian)"
