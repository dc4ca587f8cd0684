"""A case goes on without a role that its card calls optional, where the rule says so, and says it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta

import pytest

from node import flow
from node.accept import Store, spool_file
from node.assign import parse_rules
from node.compute import Staging, installed
from node.compute.order import order_for
from node.config import read_config
from node.errors import ConfigError
from node.job import JobState
from node.journal import Journal
from node.serve import utc_now
from pipelines.contract import CardError, InputRefused, folder_digest, read_card
from tests import toy_case
from tests.harness import NodeProcess
from tests.peers import RecordingPacs
from tests.test_cases_node import counted, reports_of, storescu
from tests.toy_case import ROLES, write_ct, write_mr
from tests.toy_node import HELD

pytestmark = pytest.mark.long

TUMOUR = toy_case.TUMOUR.replace("[inputs.t1c]\n", "[inputs.t1c]\noptional = true\n").replace(
    "[inputs.flair]\n", "[inputs.flair]\noptional = true\n"
)
CHANGE = toy_case.CHANGE.replace("[inputs.prior]\n", "[inputs.prior]\noptional = true\n")
RULES = """\
[[rules]]
name = "tumours"
pipeline = "toy-tumour"
send_to = ["{place}"]
wait_s = {wait_s}
incomplete = "proceed"
[[rules]]
name = "change"
pipeline = "toy-change"
send_to = ["{place}"]
wait_s = {wait_s}
incomplete = "proceed"
"""


def install(folder, card):
    """Install a toy that counts what is there, whichever roles those are."""
    table = toy_case.install(folder, card)
    place = folder / card.split('"')[1].replace("-", "_")
    before = folder_digest(place)
    code = place / "pipeline.py"
    code.write_text(code.read_text().replace("enumerate(self.card.inputs)", "enumerate(case)"))
    return table.replace(before, folder_digest(place))


@contextmanager
def opened(folder, cards=(TUMOUR, CHANGE), rules=RULES):
    """Open a node without workers, whose clock stands still until it is moved: node, clock."""
    folder.mkdir(exist_ok=True)
    toys = "".join(install(folder, card) for card in cards)
    text = HELD.format(pipelines=toys) + rules.format(place="out", wait_s=600)
    (folder / "node.toml").write_text(text, encoding="utf-8")
    config = read_config(folder / "node.toml")
    cards, data, now = installed(config.pipelines), config.node.data, [utc_now()]
    journal = Journal.open(data)
    try:
        yield (
            flow.Node(
                config=config,
                journal=journal,
                store=Store(data, config.accept),
                staging=Staging(data),
                engine=None,
                cards=cards,
                rules=parse_rules(config.rules, cards),
                clock=lambda: now[0],
            ),
            now,
        )
    finally:
        journal.close()


def settle(files, node):
    """Let a series arrive and settle; return the jobs that this made."""
    return flow.plan(
        [flow.receive(*spool_file(file, node.store), node) for file in files][-1].series_uid, node
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return {role: write_mr(folder / role, role) for role in ROLES}


def cautions(job, node):
    inputs = node.journal.instances_of(job)
    return order_for(job, node.cards, inputs, (None, None), node.config, {}).cautions


def test_after_its_time_a_case_goes_on_without_what_is_optional_and_says_so(study, tmp_path):
    with opened(tmp_path / "node") as (node, now):
        for role in ("t2", "t1", "t1c"):
            jobs = settle(study[role], node)
        assert jobs[-1].spec.lack.then == "proceed"
        assert node.journal.claim(now[0]) is None, "it may still come"
        now[0] += timedelta(seconds=600)
        job = node.journal.claim(now[0])
        assert node.journal.instances_of(job).keys() == {"t1", "t1c", "t2"}
        assert cautions(job, node) == {
            "t1": "computed without input 'flair': No series of the study fits role 'flair': Modality is MR; "
            "SeriesDescription is *FLAIR*"
        }


def test_what_is_optional_and_comes_in_time_takes_part(study, tmp_path):
    with opened(tmp_path / "node") as (node, now):
        for role in ("t2", "t1", "t1c"):
            settle(study[role], node)
        (job,) = settle(study["flair"], node)
        assert job.spec.lack is None
        assert node.journal.claim(now[0]).id == job.id
        assert cautions(job, node) == {}
        states = [one.state for one in node.journal.jobs()]
        assert states.count(JobState.CANCELLED) == 3


def test_what_comes_too_late_makes_the_case_anew(study, tmp_path):
    with opened(tmp_path / "node") as (node, now):
        for role in ("t2", "t1", "t1c"):
            settle(study[role], node)
        now[0] += timedelta(seconds=600)
        without = node.journal.claim(now[0])
        (job,) = settle(study["flair"], node)
        assert (job.spec.lack, job.spec.key == without.spec.key) == (None, False)


def test_what_is_not_optional_is_still_refused(study, tmp_path):
    with opened(tmp_path / "node") as (node, now):
        for role in ("t1", "t1c", "flair"):
            settle(study[role], node)
        now[0] += timedelta(seconds=600)
        job = node.journal.claim(now[0])
        assert (job.spec.lack.then, job.spec.lack.roles) == ("refuse", ("t2",))
        with pytest.raises(InputRefused, match="fits role 't2'"):
            node.journal.instances_of(job)


def test_a_series_that_fits_two_roles_is_given_to_the_one_that_is_needed(study, tmp_path):
    """\"T1 post C\" fits t1 as well as t1c, which is optional."""
    with opened(tmp_path / "node") as (node, now):
        settle(study["t1c"], node)
        settle(study["t2"], node)
        now[0] += timedelta(seconds=600)
        job = node.journal.claim(now[0])
        assert job.spec.inputs.keys() == {"t1", "t2"}
        assert job.spec.lack.roles == ("t1c", "flair")
        assert "computed without input 't1c' and 'flair'" in cautions(job, node)["t1"]


def test_two_series_for_a_needed_role_are_refused_though_an_optional_one_is_lacking(study, tmp_path):
    again = write_mr(tmp_path / "again", "t2", SeriesNumber=9)
    with opened(tmp_path / "node") as (node, now):
        for role in ("t1", "t1c", "t2"):
            settle(study[role], node)
        settle(again, node)
        now[0] += timedelta(seconds=600)
        assert node.journal.claim(now[0]).spec.lack.code == "several-candidates"


def test_without_an_earlier_study_a_case_goes_on_and_with_a_late_one_it_is_made_anew(tmp_path):
    current, prior = write_ct(tmp_path / "a", "20240105"), write_ct(tmp_path / "b", "20210203")
    with opened(tmp_path / "node") as (node, now):
        (job,) = settle(current, node)
        now[0] += timedelta(seconds=600)
        job = node.journal.claim(now[0])
        assert job.spec.inputs.keys() == {"current"}
        assert (
            "computed without input 'prior': The node holds no earlier study"
            in cautions(job, node)["current"]
        )
        made = settle(prior, node)
        (whole,) = [one for one in made if one.spec.inputs.keys() == {"current", "prior"}]
        assert whole.spec.lack is None


def test_a_rule_cannot_do_without_what_the_card_needs(tmp_path):
    with (
        pytest.raises(ConfigError, match="no role of 'toy-tumour' is optional"),
        opened(tmp_path / "node", (toy_case.TUMOUR, CHANGE)),
    ):
        pass


@pytest.mark.parametrize(
    ("card", "why"),
    [
        (toy_case.TUMOUR.replace("[inputs.t1]\n", "[inputs.t1]\noptional = true\n"), "it is the first role"),
        (
            TUMOUR + '[inputs.lungs]\nmodality = ["SEG"]\nunit = "1"\nresult = "lungs"\noptional = true\n',
            "it is a result of another pipeline",
        ),
        (TUMOUR + '[bundle]\noutput = "labels"\n', "a MONAI bundle, which takes all of them"),
    ],
)
def test_a_card_cannot_call_optional_what_is_not(card, why, tmp_path):
    (tmp_path / "card.toml").write_text(card, encoding="utf-8")
    with pytest.raises(CardError, match=why):
        read_card(tmp_path / "card.toml")


def texts(item):
    """Return what a report says in sentences."""
    found = [str(item.TextValue)] if "TextValue" in item else []
    return found + [said for child in item.get("ContentSequence", []) for said in texts(child)]


CONFIG = """\
[node]
data = "data"
[accept]
reserve_gb = 0.01
[accept.dimse]
port = 0
[assemble]
quiet_s = 0.3
[compute]
devices = ["cpu"]
{toys}
[destinations.archive]
transport = "dimse"
ae_title = "ARCHIVE"
host = "127.0.0.1"
port = {port}
"""


def test_a_node_computes_without_it_and_the_report_says_so(study, tmp_path):
    folder = tmp_path / "node"
    folder.mkdir()
    with RecordingPacs() as archive:
        toys = "".join(install(folder, card) for card in (TUMOUR, CHANGE))
        rules = RULES.format(place="archive", wait_s=1)
        node = NodeProcess(folder, CONFIG.format(toys=toys, port=archive.port) + rules)
        node.start()
        try:
            assert storescu([*study["t1"], *study["t2"], *study["t1c"]], node)
            node.wait_idle()
            (report,) = reports_of(archive)
            assert counted(report).keys() == {"t1", "t1c", "t2"}
            assert any("computed without input 'flair'" in said for said in texts(report))
        finally:
            node.kill()
