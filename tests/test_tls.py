"""A running node whose DIMSE door and archive speak TLS, with DCMTK at both ends; who may use what."""

from __future__ import annotations

import subprocess

import pytest
from pydicom import dcmread

from tests.accept.test_dimse import FAST, program
from tests.harness import wait_until
from tests.storescp import Storescp, tls_options
from tests.toy_node import RESULTS_PER_JOB, make_node, small_ct

POLICIES = """
[accept.policies.scanners]
calling = ["CT1"]
certificates = ["{client}"]
[accept.policies.teaching]
calling = ["TEACH"]
hosts = ["127.0.0.1"]
rules = []
"""


@pytest.fixture
def archive(certificates, tmp_path):
    with Storescp(tmp_path / "archive", *tls_options(certificates)) as scp:
        yield scp


@pytest.fixture
def node(certificates, archive, tmp_path):
    made = make_node(tmp_path / "node", archive.port)
    text = made.config.read_text()
    text = text.replace("[accept.dimse]\n", '[accept.dimse]\ntls = "mutual"\n')
    text = text.replace(f"port = {archive.port}\n", f"port = {archive.port}\ntls = true\n")
    policies = POLICIES.format(client=certificates.client.fingerprint)
    made.config.write_text(text + certificates.tls(certificates.ending) + policies)
    made.start()
    yield made
    made.stop()


def storescu(node, certificates, files, *, pair=None, calling="CT1", called="RADNODE") -> int:
    pair = pair or certificates.client
    who = ["+tls", str(pair.key), str(pair.certificate), "+cf", str(certificates.authority)]
    return subprocess.run(
        [program("storescu"), *who, "-aet", calling, "-aec", called, "127.0.0.1", str(node.port), *files],
        env=FAST,
        timeout=60,
        check=False,
    ).returncode


def test_from_a_scanner_to_an_archive_by_tls_and_nobody_else_comes_in(node, certificates, archive, tmp_path):
    files = small_ct(tmp_path / "ct")
    for pair, calling in (
        (certificates.stranger, "CT1"),
        (certificates.expired, "CT1"),
        (certificates.other_client, "CT1"),
        (certificates.client, "NOBODY"),
    ):
        assert storescu(node, certificates, files, pair=pair, calling=calling) != 0
    assert not node.status()["series"]
    assert storescu(node, certificates, files) == 0
    assert node.wait_idle()["jobs"]["done"] == 1
    assert len(archive.stored()) == RESULTS_PER_JOB
    log = node.log.read_text()
    for told in (
        "its certificate leads to no authority that we believe",
        "its certificate has ended",
        "its certificate is not one of policy 'scanners'",
        "its AE title is in no policy",
        "the certificate of 'ending' ends on",
    ):
        assert told in log
    assert "Canary" not in log


def test_what_comes_under_a_policy_without_rules_is_kept_and_starts_nothing(
    node, certificates, archive, tmp_path
):
    files = small_ct(tmp_path / "ct", seed="teaching")
    assert storescu(node, certificates, files, pair=certificates.other_client, calling="TEACH") == 0
    wait_until(
        lambda: "It came under policy 'teaching'" in str(node.status()), "it is told why nothing wants it"
    )
    series_uid = str(dcmread(files[0]).SeriesInstanceUID)
    assert "It came under policy 'teaching'" in node.run("explain", series_uid).stdout
    assert node.status()["jobs"]["done"] == 0
    assert not archive.stored()


def test_an_archive_that_cannot_show_who_it_is_is_sent_nothing_and_the_result_stays_owed(
    node, certificates, archive, tmp_path
):
    archive.__exit__()
    with Storescp(
        tmp_path / "impostor", *tls_options(certificates, certificates.elsewhere), port=archive.port
    ) as impostor:
        assert storescu(node, certificates, small_ct(tmp_path / "ct", seed="impostor")) == 0
        wait_until(lambda: "its certificate names another host" in str(node.status()), "it is told")
        assert not impostor.stored()
        assert node.status()["jobs"]["sending"] == 1
    with Storescp(tmp_path / "again", *tls_options(certificates), port=archive.port) as again:
        assert node.wait_idle()["jobs"]["done"] == 1
        assert len(again.stored()) == RESULTS_PER_JOB
