"""``radnode pull``: have the running node fetch studies from an archive."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from node.config import Config
from node.errors import ConfigError, NodeError
from node.journal import Journal, Pull, is_locked
from node.peer.query import Found, archive_of
from node.serve import utc_now
from node.terminal import ConfigPath, out, progress, read_chosen
from node.text import printable
from node.uid import is_harmless

MOST_STUDIES = 500  #: that one command may have fetched
LOOK_EVERY_S = 0.5

_BETWEEN = re.compile(r",\s*(?=[A-Za-z]+=)")  #: values may have commas themselves


def pull(
    study_uid: Annotated[str | None, typer.Argument(help="Study Instance UID.")] = None,
    match: Annotated[
        str | None,
        typer.Option(
            help='Studies that match, e.g. "PatientID=4711, StudyDate=20200101-, ModalitiesInStudy=CT".',
            metavar="KEY=VALUE,...",
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Series Instance UID: only this one of the study.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Name of the archive; needed where there are several.")
    ] = None,
    prior: Annotated[
        bool, typer.Option("--prior", help="As earlier studies: they start nothing of their own.")
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Wait until all is here, or has failed; else it is left to the node.")
    ] = True,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.0, help="Wait no longer than this; the node goes on.", metavar="SECONDS"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask where several studies match.")] = False,
    config: ConfigPath = None,
) -> None:
    """Have the running node fetch a study from an archive, or the studies that match."""
    chosen = read_chosen(config)
    name = _source(source, chosen)
    if not is_locked(chosen.node.data) and wait:
        raise NodeError(
            f"No node runs on {chosen.node.data}, so nothing would come; start `radnode serve` first, or "
            "use --no-wait to have it fetched once it runs."
        )
    wanted = _wanted(study_uid, match, series, name, chosen, sure=yes)
    journal = Journal.open(chosen.node.data, create=False)
    try:
        ids = [journal.ask_pull(name, uid, series or "", prior=prior, now=utc_now()) for uid in wanted]
        if not wait:
            out.print(
                f"Asked for {_many(len(wanted))} from {escape(name)}; see `radnode status`.", soft_wrap=True
            )
            return
        ended = _wait(journal, ids, chosen, timeout)
    finally:
        journal.close()
    for one in ended:
        out.print(_line(one), soft_wrap=True)
    sys.exit(0 if all(one.state == "done" for one in ended) else 1)


def _source(name: str | None, config: Config) -> str:
    if name is None and len(config.sources) == 1:
        return next(iter(config.sources))
    if name is None or name not in config.sources:
        known = ", ".join(config.sources) or "none; name an archive in [sources.<name>]"
        said = "--from must name an archive" if name is None else f"There is no archive {name!r}"
        raise ConfigError(f"{said}; [sources] has: {known}.")
    return name


def _wanted(
    study_uid: str | None, match: str | None, series: str | None, name: str, config: Config, *, sure: bool
) -> list[str]:
    """Return the studies to fetch."""
    if (study_uid is None) == (match is None):
        raise typer.BadParameter("Name a STUDY_UID, or say with --match which studies; one of the two.")
    if series is not None and study_uid is None:
        raise typer.BadParameter("--series goes with the STUDY_UID that it is of.")
    for uid in (study_uid, series):
        if uid is not None and not is_harmless(uid):
            raise typer.BadParameter(f"{uid!r} is no UID: digits and dots, at most 64 characters.")
    if study_uid is not None:
        return [study_uid]
    found = archive_of(config.sources[name], config).studies(parse(match or ""), most=MOST_STUDIES + 1)
    if not found:
        raise NodeError(f"{name} has no study that matches.")
    if len(found) > MOST_STUDIES:
        raise NodeError(f"More than {MOST_STUDIES} studies of {name} match; say more in --match.")
    if len(found) > 1:
        _show(found)
        if not sure and not typer.confirm(f"Fetch these {len(found)} studies?"):
            sys.exit(1)
    return [one.uid for one in found]


def parse(text: str) -> Mapping[str, str]:
    """Return keyword -> value of ``Keyword=value, Keyword=value``."""
    found: dict[str, str] = {}
    for word in _BETWEEN.split(text.strip()):
        keyword, equals, value = word.partition("=")
        if not (keyword.strip() and equals and value.strip()) or keyword.strip() in found:
            raise typer.BadParameter(f"{word!r} is not Keyword=value with a keyword of its own.")
        found[keyword.strip()] = value.strip()
    return found


def _show(found: Sequence[Found]) -> None:
    """List studies so that a person knows which they are, without who they are of."""
    for one in found:
        modalities = " ".join(one.values.get("ModalitiesInStudy", ())) or "?"
        sizes = one.one("NumberOfStudyRelatedSeries") or "?", "?" if one.instances is None else one.instances
        told = (
            one.one("StudyDate") or "no date",
            modalities,
            f"{sizes[0]} series, {sizes[1]} instances",
            one.one("StudyDescription"),
        )
        line = printable("  ".join(filter(None, told)))
        out.print(f"study {one.uid}\n  {line}", markup=False, highlight=False, soft_wrap=True)


def _wait(journal: Journal, ids: Collection[int], config: Config, timeout_s: float | None) -> list[Pull]:
    """Show how far it is until nothing is open any more, and why whenever a try failed.

    Raises
    ------
    NodeError
        The node has stopped, or not all was here in time.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    told: dict[int, int] = {}  # number of the request -> failed tries that were told
    with progress() as watch:
        _say(
            f"Waiting for {_many(len(ids))}; Ctrl-C ends only the waiting, and with --no-wait it is left to "
            "the node at once."
        )
        while True:
            now = journal.pulls(ids)
            for one in now:
                watch(f"...{one.study_uid[-14:]}", _share(one), _detail(one))
                if one.is_open and one.reason and one.tries > told.get(one.id, 0):
                    told[one.id] = one.tries
                    _say(f"study {one.study_uid}, tried {one.tries} times: {one.reason}")
            still = sum(one.is_open for one in now)
            if not still:
                return now
            if not is_locked(config.node.data):
                raise NodeError(
                    "The node has stopped; it goes on with what was asked for when it runs again."
                )
            if until is not None and time.monotonic() >= until:
                raise NodeError(
                    f"Not all is here after {timeout_s:g} s: {_many(still)} of {len(now)} to be fetched. "
                    "The node goes on with it; see `radnode status`."
                )
            time.sleep(LOOK_EVERY_S)


def _say(line: str) -> None:
    """Write to standard error as it is now: above the bars on a terminal, plainly anywhere else."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _share(one: Pull) -> float:
    if one.state == "done":
        return 1.0
    return min(1.0, one.received / one.expected) if one.expected else 0.0


def _detail(one: Pull) -> str:
    count = f"{one.received} of {'?' if one.expected is None else one.expected}"
    return f"{count}, tried {one.tries} times: {one.reason}" if one.is_open and one.tries else count


def _line(one: Pull) -> str:
    colour, told = ("green", "here") if one.state == "done" else ("red", one.state)
    why = f": {escape(one.reason)}" if one.reason else ""
    return f"[{colour}]{told}[/{colour}] study {one.study_uid}, {one.received} instances{why}"


def _many(count: int) -> str:
    return "1 study" if count == 1 else f"{count} studies"


def pull_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Tell how it stands with what is fetched, from ``radnode status``; nothing where nothing was."""
    counts = {"waiting": "to be fetched", "done": "fetched", "failed": "failed"}
    if any(told[key] for key in counts):
        yield f"pulls: {', '.join(f'{told[key]} {words}' for key, words in counts.items())}"
    for one in told["troubled"]:
        expected = "?" if one["expected"] is None else one["expected"]
        count = f"{one['received']} of {expected} instances, tried {one['tries']} times"
        yield f"  study {one['study_uid']} from {one['source']}, {one['state']}, {count}: {one['reason']}"
    for source, why in told["sources"].items():
        yield f"  {source} cannot be asked: {why}"
