"""A node for whole-path tests: a toy pipeline that needs no torch, and everything around it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.dsutils import encode

from pipelines.contract import folder_digest
from tests import phantoms
from tests.harness import NodeProcess
from tests.peers import Peer

CARD = """\
name = "toy-threshold"
version = "1.0.0"
title = "Toy for tests: everything above 200 HU"
maker = "radnode tests"
intended_use = "Tests of the node. Not for any patient."
use = "toy_threshold.pipeline:Threshold"
warning = "A toy for tests."

[inputs.ct]
modality = ["CT"]
unit = "[hnsf'U]"
slices_min = 4

[[segments]]
number = 1
label = "Bright things"
category = { value = "91723000", scheme = "SCT", meaning = "Anatomical Structure" }
kind = { value = "85756007", scheme = "SCT", meaning = "Tissue" }
"""

CODE = '''\
"""Everything above 200 HU; as slow as a file beside it asks for."""

import time
from pathlib import Path

import numpy as np

from pipelines.contract import Code, Findings, Measurement


class Threshold:
    def __init__(self, card):
        self.card = card

    def load(self, device):
        pass

    def check(self, case):
        pass

    def analyze(self, case):
        image = case["ct"]
        if "SLOW" in str(image.facts.get("ConvolutionKernel", "")):
            time.sleep(30)
        labelmap = (image.array > 200).astype(np.uint8)
        volume_ml = float(labelmap.sum()) * image.voxel_ml
        volume = Measurement(
            name=Code("118565006", "SCT", "Volume"),
            value=volume_ml,
            unit=Code("mL", "UCUM", "milliliter"),
            segment=1,
            check="volume",
        )
        return Findings(
            labelmap=labelmap, affine=image.affine, segments=self.card.segments, measurements=(volume,)
        )
'''

#: A node of its own process, which sends to one archive.
SERVED = """\
[node]
data = "data"
drain_s = 3
[accept]
reserve_gb = 0.01
[accept.dimse]
port = 0
[assemble]
quiet_s = {quiet_s}
[compute]
devices = ["cpu"]
{pipelines}
[destinations.archive]
transport = "dimse"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {port}
"""
#: A node within the test, which writes into a folder.
HELD = """\
[node]
data = "data"
[accept]
reserve_gb = 0
[compute]
devices = ["cpu"]
{pipelines}
[destinations.out]
transport = "folder"
path = "out"
"""

_PIPELINE = """\
[send]
first_retry_s = 0.2
longest_retry_s = 1.0
tries = {send_tries}
[pipelines.toy-threshold]
folder = "toy_threshold"
sha256 = "{digest}"
"""
_RULE = """\
timeout_s = 10
[[rules]]
name = "every original CT"
pipeline = "toy-threshold"
send_to = ["archive"]
[rules.match]
Modality = "CT"
ImageType = { has = "ORIGINAL", not = "LOCALIZER" }
"""

RESULTS_PER_JOB = 3  #: a Segmentation and two reports


def make_node(folder: Path, archive_port: int, *, quiet_s: float = 0.5, send_tries: int = 50) -> NodeProcess:
    """Return a node (not started) with the toy pipeline and one archive."""
    toy = folder / "toy_threshold"
    toy.mkdir(parents=True)
    (toy / "card.toml").write_text(CARD, encoding="utf-8")
    (toy / "pipeline.py").write_text(CODE, encoding="utf-8")
    pipeline = _PIPELINE.format(send_tries=send_tries, digest=folder_digest(toy))
    config = SERVED.format(quiet_s=quiet_s, pipelines=pipeline, port=archive_port)
    return NodeProcess(folder, config + _RULE)


def small_ct(folder: Path, *, seed: str = "flow", slices: int = 8, **options) -> list[Path]:
    """Write a small CT with one asymmetric bright thing in it."""
    shape = (slices, 48, 40)
    affine = phantoms.make_affine()
    phantom = phantoms.asymmetric_phantom(shape, affine)
    return phantoms.write_ct_series(folder, phantom.array_hu, affine, seed=seed, **options)


def send(files: Iterable[Path], port: int, *, sender: str = "SCANNER") -> dict[str, str]:
    """C-STORE until done or cut off; return what was acknowledged: SOP Instance UID -> SHA-256.

    The hash is of the data set as it was sent.
    """
    ae = AE(sender)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(pydicom.uid.CTImageStorage, pydicom.uid.ExplicitVRLittleEndian)
    acknowledged: dict[str, str] = {}
    association = ae.associate("127.0.0.1", port, ae_title="RADNODE")
    for file in files if association.is_established else ():
        dataset = pydicom.dcmread(file)
        try:
            answer = association.send_c_store(dataset)
        except (RuntimeError, ValueError):  # cut off
            break
        if "Status" in answer and answer.Status == 0x0000:
            acknowledged[str(dataset.SOPInstanceUID)] = hashlib.sha256(encoded(dataset)).hexdigest()
    if association.is_established:
        association.release()
    return acknowledged


def uid_of_file(file: Path) -> str:
    """Return the SOP Instance UID of a file."""
    return str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def encoded(dataset: Dataset) -> bytes:
    """Return the data set as pynetdicom sends it."""
    return encode(dataset, is_implicit_vr=False, is_little_endian=True)


def received(peer: Peer) -> dict[str, list[bytes]]:
    """Return what a peer was sent: SOP Instance UID -> every encoding of it that came."""
    found: dict[str, list[bytes]] = {}
    for one in peer.received:
        found.setdefault(one.sop_instance_uid, []).append(one.data)
    return found


def read(data: bytes) -> Dataset:
    """Read an encoded data set (Explicit VR Little Endian)."""
    return pydicom.filereader.read_dataset(io.BytesIO(data), is_implicit_VR=False, is_little_endian=True)


def volumes_ml(reports: Sequence[Dataset]) -> list[float]:
    """Return every volume that the reports state."""
    found: list[float] = []

    def walk(item: Dataset) -> None:
        for child in item.get("ContentSequence", []):
            if child.ValueType == "NUM" and child.ConceptNameCodeSequence[0].CodeMeaning == "Volume":
                found.append(float(child.MeasuredValueSequence[0].NumericValue))
            walk(child)

    for report in reports:
        walk(report)
    return found


def truth_ml(slices: int = 8) -> float:
    """Return the volume of the bright thing in `small_ct`."""
    affine = phantoms.make_affine()
    mask = phantoms.asymmetric_phantom((slices, 48, 40), affine).mask
    return float(mask.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
