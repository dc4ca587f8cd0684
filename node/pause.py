"""``radnode pause`` and ``radnode resume``: an operator holds a destination back; how it stands with each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from node.config import Config
from node.errors import NodeError
from node.journal import Journal
from node.terminal import ConfigPath, out, read_chosen
from node.text import printable

Destination = Annotated[str, typer.Argument(help=escape("Its name in [destinations]."))]
#: A reason is a note of a person's; more than this is none.
LONGEST_REASON = 200


def pause(
    destination: Destination,
    reason: Annotated[str, typer.Option(help="Why, for whoever reads the status.")] = "",
    config: ConfigPath = None,
) -> None:
    """Send nothing to a destination and ask nothing of it until it is resumed; what it is owed waits."""
    chosen = read_chosen(config)
    _check_known(destination, chosen.destinations)
    told = " ".join(printable(reason).split())[:LONGEST_REASON]
    with closing(_journal(chosen)) as journal:
        held = journal.pause(destination, told, datetime.now(UTC))
    since = f"{held.since.isoformat()[:19]}Z"
    _say(f"{destination} is paused since {since}: what it is owed waits, and no alternate is given it.")


def resume(destination: Destination, config: ConfigPath = None) -> None:
    """Let a paused destination have what it is owed, at once."""
    chosen = read_chosen(config)
    with closing(_journal(chosen)) as journal:
        if destination not in journal.paused():
            _check_known(destination, chosen.destinations)
        journal.resume(destination, datetime.now(UTC))
    _say(f"{destination} is no longer paused.")


def standing_lines(destinations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Tell how it stands with each destination, from ``radnode status``."""
    for one in destinations:
        counts = {
            "owed": "owed",
            "unproved": "taken and not proved yet",
            "proved": "proved",
            "taken": "taken",
        }
        told = ", ".join(f"{one[key]} {words}" for key, words in counts.items() if one[key])
        yield f"{one['destination']}: {told or 'nothing owed'}"
        if one["via"]:
            by = ", ".join(f"{count} by {alternate}" for alternate, count in one["via"].items())
            yield f"  taken in its place: {by}"
        if one["since"]:
            why = f": {one['why']}" if one["why"] else ""
            yield f"  not proved since {one['since'][:19]}Z, next asked at {one['next_ask'][:19]}Z{why}"
        if one["paused_since"]:
            yield f"  paused since {one['paused_since'][:19]}Z{': ' * bool(one['pause'])}{one['pause']}"


def _check_known(destination: str, known: Mapping[str, object]) -> None:
    if destination not in known:
        raise NodeError(
            f"There is no destination {destination!r}; the destinations are: "
            f"{', '.join(sorted(known)) or 'there is none'}."
        )


def _journal(config: Config) -> Journal:
    return Journal.open(config.node.data, create=False)


def _say(sentence: str) -> None:
    out.print(sentence, markup=False, highlight=False, soft_wrap=True)
