"""What is offered was seen to work, and what does not work is not offered."""

from __future__ import annotations

import pytest

from node.accept import samples, syntaxes
from node.accept.syntaxes import decodable_syntaxes, in_order

LITTLE, IMPLICIT = syntaxes.UNCOMPRESSED
J2K, RLE, BASELINE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50"


@pytest.mark.parametrize(
    "uid",
    [
        LITTLE,
        IMPLICIT,
        RLE,
        BASELINE,
        "1.2.840.10008.1.2.4.57",
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.80",
        "1.2.840.10008.1.2.4.81",
        J2K,
        "1.2.840.10008.1.2.4.91",
        "1.2.840.10008.1.2.4.201",
        "1.2.840.10008.1.2.1.99",
    ],
)
def test_the_base_installation_decodes(uid):
    assert uid in decodable_syntaxes()


def test_a_sample_that_comes_out_wrong_is_not_offered(monkeypatch):
    assert syntaxes.decodes(J2K)
    monkeypatch.setitem(syntaxes._COMPRESSED, J2K, (samples.JPEG_2000, 12, 0))  # a lossy one
    assert not syntaxes.decodes(J2K)


def test_a_decoder_that_kills_its_process_costs_only_its_own_syntax(monkeypatch, tmp_path):
    killer = tmp_path / "killer.py"
    killer.write_text(
        "import os, sys\n"
        "from node.accept import samples, syntaxes\n"
        "real = syntaxes.decodes\n"
        f"syntaxes.decodes = lambda uid: os.abort() if uid == {J2K!r} else real(uid)\n"
        "syntaxes.judge(sys.argv[1:])\n"
    )
    monkeypatch.setattr(syntaxes, "_CHILD", f"import runpy; runpy.run_path({str(killer)!r})")
    offered = decodable_syntaxes.__wrapped__()
    assert J2K not in offered
    assert RLE in offered
    assert "1.2.840.10008.1.2.4.201" in offered, "those after it are tried too"


def test_a_decoder_that_hangs_costs_only_its_own_syntax(monkeypatch):
    monkeypatch.setattr(syntaxes, "_PATIENCE_S", 0.5)
    monkeypatch.setattr(syntaxes, "_COMPRESSED", {RLE: syntaxes._COMPRESSED[RLE]})
    monkeypatch.setattr(syntaxes, "_CHILD", "import time; time.sleep(60)")
    assert RLE not in decodable_syntaxes.__wrapped__()


@pytest.mark.parametrize(
    ("proposed", "first"),
    [
        ([IMPLICIT, LITTLE], LITTLE),
        ([J2K, LITTLE, IMPLICIT], J2K),
        ([LITTLE, J2K], LITTLE),
        ([BASELINE, LITTLE], LITTLE),
        ([BASELINE], BASELINE),
        (["1.2.3", J2K], J2K),
    ],
)
def test_the_senders_order_counts_among_what_loses_nothing(proposed, first):
    assert in_order(proposed, syntaxes.PREFERENCE)[0] == first


def test_nothing_is_agreed_on_that_is_not_supported():
    assert in_order(["1.2.3", J2K], [LITTLE]) == ()
