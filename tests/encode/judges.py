"""Programs that other people wrote, asked what they think of our objects."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import pytest

_SCRIPTS = Path(sys.executable).parent


def needs(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(program) is None, reason=f"{program} is missing: install the Debian package {package}"
    )


needs_dciodvfy = needs("dciodvfy", "dicom3tools")
needs_dsrdump = needs("dsrdump", "dcmtk")


def dciodvfy_errors(path: Path) -> list[str]:
    """Return the errors of dicom3tools' validator."""
    run = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]


def dsrdump(path: Path) -> tuple[str, list[str]]:
    """Return what DCMTK prints of a report, and its complaints but for its ignorance of UTF-8."""
    run = subprocess.run(["dsrdump", "-Ee", "+Pl", str(path)], capture_output=True, text=True, check=False)
    complaints = [line for line in run.stderr.splitlines() if "ISO_IR 192" not in line]
    if run.returncode:
        complaints.append(f"exit status {run.returncode}")
    return run.stdout, complaints


class DecodedSeg(NamedTuple):
    """One file of dcmqi's decoding."""

    labels: np.ndarray  #: (slices, rows, columns) as dcmqi orders them, label numbers
    affine: np.ndarray  #: (4, 4): (slice, row, column) -> LPS mm
    meta: dict[str, Any]


def dcmqi_decode(path: Path, folder: Path, *, merge: bool = True) -> list[DecodedSeg]:
    """Return what dcmqi's segimage2itkimage makes of a segmentation, with its own geometry."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(_SCRIPTS / "segimage2itkimage"),
        "--inputDICOM",
        str(path),
        "--outputDirectory",
        str(folder),
    ]
    command += ["--outputType", "nrrd", *(["--mergeSegments"] if merge else [])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    meta = json.loads((folder / "meta.json").read_text())
    return [DecodedSeg(*read_nrrd(file), meta) for file in sorted(folder.glob("*.nrrd"))]


def tid1500(path: Path, output: Path) -> dict[str, Any]:
    """Return what dcmqi's tid1500reader understands of a report."""
    command = [str(_SCRIPTS / "tid1500reader"), "--inputDICOM", str(path), "--outputMetadata", str(output)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(output.read_text())


def read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return array (slices, rows, columns) and affine of a 3-D NRRD file in LPS."""
    header, _, data = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    assert fields["space"] == "left-posterior-superior"
    if fields["encoding"] == "gzip":
        data = gzip.decompress(data)
    names = {"unsigned char": "u1", "uint8": "u1", "short": "<i2", "unsigned short": "<u2", "uint16": "<u2"}
    sizes = [int(n) for n in fields["sizes"].split()]  # columns, rows, slices
    array = np.frombuffer(data, names[fields["type"]]).reshape(sizes[::-1])
    affine = np.eye(4)
    for axis, vector in zip((2, 1, 0), fields["space directions"].split(), strict=True):
        affine[:3, axis] = [float(v) for v in vector.strip("()").split(",")]
    affine[:3, 3] = [float(v) for v in fields["space origin"].strip("()").split(",")]
    return array, affine


_PIXELMED = Path("/usr/share/java/pixelmed.jar")
needs_pixelmed = pytest.mark.skipif(
    shutil.which("java") is None or not _PIXELMED.is_file(),
    reason="PixelMed is missing: install the Debian packages libpixelmed-java and default-jre-headless",
)
_IMAGING_MEASUREMENTS = "126010"


def pixelmed_errors(path: Path, folder: Path, groups: Collection[int] | None = None) -> dict[int, list[str]]:
    """Return what PixelMed's SR validator holds against each measurement group of a TID 1500 report.

    It applies every template of a group to all groups, so each is judged in a copy of the report
    that has no other. Without the limits its wrapper dies of JAXP0801003 with exit status 0; what
    counts is that it came to the end (viewers.md section 7).
    """
    report = pydicom.dcmread(path)
    (box,) = (c for c in report.ContentSequence if _concept(c) == _IMAGING_MEASUREMENTS)
    whole = list(box.ContentSequence)
    limits = [f"-Djdk.xml.xpath{which}Limit=0" for which in ("TotalOp", "ExprOp", "ExprGrp")]
    found = {}
    for number in range(len(whole)) if groups is None else groups:
        box.ContentSequence = [whole[number]]
        report.save_as(folder / "group.dcm")
        command = ["java", *limits, "-cp", str(_PIXELMED), "com.pixelmed.validate.DicomSRValidator"]
        run = subprocess.run(
            [*command, str(folder / "group.dcm")], capture_output=True, text=True, check=False
        )
        lines = (run.stdout + run.stderr).splitlines()
        errors = [line for line in lines if line.startswith("Error")]
        if "Root Template Validation Complete" not in lines:
            errors.append("the validation did not come to its end")
        found[number] = errors
    return found


def _concept(content: pydicom.Dataset) -> str:
    names = content.get("ConceptNameCodeSequence") or [pydicom.Dataset()]
    return str(names[0].get("CodeValue", ""))
