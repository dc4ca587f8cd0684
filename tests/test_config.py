"""The configuration: thirty-odd bad files, each with the exact words that its writer gets to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import Config, FolderDestination, read_config
from node.errors import ConfigError
from node.profile import Presentation

RULE = '[[rules]]\nname = "lungs"\npipeline = "lung-density"\n'
ARCHIVE = '[destinations.archive]\ntransport = "dimse"\nae_title = "ARCHIVE"\nhost = "10.0.0.5"\nport = 104\n'
PACS = ARCHIVE.replace("[destinations.archive]", "[sources.pacs]")
AE = "must be an AE title, 1 to 16 characters without backslash (PS3.5 6.2), not"

BAD_RESULTS = [
    # how results are numbered and named
    ("[results]\nseries_number = 0", "[results] series_number: must be at least 1, not 0"),
    ("[results]\nseries_number = 2147483647", "[results] series_number: must be at most 2147482648, not"),
    ("[results]\nmax_object_mb = 4.9", "[results] max_object_mb: must be at least 5, not 4.9"),
    *(
        (f"[results]\nseries_description = {template!r}", f"[results] series_description: {told}")
        for template, told in (
            ("{pipeline} {what}", "must hold {pipeline}, {what} and the word research"),
            ("{what} research", "must hold {pipeline}, {what} and the word research"),
            ("{pipeline} research", "must hold {pipeline}, {what} and the word research"),
            ("{pipeline} {what} {patient} research", "may hold {pipeline}, {version} and {what}, and no"),
            ("{pipeline} {what} {0} research", "may hold {pipeline}, {version} and {what}, and no"),
            ("{pipeline} {what.__class__} research", "may hold {pipeline}, {version} and {what}, and no"),
            ("{pipeline} {what} {research", "may hold {pipeline}, {version} and {what}, and no"),
            ("{pipeline:>99} {what} research", "may hold {pipeline}, {version} and {what}, and no"),
            ("{{pipeline}} {{what}} research", "must hold {pipeline}, {what} and the word research"),
            ("{pipeline} {what} a\\b research", "may hold {pipeline}, {version} and {what}, and no"),
            ("{pipeline!r} {what} research", "may hold {pipeline}, {version} and {what}, and no"),
            (
                "{pipeline} {what} research in the house of many mansions",
                "leaves no room: at most 32 characters",
            ),
            ("", "must be 1 or more printable characters"),
        )
    ),
    (
        '[results]\nseries_description = "{pipeline}\\n{what} research"',
        "[results] series_description: must be 1 or more printable characters",
    ),
    ("[results]\nserie_number = 3", "[results] serie_number: unknown key; did you mean 'series_number'?"),
    # what a destination is given
    (
        ARCHIVE + 'report = "viewr"',
        "[destinations.archive] report: must be 'viewer', 'air', 'segment-only' or",
    ),
    (ARCHIVE + 'segmentation = "both"', "[destinations.archive] segmentation: must be 'auto', 'binary' or"),
    (
        ARCHIVE + 'coordinates = "room"',
        "[destinations.archive] coordinates: must be 'image' or 'patient', not",
    ),
    (
        ARCHIVE + 'also = ["fax"]',
        "[destinations.archive] also, entry 1: must be 'fractional', 'parametric-map",
    ),
    (ARCHIVE + 'also = "pdf"', "[destinations.archive] also: must be a list like [...], not 'pdf'"),
]

BAD_FILES = [
    # unknown names
    ("[acept]\nreserve_gb = 1", "[acept]: unknown table; did you mean 'accept'?"),
    ("acept = 1", "[acept]: unknown key; did you mean 'accept'?"),
    ("[accept.dimsee]\nport = 1", "[accept] dimsee: unknown table; did you mean 'dimse'?"),
    ("[accept.dimse]\nprot = 1", "[accept.dimse] prot: unknown key; did you mean 'port'?"),
    ('[node]\nae_titel = "X"', "[node] ae_titel: unknown key; did you mean 'ae_title'?"),
    ("[node]\nqqq = 1", "[node] qqq: unknown key"),
    ("[accept.folder]\npaht = 'x'", "[accept.folder] paht: unknown key; did you mean 'path'?"),
    (RULE + 'send = ["x"]', "[[rules]] number 1 ('lungs') send: unknown key; did you mean 'send_to'?"),
    (ARCHIVE + "prot = 1", "[destinations.archive] prot: unknown key; did you mean 'port'?"),
    (
        '[destinations.out]\ntransport = "folder"\npath = "x"\npaths = "y"',
        "[destinations.out] paths: unknown key; did you mean 'path'?",
    ),
    (
        '[pipelines.x]\nfolder = "x"\nsha265 = ""\nsha256 = ""',
        "[pipelines.x] sha265: unknown key; did you mean 'sha256'?",
    ),
    (ARCHIVE + 'url = "http://x"', '[destinations.archive] url: only for transport = "stow"'),
    (ARCHIVE + 'token_file = "x"', '[destinations.archive] token_file: only for transport = "stow"'),
    (
        '[destinations.out]\ntransport = "folder"\npath = "x"\ntimeout_s = 3',
        '[destinations.out] timeout_s: only for transport = "dimse" or "stow"',
    ),
    (PACS + 'url = "http://x"', '[sources.pacs] url: only for transport = "web"'),
    (PACS + "watch.day = 1", "[sources.pacs.watch] day: unknown key"),
    (
        '[sources.cloud]\ntransport = "web"\nurl = "http://x"\nretrieve = "get"',
        '[sources.cloud] retrieve: only for transport = "dimse"',
    ),
    # missing keys
    ('[[rules]]\nname = "lungs"', "[[rules]] number 1 ('lungs') pipeline: this key is required"),
    ('[[rules]]\npipeline = "x"', "[[rules]] number 1 name: this key is required"),
    ('[pipelines.x]\nfolder = "x"', "[pipelines.x] sha256: this key is required"),
    (
        '[destinations.a]\nhost = "x"',
        "[destinations.a] transport: this key is required: 'dimse', 'stow' or 'folder'",
    ),
    ('[destinations.a]\ntransport = "folder"', "[destinations.a] path: this key is required"),
    # wrong types
    ('[accept.dimse]\nport = "high"', "[accept.dimse] port: must be a whole number, not 'high'"),
    (
        "[accept.dimse]\nmax_associations = 2.5",
        "[accept.dimse] max_associations: must be a whole number, not 2.5",
    ),
    ('[accept.dimse]\nenabled = "maybe"', "[accept.dimse] enabled: must be true or false, not 'maybe'"),
    ('[assemble]\nquiet_s = "soon"', "[assemble] quiet_s: must be a number, not 'soon'"),
    ("[assemble]\nquiet_s = nan", "[assemble] quiet_s: must be a finite number, not nan"),
    ("[compute]\ntimeout_s = inf", "[compute] timeout_s: must be a finite number, not inf"),
    ('[compute]\ndevices = "cpu"', "[compute] devices: must be a list like [...], not 'cpu'"),
    ("[node]\ndata = 5", "[node] data: must be a text in quotes, not 5"),
    ("accept = 5", "[accept]: must be a table, not 5"),
    ("destinations = 5", "[destinations]: must be a table, not 5"),
    ("[destinations]\na = 5", "[destinations] a: must be a table, not 5"),
    ('[rules]\nname = "x"', "[rules]: must be a list of tables, each begun by [[rules]]"),
    ("rules = [5]", "[[rules]] number 1: must be a table, not 5"),
    (RULE + "match = 5", "[[rules]] number 1 ('lungs') match: must be a table, not 5"),
    (
        RULE + 'send_to = "archive"',
        "[[rules]] number 1 ('lungs') send_to: must be a list like [...], not 'archive'",
    ),
    ('[pipelines.x]\nfolder = "x"\nsha256 = 5', "[pipelines.x] sha256: must be a text in quotes, not 5"),
    # out of range
    ("[accept.dimse]\nport = 70000", "[accept.dimse] port: must be at most 65535, not 70000"),
    ("[accept.dimse]\nport = -1", "[accept.dimse] port: must be at least 0, not -1"),
    (ARCHIVE.replace("104", "0"), "[destinations.archive] port: must be at least 1, not 0"),
    ("[compute]\ntimeout_s = 0", "[compute] timeout_s: must be more than 0, not 0"),
    ("[assemble]\nquiet_s = 1e30", "[assemble] quiet_s: must be at most 31536000, not 1e+30"),
    ("[keep]\ndone_days = 1e10", "[keep] done_days: must be at most 36500, not 10000000000.0"),
    ("[accept]\nreserve_gb = 1e300", "[accept] reserve_gb: must be at most 1000000000, not 1e+300"),
    ("[compute]\ntries = 11", "[compute] tries: must be at most 10, not 11"),
    ('[compute]\nengine = "ray"', "[compute] engine: must be 'local', not 'ray'"),
    (
        '[destinations.a]\ntransport = "smtp"',
        "[destinations.a] transport: must be 'dimse', 'stow' or 'folder', not 'smtp'",
    ),
    ('[node]\nae_title = "SEVENTEEN LETTERS"', f"[node] ae_title: {AE} 'SEVENTEEN LETTERS'"),
    ('[node]\nae_title = ""', f"[node] ae_title: {AE} ''"),
    ('[node]\nae_title = "MÜNCHEN"', f"[node] ae_title: {AE} 'MÜNCHEN'"),
    ("[accept]\ncallers = ['CT01', 'A\\B']", rf"[accept] callers, entry 2: {AE} 'A\\B'"),
    (ARCHIVE.replace('"ARCHIVE"', '"\\n"'), rf"[destinations.archive] ae_title: {AE} '\n'"),
    (
        RULE.replace("lungs", ""),
        "[[rules]] number 1 ('') name: must be 1 or more printable characters, not ''",
    ),
    (f'[node]\nae_title = "{"x" * 500}"', f"[node] ae_title: {AE} '{'x' * 59}..."),
    (
        ARCHIVE.replace("10.0.0.5", "my..pacs"),
        "[destinations.archive] host: must be the name or address of a machine, not 'my..pacs'",
    ),
    (
        ARCHIVE.replace("10.0.0.5", ""),
        "[destinations.archive] host: must be the name or address of a machine, not ''",
    ),
    # what does not go together
    (
        ARCHIVE + 'alternates = ["archive"]',
        "[destinations.archive] alternates names 'archive' itself; name other destinations",
    ),
    (
        ARCHIVE + 'alternates = ["second"]',
        "[destinations.archive] alternates names 'second', but the other destinations are: there is none",
    ),
    (RULE + RULE, "[[rules]] several are named 'lungs'"),
    (
        RULE + 'send_to = ["archive"]',
        "[[rules]] 'lungs' sends to 'archive', but the destinations are: there is none",
    ),
    (
        RULE + 'send_to = ["archiv"]\n' + ARCHIVE,
        "[[rules]] 'lungs' sends to 'archiv', but the destinations are: archive; did you mean 'archive'?",
    ),
    (
        '[accept.dimse]\nhost = "0.0.0.0"',
        "[accept.dimse] host = '0.0.0.0' can be reached from outside, so "
        '[accept] callers or policies must say who may send, or tls must be "mutual"',
    ),
    (
        '[show]\nhost = "10.0.0.1"',
        "[show] host = '10.0.0.1' can be reached from outside, but nobody has to say who he is; "
        'use 127.0.0.1, or tls = "mutual", or tls = "on" with tokens',
    ),
    (
        f'[accept.policies.ct]\ncertificates = ["{"a" * 64}"]',
        "[accept.policies.ct] certificates are only seen where a door has "
        'tls = "mutual": [accept.dimse] or [show]',
    ),
    # what an archive is asked, and from where one may come
    (
        '[sources.pacs]\ntransport = "web"\nurl = "http://127.0.0.1/dicom-web"\n'
        '[sources.pacs.watch]\nmatch = { ModalityInStudy = "CT" }',
        "[sources.pacs.watch] match: 'ModalityInStudy' is no DICOM keyword that an archive can be asked "
        "for; did you mean 'ModalitiesInStudy'?",
    ),
    *(
        (
            f'[accept.policies.x]\nhosts = ["10.0.0.0/24", {entry}]',
            "[accept.policies.x] hosts, entry 2: must be an address or a network, as in '10.0.0.0/24', "
            f"not {told}",
        )
        for entry, told in (
            ('"10.0.0.0/33"', "'10.0.0.0/33'"),
            ('"10.0.0.5/24"', "'10.0.0.5/24'"),
            ("5", "5"),
        )
    ),
]


def read(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return read_config(path, environ or {})


def complaint(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, environ)
    head, *lines = str(caught.value).splitlines()
    assert head == f"{tmp_path / 'node.toml'} cannot be used:"
    assert all(line.startswith("  ") for line in lines)
    return "\n".join(line[2:] for line in lines)


@pytest.mark.parametrize(("text", "expected"), BAD_FILES, ids=range(len(BAD_FILES)))
def test_a_mistake_is_named_with_its_table_and_key(tmp_path, text, expected):
    assert complaint(tmp_path, text) == expected


@pytest.mark.parametrize(("text", "expected"), BAD_RESULTS, ids=range(len(BAD_RESULTS)))
def test_a_mistake_about_results_is_named_with_what_may_be_said(tmp_path, text, expected):
    assert complaint(tmp_path, text).startswith(expected)


@pytest.mark.parametrize(
    "template",
    [
        "AI {pipeline} {what} research",
        "{what} {pipeline} {version} {{research}}",
        "research {what}/{pipeline}",
    ],
)
def test_a_template_that_tells_enough_is_taken(tmp_path, template):
    path = tmp_path / "node.toml"
    path.write_text(f"[results]\nseries_description = {template!r}\nseries_number = 700\n")
    told = read_config(path, {}).results.presentation
    assert told == Presentation(series_number=700, series_description=template)


def test_all_mistakes_are_told_at_once(tmp_path):
    text = "[node]\nqqq = 1\n[compute]\ntries = 0\n[shwo]\n[[rules]]\npipeline = 'x'\n" + ARCHIVE.replace(
        "104", "'x'"
    )
    assert complaint(tmp_path, text).splitlines() == [
        "[node] qqq: unknown key",
        "[compute] tries: must be at least 1, not 0",
        "[destinations.archive] port: must be a whole number, not 'x'",
        "[[rules]] number 1 name: this key is required",
        "[shwo]: unknown table; did you mean 'show'?",
    ]
    text = RULE + 'send_to = ["a", "b"]\n[show]\nhost = "example.org"'
    assert len(complaint(tmp_path, text).splitlines()) == 3


@pytest.mark.parametrize("text", ["[accept\n", "[node]\ndata = 1\ndata = 2", "\0", "[node]\ndata = 'x"])
def test_what_is_no_toml_is_told_with_the_file_and_the_line(tmp_path, text):
    with pytest.raises(ConfigError, match=rf"{tmp_path}/node\.toml cannot be read: .*\(at "):
        read(tmp_path, text)


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no configuration file .*missing\.toml"):
        read_config(tmp_path / "missing.toml", {})
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        read_config(tmp_path, {})
    (tmp_path / "latin.toml").write_bytes(b'[node]\nae_title = "M\xfcnchen"')
    with pytest.raises(ConfigError, match=r"cannot be read: byte 21 is not UTF-8$"):
        read_config(tmp_path / "latin.toml", {})


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    (tmp_path / "node.toml").write_bytes(b'\xef\xbb\xbf[node]\nae_title = "BOM"\n')
    assert read_config(tmp_path / "node.toml", {}).node.ae_title == "BOM"


def test_the_largest_numbers_are_still_within_what_dates_can_hold(tmp_path):
    read(tmp_path, "[assemble]\nquiet_s = 31536000\n[keep]\ndone_days = 36500\n")


def test_nothing_at_all_gives_the_defaults():
    config = read_config(None, {})
    assert config.node.ae_title == "RADNODE"
    assert config.node.data == Path.cwd() / "data"
    assert config.accept.dimse.port == 11112
    assert config.compute.devices == ("auto",)


def test_the_file_of_the_design_is_read(tmp_path):
    config = read(
        tmp_path,
        ARCHIVE
        + '[destinations.out]\ntransport = "folder"\npath = "out"\n[accept.folder]\npath = "in"\n'
        + '[pipelines.spleen]\nfolder = "/opt/spleen"\nsha256 = "00"\n'
        + RULE
        + 'send_to = ["archive", "out"]\n[rules.match]\nModality = "CT"\nSliceThickness = { max = 5.0 }\n',
    )
    (rule,) = config.rules
    assert rule.match == {"Modality": "CT", "SliceThickness": {"max": 5.0}}
    assert rule.send_to == ("archive", "out")
    out = config.destinations["out"]
    assert isinstance(out, FolderDestination)
    assert out.path == tmp_path / "out"
    assert config.accept.folder.path == tmp_path / "in"
    assert config.pipelines["spleen"].folder == Path("/opt/spleen")
    assert config.node.data == tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("RADNODE_ACCEPT__DIMSE__PORT", "11113", 11113),
        ("RADNODE_NODE__AE_TITLE", "HELLO", "HELLO"),
        ("RADNODE_NODE__AE_TITLE", '"104"', "104"),
        ("RADNODE_COMPUTE__DEVICES", '["cpu", "cpu"]', ("cpu", "cpu")),
        ("RADNODE_ASSEMBLE__QUIET_S", "0.5", 0.5),
        ("RADNODE_ACCEPT__DIMSE__ENABLED", "false", False),
    ],
)
def test_the_environment_overrides_the_file(tmp_path, name, text, value):
    config = read(
        tmp_path, '[node]\nae_title = "FILE"\n[accept.dimse]\nport = 4', {name: text, "OTHER__X": "1"}
    )
    found = config
    for part in name.removeprefix("RADNODE_").lower().split("__"):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (
            {"RADNODE_ACCEPT__DIMSE__PORT": "high"},
            "[accept.dimse] port: must be a whole number, not 'high' (set by RADNODE_ACCEPT__DIMSE__PORT)",
        ),
        (
            {"RADNODE_ACEPT__DIMSE__PORT": "1"},
            "[acept]: unknown table; did you mean 'accept'? (set by RADNODE_ACEPT__DIMSE__PORT)",
        ),
        (
            {"RADNODE_NODE__AE_TITLE": "1\nx = 2"},
            r"[node] ae_title: must be a text in quotes, not 1 (set by RADNODE_NODE__AE_TITLE)",
        ),
    ],
)
def test_a_complaint_about_the_environment_names_the_variable(tmp_path, environ, expected):
    assert complaint(tmp_path, "", environ) == expected


@pytest.mark.parametrize("name", ["RADNODE___X", "RADNODE_RULES__X", "RADNODE_ACCEPT__DIMSE__PORT__X"])
def test_a_variable_that_names_no_key_is_told(tmp_path, name):
    with pytest.raises(ConfigError, match=f"The environment variable {name} names no key"):
        read(tmp_path, RULE + "[accept.dimse]\nport = 4", {name: "1"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("RADNODE_ACCEPT_DIMSE_PORT", "RADNODE_ACCEPT__DIMSE__PORT"),
        ("RADNODE_ASSEMBLE_QUIET_S", "RADNODE_ASSEMBLE__QUIET_S"),
        ("RADNODE_PORT", "RADNODE_<TABLE>__<KEY>"),
    ],
)
def test_a_variable_with_single_underscores_is_told_and_not_ignored(tmp_path, name, hint):
    with pytest.raises(ConfigError, match=f"{name} is unknown; use double underscores: {hint}"):
        read(tmp_path, "", {name: "9"})


def test_other_variables_of_ours_are_not_configuration(tmp_path):
    ours = {"RADNODE_FAILPOINTS": "x=kill", "RADNODE_FAILPOINTS_ONCE": "/x", "RADNODE_WORKER": "1"}
    assert read(tmp_path, "", ours) == read(tmp_path, "")


@pytest.mark.parametrize(
    ("host", "fine"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("example.org", False)]
)
def test_only_loopback_needs_no_callers(tmp_path, host, fine):
    text = f'[accept.dimse]\nhost = "{host}"\n'
    if fine:
        read(tmp_path, text)
    else:
        assert "callers" in complaint(tmp_path, text)
    read(tmp_path, text + '[accept]\ncallers = ["CT01"]')
