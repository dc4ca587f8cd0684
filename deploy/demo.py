"""The demo: a simulated chest CT goes to the node over DICOM, and its results come back.

Nothing is mocked. The node is the installed ``radnode`` command in a process of its own, the
study travels by C-STORE, and what is printed and drawn at the end is read from the objects as
the archive received them.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pydicom.uid import (
    ComprehensiveSRStorage,
    EncapsulatedPDFStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    SegmentationStorage,
)
from pynetdicom import AE
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, track
from rich.table import Table

import simulate
from node.journal import Journal
from node.picture import Layer, draw
from pacs import Archive
from pipelines.contract import Code

console = Console()
ROOT = Path(__file__).resolve().parents[1]
RADNODE = Path(sys.executable).parent / "radnode"
OUT = ROOT / "demo-output"
MARK = ".radnode-demo"  #: lies in every folder that the demo made, and so may remove
SLICES = range(50, 601)  #: 300 mm of chest in slices that the pipeline takes
#: Two Segmentations (what overlaps goes apart), measurements, overlay series, PDF, report.
OBJECTS = 6
RESULTS_WITHIN_S = 600.0
LOOK_EVERY_S = 0.3
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")

CONFIG = """\
[node]
ae_title = "RADNODE"
data = "data"

[accept]
reserve_gb = 0.2

[accept.dimse]
port = 0                      # any free port

[show]
port = 0

[assemble]
quiet_s = 2

[destinations.archive]
transport = "dimse"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {archive_port}
also = ["secondary-capture", "pdf"]    # the same findings for whoever has no SEG and SR viewer

[[rules]]
name = "lungs on chest CT"
pipeline = "lung-density"
send_to = ["archive"]
[rules.match]
Modality = "CT"
BodyPartExamined = ["CHEST", "THORAX", "LUNG"]
ImageType = {{ has = "ORIGINAL", not = "LOCALIZER" }}
"""


def main() -> int:
    """Run the demo; 0 when all results arrived."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--once", action="store_true", help="end when the results have arrived")
    options.add_argument("--out", type=Path, default=OUT, help="where everything is written")
    options.add_argument("--slices", type=int, default=100, help="slices of the simulated CT")
    chosen = options.parse_args()
    if chosen.slices not in SLICES:
        options.error(f"--slices must be {SLICES.start} to {SLICES.stop - 1}")
    out: Path = chosen.out.resolve()
    empty_folder(out)

    console.rule("radnode demo: SIMULATED data, research software, not for diagnosis")
    ct, truth_ml = make_study(out / "study", chosen.slices)
    archive = Archive(out / "archive")
    config = out / "node.toml"
    config.write_text(CONFIG.format(archive_port=archive.start()), encoding="utf-8")
    with running_node(config) as port:
        console.print(f"Node listens on 127.0.0.1:{port} as RADNODE; the archive is ready.")
        send(ct, port)
        objects = wait_for_results(archive, config)
        if not objects:
            return 1
        show(objects, ct, truth_ml, out)
        if not chosen.once:
            console.print(
                f"\nStill running: send it your own chest CT, e.g. [b]storescu -aec RADNODE 127.0.0.1 {port} "
                "FILES[/b]; results go to the archive folder. Ctrl-C ends."
            )
            wait_for_interrupt()
    archive.stop()
    return 0


def empty_folder(out: Path) -> None:
    """Make a folder, or empty the one of an earlier demo; anybody else's is left alone."""
    ours = out == OUT or (out / MARK).exists() or not out.exists()
    if not ours and (not out.is_dir() or any(out.iterdir())):
        raise SystemExit(f"{out} holds something that this demo did not make; name another --out.")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARK).touch()


def make_study(folder: Path, slices: int) -> tuple[list[Path], dict[str, float]]:
    """Write the simulated chest CT; return its files and the true volumes in mL by structure."""
    with Progress(console=console) as progress:
        drawing = progress.add_task("Simulating a chest CT", total=slices)
        chest = simulate.chest(
            (slices, 256, 256), progress=lambda done, total: progress.update(drawing, completed=done)
        )
    files = simulate.write_ct_series(folder, chest)
    console.print(f"{len(files)} slices of a simulated chest in {folder}")
    return files, {"Left lung": chest.truth["left_ml"], "Right lung": chest.truth["right_ml"]}


@contextmanager
def running_node(config: Path) -> Iterator[int]:
    """Run ``radnode serve`` and yield its DICOM port."""
    with (config.parent / "node.log").open("wb") as log:
        command = [str(RADNODE), "serve", "--config", str(config)]
        node = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        output = node.stdout
        try:
            with console.status("Starting the node ..."):
                ready = output.readline().split() if output else []
            if not ready or ready[0] != "ready":
                raise SystemExit(f"The node did not start; see {config.parent / 'node.log'}")
            yield int(dict(word.split("=") for word in ready[1:])["dimse"])
        finally:
            node.send_signal(signal.SIGTERM)
            try:
                node.wait(60)
            except subprocess.TimeoutExpired:
                node.kill()


def send(files: Sequence[Path], port: int) -> None:
    """C-STORE the study to the node."""
    scu = AE("DEMO-SCANNER")
    scu.add_requested_context(pydicom.uid.CTImageStorage, ExplicitVRLittleEndian)
    association = scu.associate("127.0.0.1", port, ae_title="RADNODE")
    if not association.is_established:
        raise SystemExit("The node did not accept the association.")
    for file in track(files, "C-STORE to the node", console=console):
        status = association.send_c_store(file).get("Status")
        if status != 0x0000:
            told = "nothing" if status is None else f"{status:#06x}"
            raise SystemExit(f"The node answered {told} to {file.name}.")
    association.release()


def wait_for_results(archive: Archive, config: Path) -> list[pydicom.Dataset]:
    """Wait until the root report has arrived, which comes last, or the node has given up."""
    end = time.monotonic() + RESULTS_WITHIN_S
    with (
        closing(Journal.open(config.parent / "data", create=False)) as journal,
        Progress(console=console) as progress,
    ):
        bar = progress.add_task("Waiting for results", total=OBJECTS)
        while time.monotonic() < end:
            objects = [pydicom.dcmread(file) for file in archive.received()]
            progress.update(bar, completed=len(objects))
            if any(o.SOPClassUID == EnhancedSRStorage for o in objects):
                return objects
            if gave_up(journal):
                break
            time.sleep(LOOK_EVERY_S)
    console.print("[red]No results.[/red] What the node says:")
    subprocess.run([str(RADNODE), "status", "--config", str(config)], check=False)
    return []


def gave_up(journal: Journal) -> bool:
    """Whether nothing more will come: the series was not routed, or its job was refused or failed."""
    report = journal.status()
    return bool(report["unrouted"]["count"] or report["jobs"]["refused"] or report["jobs"]["failed"])


def show(
    objects: Sequence[pydicom.Dataset], ct: Sequence[Path], truth_ml: dict[str, float], out: Path
) -> None:
    """Print the numbers of the report, draw the mask, say where everything lies."""
    report = next(o for o in objects if o.SOPClassUID == ComprehensiveSRStorage)
    table = Table(title="Measurements, as read from the received Structured Report", title_justify="left")
    for heading in ("structure", "measurement", "value", "unit", "truth (simulated)"):
        table.add_column(heading, justify="right" if heading in ("value", "truth (simulated)") else "left")
    for structure, name, value, unit in numbers(report):
        truth = truth_ml.get(structure) if name == "Volume" else None
        told = f"{truth:.1f} ({100 * (value / truth - 1):+.2f} %)" if truth else ""
        table.add_row(structure, name, f"{value:.1f}", escape(unit), told)
    console.print(table)

    segmentations = [o for o in objects if o.SOPClassUID == SegmentationStorage]
    picture, document = out / "overlay.png", out / "report.pdf"
    draw_received(segmentations, ct, picture)
    (pdf,) = (o for o in objects if o.SOPClassUID == EncapsulatedPDFStorage)
    document.write_bytes(pdf.EncapsulatedDocument[: pdf.EncapsulatedDocumentLength])
    console.print("\n[b]Where to look[/b]")
    for what, where in (
        ("overlay of the mask on three planes", picture),
        ("report with pictures, taken out of the received DICOM", document),
        ("log of the node", out / "node.log"),
        ("received objects", out / "archive"),
    ):
        console.print(f"  {what}:\n    {where}", highlight=False, soft_wrap=True)
    for made in objects:
        console.print(f"  {made.SeriesDescription}", highlight=False, soft_wrap=True)
        console.print(f"    {made.SOPInstanceUID}.dcm", highlight=False, soft_wrap=True)


def numbers(report: pydicom.Dataset) -> Iterator[tuple[str, str, float, str]]:
    """Yield (structure, measurement, value, unit) of every number in a TID 1500 report."""

    def walk(item: pydicom.Dataset, structure: str) -> Iterator[tuple[str, str, float, str]]:
        children = item.get("ContentSequence", [])
        for child in children:
            if child.ValueType == "TEXT" and _concept(child) == "Tracking Identifier":
                structure = str(child.TextValue)
        for child in children:
            if child.ValueType == "NUM" and child.MeasuredValueSequence:
                measured = child.MeasuredValueSequence[0]
                unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
                yield structure, _concept(child), float(measured.NumericValue), unit
            yield from walk(child, structure)

    yield from walk(report, "")


def _concept(item: pydicom.Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if "ConceptNameCodeSequence" in item else ""


def draw_received(segmentations: Sequence[pydicom.Dataset], ct: Sequence[Path], picture: Path) -> None:
    """Draw the Segmentations, as received, over the CT they refer to."""
    volume = highdicom.get_volume_from_series([pydicom.dcmread(file) for file in ct], dtype=np.float32)
    layers = []
    for segmentation in segmentations:
        decoded = highdicom.seg.Segmentation.from_dataset(segmentation).get_volume()
        masks = decoded.match_geometry(volume).array
        layers += [
            Layer(str(item.SegmentLabel), colour_of(item), masks[..., index].astype(bool))
            for index, item in enumerate(segmentation.SegmentSequence)
        ]
    affine = np.asarray(volume.affine)
    caption = "SIMULATED DATA - research, not for diagnosis"
    draw(volume.array, affine, HOUNSFIELD, layers, caption).save(picture)


def colour_of(segment: pydicom.Dataset) -> tuple[int, int, int]:
    """Return the colour that the Segmentation recommends, as RGB."""
    red, green, blue = highdicom.color.CIELabColor.from_dicom_value(
        tuple(segment.RecommendedDisplayCIELabValue)
    ).to_rgb()
    return int(red), int(green), int(blue)


def wait_for_interrupt() -> None:
    """Block until Ctrl-C."""
    try:
        signal.pause()
    except KeyboardInterrupt:
        console.print("Ending.")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        console.print("\nInterrupted.")
        sys.exit(130)
