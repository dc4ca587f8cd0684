"""The conformance statement says what the node does, and nothing else."""

from __future__ import annotations

import re

import pytest
from pydicom.uid import UID
from pynetdicom import AE
from typer.testing import CliRunner

from node.accept import status
from node.cli import app
from node.config import Config, read_config
from node.conformance import statement
from node.send.classes import RESULT_CLASSES
from node.send.status import FAMILIES
from node.show.app import RESOURCES
from tests.harness import NodeProcess

EVERYTHING = """\
[node]
ae_title = "NODE"
data = "data"
[accept]
reserve_gb = 0
called = ["STAT"]
[accept.dimse]
port = 0
sop_classes = ["CTImageStorage", "MRImageStorage", "SegmentationStorage"]
[accept.policies.scanners]
calling = ["CT1"]
hosts = ["127.0.0.0/8"]
rules = []
[accept.policies.others]
[show]
enabled = true
port = 0
[sources.archive]
transport = "dimse"
ae_title = "ARCHIVE"
host = "10.0.0.5"
port = 104
[sources.cloud]
transport = "web"
url = "https://pacs.example/dicom-web"
[destinations.archive]
transport = "dimse"
ae_title = "ARCHIVE"
host = "10.0.0.5"
port = 104
proof = "commitment"
[destinations.cloud]
transport = "stow"
url = "https://pacs.example/dicom-web"
[destinations.shelf]
transport = "folder"
path = "shelf"
"""


def section(text: str, heading: str) -> str:
    """Return what stands between a heading and the next one."""
    return re.split(r"^#+ ", text.split(f" {heading}\n", 1)[1], flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


@pytest.fixture
def configured(tmp_path):
    (tmp_path / "node.toml").write_text(EVERYTHING, encoding="utf-8")
    return tmp_path / "node.toml"


def test_what_it_says_of_storage_is_what_a_live_association_agrees_on(tmp_path):
    node = NodeProcess(tmp_path / "node", EVERYTHING)
    said = CliRunner().invoke(app, ["conformance", "--config", str(node.config)]).stdout
    classes = first_cells(section(said, "3.2 SOP classes"))
    syntaxes = first_cells(section(said, "3.1 Transfer syntaxes, in the order of preference"))
    assert len(classes) == 4
    node.start()
    try:
        agreed = set()
        for syntax in [*syntaxes, "1.2.840.10008.1.2.4.102"]:  # MPEG-4, which nobody decodes here
            ae = AE("CT1")
            for uid in [*classes, "1.2.840.10008.5.1.4.1.1.7"]:  # Secondary Capture, which was not chosen
                ae.add_requested_context(uid, [syntax])
            association = ae.associate("127.0.0.1", node.port, ae_title="STAT")
            agreed |= {(str(c.abstract_syntax), syntax) for c in association.accepted_contexts}
            association.release() if association.is_established else association.abort()
    finally:
        node.stop()
    plain = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
    verification, *storage = classes
    assert agreed == {
        *((verification, syntax) for syntax in plain),
        *((uid, syntax) for uid in storage for syntax in syntaxes),
    }


def test_every_status_resource_class_and_peer_stands_in_it(configured):
    text = statement(read_config(configured, {}))
    assert first_cells(section(text, "3.3 Statuses of C-STORE")) == [f"{code:04X}" for code in status.ANSWERS]
    assert first_cells(section(text, "5 Storage SCU and STOW-RS user agent")) == list(RESULT_CLASSES)
    means = section(text, "5.1 What a status means")
    assert first_cells(means) == [f"{one.first:04X}" for one in FAMILIES]
    for one in RESOURCES:
        assert f"| {one.method} | {one.template} | {one.name} |" in section(text, "4 DICOMweb origin server")
    assert "Every resource answers OPTIONS" in section(text, "4 DICOMweb origin server")
    assert first_cells(section(text, "5.2 Destinations")) == ["archive", "cloud", "shelf"]
    assert "| archive | dimse | ARCHIVE at 10.0.0.5:104 | no | move |" in section(
        text, "6 Query and retrieve"
    )
    assert "| scanners | CT1 | any | 127.0.0.0/8 | any | none |" in text


def test_what_is_not_configured_is_not_claimed():
    text = statement(
        Config().model_copy(update={"show": Config().show.model_copy(update={"enabled": False})})
    )
    services = section(text, "1 Services")
    for service, role in (
        ("Storage", "SCU"),
        ("Storage Commitment Push Model", "SCU"),
        ("Query (Study Root, C-FIND)", "SCU"),
        ("Retrieve (Study Root, C-MOVE or C-GET)", "SCU"),
        ("Studies Service (STOW-RS, WADO-RS, QIDO-RS)", "origin server"),
        ("STOW-RS", "user agent"),
        ("QIDO-RS", "user agent"),
        ("WADO-RS", "user agent"),
    ):
        assert f"| {service} | {role} | no |" in services
    assert "Not enabled" in text
    assert "No archive is asked" in text
    assert all(UID(uid).is_valid for uid in first_cells(section(text, "3.2 SOP classes")))
