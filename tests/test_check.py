"""``radnode check`` and ``radnode serve`` agree on what cannot run, and say so in sentences."""

from __future__ import annotations

import signal
import socket
import subprocess

import pytest
from pydicom.uid import EnhancedSRStorage, SegmentationStorage

from node.check import complaints, peers
from node.config import TlsTable, read_config
from node.errors import ConfigError
from node.peer.tls import server_context
from node.serve import serve
from tests.harness import RADNODE
from tests.peers import ContextRefusingPacs, RecordingPacs, RejectingPacs
from tests.web_peers import Says, WebPeer

HEAD = '[node]\ndata = "data"\n[show]\nport = 0\n[accept]\nreserve_gb = 0\n'
DOOR = "[accept.dimse]\nport = 0\n"
BAD = {
    "no device": (HEAD + DOOR + "[compute]\ndevices = []\n", "[compute] devices"),
    "an unknown device": (HEAD + DOOR + '[compute]\ndevices = ["gpu"]\n', "'gpu'"),
    "a class with a typo": (HEAD + DOOR + 'sop_classes = ["CTImageStorag"]\n', "'CTImageStorage'"),
    "an address that is none": (
        HEAD.replace("reserve_gb = 0", 'reserve_gb = 0\ncallers = ["A"]')
        + '[accept.dimse]\nport = 0\nhost = "999.1.1.1"\n',
        "'999.1.1.1'",
    ),
    "an inbox that is a file": (HEAD + DOOR + '[accept.folder]\npath = "file"\n', "file"),
    "an inbox below a file": (HEAD + DOOR + '[accept.folder]\npath = "file/in"\n', "file"),
    "an inbox that nobody can make": (HEAD + DOOR + '[accept.folder]\npath = "/proc/xx"\n', "/proc"),
    "an inbox in the data folder": (
        HEAD + DOOR + '[accept.folder]\npath = "data/instances"\n',
        "overlaps [node] data",
    ),
    "an inbox around the data folder": (
        HEAD + DOOR + '[accept.folder]\npath = "."\n',
        "overlaps [node] data",
    ),
    "an inbox that results go to": (
        HEAD
        + DOOR
        + '[accept.folder]\npath = "in"\n[destinations.shelf]\ntransport = "folder"\npath = "in/../in"\n',
        "[destinations.shelf]",
    ),
    "data that is a file": (HEAD.replace('"data"', '"file"') + DOOR, "file"),
    "data below a file": (HEAD.replace('"data"', '"file/data"') + DOOR, "file"),
    "data that nobody can make": (HEAD.replace('"data"', '"/proc/xx"') + DOOR, "/proc"),
    "a file where the store should be": (HEAD.replace('"data"', '"odd"') + DOOR, "odd"),
}


@pytest.fixture(params=BAD)
def bad(request, tmp_path):
    """A configuration that cannot run, and what its complaint must name."""
    text, named = BAD[request.param]
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "instances").write_text("no folder")
    config = tmp_path / "node.toml"
    config.write_text(text)
    return config, named


@pytest.fixture
def signals_as_before():
    """Serve takes the signals of its process, which here is pytest's."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals_as_before")
def test_serve_refuses_in_a_sentence_and_ends(bad):
    config, named = bad
    with pytest.raises(ConfigError) as refusal:
        serve(read_config(config), announce=lambda _: pytest.fail("it says that it is ready"))
    assert named in str(refusal.value)
    assert "[" in str(refusal.value), "no table is named"


def test_check_complains_of_what_serve_refuses(bad):
    config, named = bad
    told = [f"{place}: {complaint}" for place, complaint in complaints(read_config(config)) if complaint]
    assert any(named in line for line in told), told


def test_a_refused_storage_class_ends_the_process(tmp_path):
    config = tmp_path / "node.toml"
    config.write_text(BAD["a class with a typo"][0])
    done = subprocess.run([RADNODE, "serve", "--config", config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "did you mean 'CTImageStorage'?" in done.stderr


def test_check_says_whose_a_port_is(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        config = tmp_path / "node.toml"
        config.write_text(HEAD + f"[accept.dimse]\nport = {port}\n")
        told = dict(complaints(read_config(config)))
    assert f"port {port} is taken by " in told[f"port {port}"]
    assert "another program" not in told[f"port {port}"]


def told_of(tmp_path, pacs, more: str = "") -> dict[str, str]:
    config = tmp_path / "node.toml"
    config.write_text(
        HEAD
        + DOOR
        + '[destinations.pacs]\ntransport = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\n'
        + f"port = {pacs.port}\ntimeout_s = 5\n{more}"
    )
    found = complaints(read_config(config))
    return {place: complaint for place, complaint in found if place.startswith("destination pacs")}


def test_check_says_what_a_destination_takes_and_stores_nothing(tmp_path):
    with RecordingPacs() as pacs:
        first, second = told_of(tmp_path, pacs).items()
        assert pacs.received == []
        assert pacs.associations == 1
    assert first == (f"destination pacs: C-ECHO to ARCHIVE at 127.0.0.1:{pacs.port}", "")
    place, complaint = second
    assert place.startswith("destination pacs takes segmentation, Comprehensive 3D SR, ")
    assert "not label map" in place
    assert complaint == ""


def test_check_complains_of_what_a_destination_is_to_be_given_and_does_not_take(tmp_path):
    more = 'also = ["pdf", "fractional"]\n'
    with ContextRefusingPacs(sop_classes=[SegmentationStorage]) as pacs:
        _, (_, complaint) = told_of(tmp_path, pacs, more).items()
    assert "no structured report" in complaint
    assert 'also names "pdf"' in complaint
    assert "fractional" not in complaint
    with RecordingPacs(sop_classes=[EnhancedSRStorage]) as pacs:
        _, (_, complaint) = told_of(tmp_path, pacs).items()
    assert "no segmentation" in complaint
    assert "structured report" not in complaint


def test_check_says_who_is_not_there_or_rejects_us(tmp_path):
    with RecordingPacs() as gone:
        pass
    ((_, complaint),) = told_of(tmp_path, gone).items()
    assert "cannot be reached" in complaint
    with RejectingPacs(1, 1, 3) as pacs:
        ((_, complaint),) = told_of(tmp_path, pacs).items()
    assert "calling AE title not recognised. Make our AE title known to it" in complaint


def looked_at(tmp_path, text: str) -> dict[str, str]:
    """Return what `radnode check` says beyond this machine, with its complaints."""
    config = tmp_path / "node.toml"
    config.write_text(HEAD + text)
    return dict(peers(read_config(config)))


def stow_at(url: str, more: str = "") -> str:
    return f'[destinations.cloud]\ntransport = "stow"\nurl = "{url}"\ntimeout_s = 3\n{more}'


@pytest.mark.parametrize(
    ("status", "kind", "complaint"),
    [
        (200, "application/dicom+json", ""),
        (202, "application/dicom+json", ""),
        (400, "text/plain", ""),
        (409, "application/dicom+xml", ""),
        (200, "text/html; charset=utf-8", "is url its DICOMweb service?"),
        (302, "text/html", "sends us elsewhere (status 302)"),
        (401, "text/html", "see token_file and [tls]"),
        (404, "text/html", "is url its DICOMweb service?"),
        (503, "text/html", "cannot store just now"),
    ],
)
def test_check_asks_a_stow_service_without_storing_anything(tmp_path, status, kind, complaint):
    with WebPeer(Says(status, b"x" * 5000, {"Content-Type": kind})) as peer:
        ((place, told),) = looked_at(tmp_path, stow_at(peer.url)).items()
        (asked,) = peer.asked
    assert (asked.method, asked.target, asked.parts) == ("POST", "/dicom-web/studies", [])
    assert place == f"destination cloud: STOW-RS at {peer.url}"
    assert told.endswith(complaint) if not complaint else complaint in told
    assert bool(told) == bool(complaint)


def test_check_asks_what_proof_and_web_sources_need(tmp_path):
    """One study is asked for, and not read."""
    with WebPeer(lambda _n, asked: Says(403 if asked.method == "GET" else 200)) as peer:
        source = f'[sources.web]\ntransport = "web"\nurl = "{peer.url}"\ntimeout_s = 3\n'
        found = looked_at(tmp_path, stow_at(peer.url, 'proof = "query"\n') + source)
        assert {asked.target for asked in peer.asked if asked.method == "GET"} == {
            "/dicom-web/studies?limit=1"
        }
    assert found[f"destination cloud: STOW-RS at {peer.url}"] == ""
    assert "does not let us ask" in found["destination cloud: QIDO-RS, for proof"]
    assert "does not let us ask" in found[f"source web: QIDO-RS at {peer.url}"]


@pytest.mark.parametrize(
    ("takes", "retrieve", "complaint"),
    [
        ((1, 2, 3), "move", ""),
        ((1, 3), "get", ""),
        ((1, 3), "move", 'it takes no C-MOVE of us, but C-GET: set retrieve = "get" in [sources.pacs]'),
        ((1, 2), "get", 'it takes no C-GET of us, but C-MOVE: set retrieve = "move" in [sources.pacs]'),
        ((2,), "move", "it takes no C-FIND of us"),
        ((), "move", "it takes no C-FIND of us; it takes no C-MOVE of us"),
    ],
)
def test_check_says_what_a_source_answers(tmp_path, takes, retrieve, complaint):
    classes = [f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in takes]
    with RecordingPacs(sop_classes=classes) as pacs:
        first, second = looked_at(
            tmp_path,
            f'[sources.pacs]\ntransport = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\n'
            f'port = {pacs.port}\nretrieve = "{retrieve}"\n',
        ).items()
    assert first == (f"source pacs: C-ECHO to ARCHIVE at 127.0.0.1:{pacs.port}", "")
    assert second[1] == complaint


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("server", ""),
        ("stranger", "leads to no authority that we believe. Name its authority in [tls] authorities."),
        ("expired", "has ended. Have it renewed there."),
        ("elsewhere", "names another host. Call it by a name that stands in its certificate"),
    ],
)
def test_check_says_whose_certificate_is_not_believed(tmp_path, certificates, name, why):
    pair = getattr(certificates, name)
    theirs = server_context(TlsTable(certificate=pair.certificate, key=pair.key), "on")
    with WebPeer(Says(200), tls=theirs) as peer:
        text = stow_at(peer.url) + f'[tls]\nauthorities = "{certificates.authority}"\n'
        found = looked_at(tmp_path, text)
    assert found["[tls]"] == ""
    told = found[f"destination cloud: STOW-RS at {peer.url}"]
    assert why in told
    assert bool(told) == bool(why)


def test_check_says_that_our_own_certificate_ends_soon(tmp_path, certificates):
    assert "ends on" in looked_at(tmp_path, certificates.tls(certificates.ending))["[tls]"]


POLICY = '[accept.policies.ct]\ncalling = ["CT1"]'


@pytest.mark.parametrize(
    ("accept", "ends"),
    [
        ("", ""),
        ('callers = ["CT1"]', "let in: ARCHIVE is not among [accept] callers; name it there"),
        ('callers = ["CT1", "ARCHIVE"]', ""),
        (POLICY, "let in: no policy of [accept.policies] is for ARCHIVE; name it in the calling of one"),
        (f'callers = ["CT1"]\n{POLICY}', "name it in callers and in the calling of a policy"),
        (
            f'callers = ["ARCHIVE"]\n{POLICY}',
            "let in: no policy of [accept.policies] is for ARCHIVE; name it in the calling of one",
        ),
        ('[accept.policies.ct]\nhosts = ["127.0.0.1"]', ""),
        ("[accept.dimse]\nenabled = false", "so nobody can call us by DIMSE; enable it"),
    ],
)
def test_check_says_who_cannot_bring_what_we_ask_for(tmp_path, accept, ends):
    archive = 'transport = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = 1\n'
    (tmp_path / "node.toml").write_text(
        f'[node]\ndata = "data"\n[accept]\n{accept}\n[sources.pacs]\n{archive}'
        f'[destinations.pacs]\n{archive}proof = "commitment"\n'
    )
    found = dict(complaints(read_config(tmp_path / "node.toml")))
    for place in ("source pacs", "destination pacs"):
        told = found[f"{place}: the way back"]
        assert told.endswith(ends)
        assert bool(told) == bool(ends)


@pytest.mark.parametrize(
    ("proof", "theirs", "remarked"),
    [("query", "none", ["shelf", "second"]), ("query", "query", ["shelf"]), ("none", "none", [])],
)
def test_check_remarks_which_alternates_prove_nothing_of_what_counts_as_delivered(
    tmp_path, proof, theirs, remarked
):
    archive = 'transport = "dimse"\nae_title = "ARCHIVE"\nhost = "127.0.0.1"\nport = 1\n'
    (tmp_path / "node.toml").write_text(
        '[node]\ndata = "data"\n[destinations.shelf]\ntransport = "folder"\npath = "out"\n'
        f'[destinations.second]\n{archive}proof = "{theirs}"\n'
        f'[destinations.pacs]\n{archive}proof = "{proof}"\nalternates = ["shelf", "second"]\n'
    )
    found = dict(complaints(read_config(tmp_path / "node.toml")))
    remarks = {what: complaint for what, complaint in found.items() if "alternate" in what}
    assert remarks == {
        f"destination pacs: its alternate {name} proves nothing; what that took counts as delivered, "
        "and is not sent to pacs later": ""
        for name in remarked
    }


def test_a_token_is_not_to_go_in_clear_text(tmp_path):
    text = stow_at("http://pacs.example/dicom-web", 'token_file = "token"\n')
    with pytest.raises(ConfigError, match=r"\[destinations.cloud\] token_file .* use https"):
        looked_at(tmp_path, text)
