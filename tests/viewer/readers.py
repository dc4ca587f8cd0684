"""Programs of other people, asked whether they can read an object: each answers with a verdict.

A verdict is "yes", "no: why", or "-: why not asked". A program that merely ends without an error
has not read anything: wherever it gives something back, that is compared with what we know.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from numpy.typing import NDArray

from node.profile import LABELMAP_CLASS
from tests.encode.judges import dcmqi_decode, dsrdump
from tests.phantoms import to_world
from tests.viewer.checks import compare_voxels
from tests.viewer.reports import numbers_of
from tests.viewer.studies import Study

YES = "yes"
MEASURED = ("sr-measurements", "sr-air", "sr-segments")  #: reports of template 1500
REPORTS = (*MEASURED, "sr-text", "key-objects", "rejection-note")
#: What DCMTK 3.6.7 says of itself, not of the object: UTF-8, templates of key objects, and "+0000",
#: which it takes for no time zone.
IGNORANCE = ("ISO_IR 192", "template constraints not yet supported", "ContributionDateTime")
_SCRIPTS = Path(sys.executable).parent


def dciodvfy(file: Path) -> str:
    """Ask dicom3tools' validator."""
    told = _run("dciodvfy", "-new", file)
    said = told.stdout + told.stderr
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    if pydicom.dcmread(file, stop_before_pixels=True).SOPClassUID == LABELMAP_CLASS:
        assert "Information Object Not found" in said or not errors
        return "-: this version does not know the class" if errors else YES
    return f"no: {plain(errors[0])}" if errors else YES


def dcmtk(kind: str, file: Path, study: Study, folder: Path) -> str:
    """Ask the program of DCMTK that is made for the kind; dcmdump where there is none."""
    if kind in REPORTS:
        text, complaints = dsrdump(file)
        wanted = [f"{value:g}" for _, value, _ in numbers_of(file)]
        absent = [number for number in wanted if number not in _numbers_in(text)]
        complaints = [line for line in complaints if not any(word in line for word in IGNORANCE)]
        return _verdict([*complaints, *(f"{number} is not printed" for number in absent)])
    if kind == "pdf":
        out = folder / "out.pdf"
        told = _run("dcm2pdf", file, out)
        wanted = pydicom.dcmread(file)
        length = int(wanted.get("EncapsulatedDocumentLength") or len(wanted.EncapsulatedDocument))
        same = out.is_file() and out.read_bytes()[:length] == wanted.EncapsulatedDocument[:length]
        return _verdict([*_complaints(told), *([] if same else ["another document comes out"])])
    if kind == "secondary-capture":
        out = folder / "out.ppm"
        told = _run("dcm2pnm", "--frame", "1", "--write-raw-pnm", file, out)
        dataset = pydicom.dcmread(file)
        pixels = dataset.pixel_array if int(dataset.get("NumberOfFrames", 1)) == 1 else dataset.pixel_array[0]
        same = out.is_file() and out.read_bytes()[-pixels.size :] == pixels.tobytes()
        return _verdict([*_complaints(told), *([] if same else ["another picture comes out"])])
    if kind == "presentation-state":
        state = pydicom.dcmread(file)
        named = {
            str(i.ReferencedSOPInstanceUID)
            for s in state.ReferencedSeriesSequence
            for i in s.ReferencedImageSequence
        }
        image = next(f for f in study.images if pydicom.dcmread(f).SOPInstanceUID in named)
        out = folder / "out.pgm"
        told = _run("dcmp2pgm", "--pstate", file, image, out)
        return _verdict([*_complaints(told), *([] if out.is_file() else ["nothing is drawn"])])
    if kind == "rtstruct":
        told, dumped = _run("drtdump", file), _run("dcmdump", file).stdout  # the first prints no regions
        rois = [str(roi.ROIName) for roi in pydicom.dcmread(file).StructureSetROISequence]
        absent = [f"{name} is not printed" for name in rois if f"[{name}]" not in dumped]
        return _verdict([*_complaints(told), *absent])
    return _verdict(_complaints(_run("dcmdump", "--quiet", "--load-all", file)))


def dcmqi(kind: str, file: Path, study: Study, folder: Path) -> str:
    """Ask the readers of dcmqi."""
    if kind == "seg":
        found = dcmqi_decode(file, folder, merge=True)
        within = study.segments_of(file)
        for number, segment in within.items():
            seen = {p for d in found for p in _places(d.labels == number, d.affine)}
            if seen != _true_places(study, segment):
                return f"no: segment {segment} has other voxels"
        return YES
    if kind in ("fractional", "parametric-map"):
        program = "paramap2itkimage" if kind == "parametric-map" else "segimage2itkimage"
        told = _dcmqi(program, "--inputDICOM", file, "--outputDirectory", folder, "--outputType", "nrrd")
        images = list(folder.glob("*.nrrd"))
        if told.returncode or not images:
            return f"no: {program} ends with {told.returncode}"
        stored = pydicom.dcmread(file)
        if kind == "fractional":
            levels = np.unique(stored.pixel_array)
            pixels = np.concatenate([_nrrd(image).ravel() for image in images])
            return YES if set(np.unique(pixels)) == {0, *levels.tolist()} else "no: it gives other levels"
        wanted = np.frombuffer(stored.FloatPixelData, np.float32)
        seen = _nrrd(images[0]).ravel()
        return YES if np.allclose(np.sort(seen), np.sort(wanted)) else "no: it gives other values"
    if kind in MEASURED:
        out = folder / "report.json"
        told = _dcmqi("tid1500reader", "--inputDICOM", file, "--outputMetadata", out)
        if told.returncode or not out.is_file():
            return "no: it does not understand the report"
        groups = json.loads(out.read_text()).get("Measurements", [])
        seen = sorted(float(i["value"]) for g in groups for i in g.get("measurementItems", []))
        wanted = sorted(value for _, value, _ in numbers_of(file))
        return YES if seen == wanted else f"no: it finds {len(seen)} of {len(wanted)} numbers"
    return "-: it has no reader for this kind"


def highdicom_reads(kind: str, file: Path, study: Study) -> str:
    """Ask highdicom, by its reader for the kind."""
    if kind == "seg":
        seg = highdicom.seg.segread(file)
        uids = [uid for uid, _ in study.planes]
        voxels = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        numbers = list(seg.segment_numbers)
        for number, segment in study.segments_of(file).items():
            mask = voxels[..., numbers.index(number)] > 0
            seen = {p: m for p, m in zip(study.planes, mask, strict=True) if m.any()}
            compare_voxels(seen, study.masks[segment], f"segment {segment}")
        return YES
    if kind == "fractional":
        seg = highdicom.seg.segread(file)
        wanted = pydicom.dcmread(file)
        voxels = seg.get_pixels_by_source_instance(
            [uid for uid, _ in study.planes], assert_missing_frames_are_empty=True, rescale_fractional=False
        )
        return YES if voxels.sum() == wanted.pixel_array.sum() else "no: it gives other values"
    if kind in ("parametric-map", "secondary-capture"):
        image = highdicom.imread(file)
        if "PixelRepresentation" not in image:
            return "no: it asks for Pixel Representation, which float pixels do not have"
        frame = image.get_stored_frame(1)
        wanted = pydicom.dcmread(file).pixel_array
        first = wanted if image.number_of_frames == 1 else wanted[0]
        return YES if np.array_equal(frame, first) else "no: it gives other pixels"
    if kind in MEASURED:
        report = highdicom.sr.srread(file)
        groups = (
            *report.content.get_planar_roi_measurement_groups(),
            *report.content.get_volumetric_roi_measurement_groups(),
            *report.content.get_image_measurement_groups(),
        )
        seen = sorted(float(m.value) for g in groups for m in g.get_measurements() if m.value is not None)
        wanted = sorted(value for _, value, _ in numbers_of(file))
        return YES if seen == wanted else f"no: it finds {len(seen)} of {len(wanted)} numbers"
    if kind == "sr-text":
        report = highdicom.sr.srread(file)
        return YES if report.content else "no: it finds nothing"
    if kind in ("key-objects", "rejection-note"):
        document = highdicom.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(file))
        named = {
            str(i.ReferencedSOPInstanceUID)
            for c in document.ContentSequence
            for i in c.get("ReferencedSOPSequence", ())
        }
        resolved = {document.resolve_reference(uid)[2] for uid in named}
        return YES if resolved == named else "no: it cannot resolve the references"
    return "-: it has no reader for this kind"


def _run(*words: object) -> subprocess.CompletedProcess[str]:
    assert shutil.which(str(words[0])), f"{words[0]} is missing"
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False, timeout=60)


def _dcmqi(program: str, *words: object) -> subprocess.CompletedProcess[str]:
    return _run(_SCRIPTS / program, *words)


def _complaints(told: subprocess.CompletedProcess[str]) -> list[str]:
    lines = [line for line in told.stderr.splitlines() if line.startswith(("W:", "E:", "F:"))]
    lines = [line for line in lines if not any(word in line for word in IGNORANCE)]
    return [*lines, *([f"exit status {told.returncode}"] if told.returncode else [])]


def _verdict(complaints: list[str]) -> str:
    return f"no: {plain(complaints[0])}" if complaints else YES


def plain(line: str) -> str:
    """Return a complaint without what differs from run to run, such as identifiers and paths."""
    line = " ".join(line.split("\nassert")[0].split())
    line = re.sub(r"\S*/\S*/\S*", "...", line)
    return re.sub(r"\b[0-9]+(\.[0-9]+){2,}\b", "...", line).replace("|", "/")[:140]


def _numbers_in(text: str) -> set[str]:
    return {f"{float(word):g}" for word in re.findall(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", text)}


def _places(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> set[tuple[float, ...]]:
    return {tuple(np.round(p, 2) + 0.0) for p in to_world(affine, np.argwhere(mask))}


def _true_places(study: Study, segment: int) -> set[tuple[float, ...]]:
    planes = study.masks[segment]
    return {place for p, m in planes.items() for place in _places(m[None], study.affines[p])}


def _nrrd(path: Path) -> NDArray[np.generic]:
    """Return the values of an NRRD file, in the order in which they stand."""
    head, _, data = path.read_bytes().partition(b"\n\n")
    kinds = {"float": "<f4", "double": "<f8", "unsigned char": "u1", "short": "<i2", "unsigned short": "<u2"}
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    if fields["encoding"] == "gzip":
        import gzip

        data = gzip.decompress(data)
    return np.frombuffer(data, kinds[fields["type"]])
