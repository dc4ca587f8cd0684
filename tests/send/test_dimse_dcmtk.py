"""DCMTK's storescp as an archive: every preference of transfer syntax that it has, and TLS."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from node.config import Config, DimseDestination, TlsTable
from node.errors import PeerRefused, PeerUnreachable
from node.send import send
from tests.peers import RecordingPacs
from tests.send.conftest import NOON, dataset_bytes, picture, report, saved
from tests.storescp import Storescp, tls_options


def storescp(folder, *options):
    """Run storescp with these options; it keeps what it is sent bit by bit."""
    return Storescp(folder, "+B", *options)


def to(port: int, objects, *, tls: TlsTable | None = None, host: str = "127.0.0.1"):
    destination = DimseDestination(
        transport="dimse", ae_title="ARCHIVE", host=host, port=port, timeout_s=5, tls=tls is not None
    )
    config = Config(destinations={"archive": destination}, tls=tls or TlsTable())
    return list(send(objects, "archive", config, lambda: NOON))


def results(tmp_path):
    """Return a picture in RLE, as label maps go, one that is plain, and a report that is deflated."""
    packed = picture("2.25.7.1")
    packed.compress(RLELossless, generate_instance_uid=False)
    deflated = report("2.25.7.3")
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    (tmp_path / "results").mkdir()
    things = [packed, picture("2.25.7.2"), deflated]
    return [saved(thing, tmp_path / "results") for thing in things]


def kept(folder):
    return {dcmread(path).SOPInstanceUID: dcmread(path) for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("option", "packed", "deflated"),
    [
        ("+xa", RLELossless, DeflatedExplicitVRLittleEndian),
        ("+x=", ExplicitVRLittleEndian, ExplicitVRLittleEndian),
        ("+xe", ExplicitVRLittleEndian, ExplicitVRLittleEndian),
        ("+xb", ExplicitVRLittleEndian, ExplicitVRLittleEndian),
        ("+xi", ImplicitVRLittleEndian, ImplicitVRLittleEndian),
        ("+xs", ExplicitVRLittleEndian, ExplicitVRLittleEndian),
        ("+xt", ExplicitVRLittleEndian, ExplicitVRLittleEndian),
        ("+xv", ExplicitVRLittleEndian, ExplicitVRLittleEndian),
        ("+xr", RLELossless, ExplicitVRLittleEndian),
        ("+xd", ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian),
        ("-pm", ExplicitVRLittleEndian, ExplicitVRLittleEndian),
    ],
)
def test_whatever_it_prefers_it_gets_the_same_content(tmp_path, option, packed, deflated):
    things = results(tmp_path)
    with storescp(tmp_path / "archive", option) as scp:
        assert [receipt.status for receipt in to(scp.port, things)] == [0, 0, 0]
    got = kept(tmp_path / "archive")
    assert got["2.25.7.1"].file_meta.TransferSyntaxUID == packed
    assert got["2.25.7.3"].file_meta.TransferSyntaxUID == deflated
    for thing in things:
        one, ours = got[thing.sop_instance_uid], dcmread(thing.path)
        if "PixelData" in ours:
            assert np.array_equal(one.pixel_array, picture().pixel_array)
        else:
            assert one == ours
        if (
            one.file_meta.TransferSyntaxUID == thing.transfer_syntax_uid
            and one.file_meta.TransferSyntaxUID != (DeflatedExplicitVRLittleEndian)
        ):
            path = next(
                p for p in (tmp_path / "archive").iterdir() if p.name.endswith(thing.sop_instance_uid)
            )
            assert path.read_bytes().endswith(dataset_bytes(thing)), "the bytes are those of the file"


@pytest.mark.parametrize("syntaxes", [("1.2.840.10008.1.2.4.80",), ("1.2.840.10008.1.2.4.100",)])
def test_who_takes_only_what_we_do_not_write_is_told_what_we_offered(tmp_path, syntaxes):
    """JPEG-LS or MPEG2 and nothing else; pynetdicom plays it, storescp always takes what is plain."""
    with (
        RecordingPacs(sop_classes=[SecondaryCaptureImageStorage], syntaxes=syntaxes) as pacs,
        pytest.raises(PeerRefused, match=r"takes none of the SOP Classes|as Explicit VR Little Endian"),
    ):
        to(pacs.port, [saved(picture(), tmp_path)])
    assert pacs.received == []


def test_who_rejects_every_context_is_told_once(tmp_path):
    with (
        RecordingPacs(sop_classes=["1.2.840.10008.5.1.4.1.1.104.3"]) as pacs,
        pytest.raises(PeerRefused, match="takes none of the SOP Classes") as told,
    ):
        to(pacs.port, [saved(picture(), tmp_path), saved(report(), tmp_path)])
    assert len(str(told.value)) < 400


def table(certificates, pair=None, authority=None) -> TlsTable:
    return TlsTable(
        certificate=pair and pair.certificate,
        key=pair and pair.key,
        authorities=authority or certificates.authority,
    )


@pytest.mark.parametrize("pair", ["server", "chained"])
def test_over_tls_to_who_is_believed(tmp_path, certificates, pair):
    options = (*tls_options(certificates, getattr(certificates, pair)), "-ic")
    things = results(tmp_path)
    with storescp(tmp_path / "archive", *options) as scp:
        assert [receipt.status for receipt in to(scp.port, things, tls=table(certificates))] == [0, 0, 0]
    assert set(kept(tmp_path / "archive")) == {thing.sop_instance_uid for thing in things}


def test_over_tls_with_our_certificate(tmp_path, certificates):
    with storescp(tmp_path / "archive", *tls_options(certificates), "-rc") as scp:
        things = results(tmp_path)
        assert len(to(scp.port, things, tls=table(certificates, certificates.client))) == 3
        with pytest.raises(PeerUnreachable, match="TLS"):
            to(scp.port, things, tls=table(certificates, certificates.stranger))


@pytest.mark.parametrize(
    ("pair", "why"),
    [
        ("stranger", "leads to no authority that we believe"),
        ("expired", "has ended"),
        ("elsewhere", "names another host"),
    ],
)
def test_nothing_is_sent_over_tls_to_who_is_not_believed(tmp_path, certificates, pair, why):
    options = (*tls_options(certificates, getattr(certificates, pair)), "-ic")
    with (
        storescp(tmp_path / "archive", *options) as scp,
        pytest.raises(PeerUnreachable, match=f"archive .* cannot be reached by TLS: .*{why}"),
    ):
        to(scp.port, results(tmp_path), tls=table(certificates))
    assert list((tmp_path / "archive").iterdir()) == []


def test_tls_where_it_does_not_speak_it_and_none_where_it_does(tmp_path, certificates):
    things = results(tmp_path)
    with storescp(tmp_path / "archive") as scp, pytest.raises(PeerUnreachable, match="TLS"):
        to(scp.port, things, tls=table(certificates))
    with (
        storescp(tmp_path / "archive", *tls_options(certificates), "-ic") as scp,
        pytest.raises(PeerUnreachable, match="cannot be reached"),
    ):
        to(scp.port, things)
    assert list((tmp_path / "archive").iterdir()) == []


def test_a_class_is_asked_in_every_syntax_it_can_go_in(tmp_path):
    """What is said of each SOP Class is asked anew in every association, so nothing about it gets old."""
    with RecordingPacs(syntaxes=[ImplicitVRLittleEndian]) as pacs:
        to(pacs.port, results(tmp_path))
        assert {request.transfer_syntax_uid for request in pacs.received} == {ImplicitVRLittleEndian}
        assert pacs.associations == 1
    assert {request.sop_class_uid for request in pacs.received} == {
        SecondaryCaptureImageStorage,
        ComprehensiveSRStorage,
    }
