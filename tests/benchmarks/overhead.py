"""How long the node adds between the last C-STORE response and the report in the archive.

Prints the node's own time for 200 slices of 512 x 512, that is everything but the quiet time and the
pipeline's compute, beside a rival in the same run: a plain script with highdicom that reads the same
files, makes a Segmentation of the same mask and sends it. Run from the checkout:

    .venv/bin/python -m tests.benchmarks.overhead [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pynetdicom import AE

from node.journal import Journal
from tests import phantoms, toy_node
from tests.harness import wait_until
from tests.peers import RecordingPacs

SLICES, ROWS, COLUMNS = 200, 512, 512
QUIET_S = 1.0


def main(rounds: int) -> None:
    """Measure, and print medians and their ratio."""
    affine = phantoms.make_affine(spacing_mm=(1.5, 0.7, 0.7))
    phantom = phantoms.asymmetric_phantom((SLICES, ROWS, COLUMNS), affine)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as scratch, RecordingPacs() as archive:
        node = toy_node.make_node(Path(scratch) / "node", archive.port, quiet_s=QUIET_S)
        node.start()
        try:
            for number in range(rounds + 1):
                folder = Path(scratch) / f"ct{number}"
                files = phantoms.write_ct_series(folder, phantom.array_hu, affine, seed=f"round {number}")
                node_s, steps = of_the_node(node, archive, files, number + 1)
                rival_s = of_the_rival(files, phantom.mask, archive)
                word = "warm-up" if number == 0 else f"round {number}"
                told = ", ".join(f"{name} {seconds:.2f}" for name, seconds in steps.items())
                print(f"{word}: node {node_s:.2f} s (worker: {told}), highdicom script {rival_s:.2f} s")
                if number:
                    ours.append(node_s)
                    theirs.append(rival_s)
        finally:
            node.stop()
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
        f"overhead for {SLICES} x {ROWS} x {COLUMNS}: median {statistics.median(ours):.2f} s; ratio to the "
        f"highdicom script: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def of_the_node(node, archive, files, job: int) -> tuple[float, dict[str, float]]:
    """Return the node's own seconds for one series, and those of the worker's steps."""
    before = len(archive.received)
    assert len(toy_node.send(files, node.port)) == len(files)
    begun = time.monotonic()
    wait_until(lambda: len(archive.received) >= before + toy_node.RESULTS_PER_JOB, "the report arrives")
    total_s = time.monotonic() - begun
    journal = Journal.open(node.folder / "data", create=False)
    try:
        steps = dict(journal.outcome(job).seconds)
    finally:
        journal.close()
    return total_s - QUIET_S - steps["compute"], steps


def of_the_rival(files, mask, archive) -> float:
    """Return the seconds of a plain script: read, make a Segmentation, send it."""
    begun = time.monotonic()
    sources = [pydicom.dcmread(file) for file in files]
    volume = highdicom.get_volume_from_series(sources, dtype=np.float32)
    sources.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    code = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
    described = highdicom.seg.SegmentDescription(
        1, "Bright things", highdicom.sr.CodedConcept("91723000", "SCT", "Anatomical Structure"), code,
        highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        highdicom.AlgorithmIdentificationSequence(
            "rival", highdicom.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"), "1"
        ),
    )  # fmt: skip
    segmentation = highdicom.seg.Segmentation(
        sources, (volume.array > 200).astype(np.uint8), highdicom.seg.SegmentationTypeValues.BINARY,
        [described], highdicom.UID(), 1, highdicom.UID(), 1, "rival", "rival", "1", "1",
    )  # fmt: skip
    scu = AE()
    scu.add_requested_context(segmentation.SOPClassUID, pydicom.uid.ExplicitVRLittleEndian)
    association = scu.associate(archive.host, archive.port)
    association.send_c_store(segmentation)
    association.release()
    archive.received.pop()
    return time.monotonic() - begun


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
