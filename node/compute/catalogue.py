"""Which pipelines there are: those of this distribution, and outside ones that were approved.

A pipeline is a program, a MONAI bundle included. One from outside runs only if its folder is,
file by file, what somebody approved by writing its digest into the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from node.compute.record import complaint_of_trial
from node.config import ExternalPipeline
from node.errors import ConfigError
from pipelines.contract import Card, CardError, read_card

#: Where our own pipelines lie; a folder with a ``card.toml`` is one.
OURS = Path(str(files("pipelines")))


def installed(external: Mapping[str, ExternalPipeline]) -> dict[str, Card]:
    """Read the cards of all pipelines, without importing any.

    Parameters
    ----------
    external
        The ``[pipelines.<name>]`` tables of the configuration.

    Raises
    ------
    ConfigError
        Lists every complaint: unreadable cards, names used twice, folders that nobody approved.
    """
    cards: dict[str, Card] = {}
    complaints: list[str] = []
    for path in sorted(OURS.glob("*/card.toml")):
        try:
            card = read_card(path)
        except CardError as error:
            complaints.append(str(error))
            continue
        if card.name in cards:
            complaints.append(f"{path}: there is another pipeline {card.name!r}")
        cards[card.name] = card
    for name, entry in sorted(external.items()):
        try:
            card = read_card(entry.folder / "card.toml")
        except CardError as error:
            complaints.append(f"[pipelines.{name}] {error}")
            continue
        said = list(_complaints(name, entry, card))
        if card.name in cards:
            said.append(f"there is another pipeline {card.name!r}; rename one of them")
        complaints += [f"[pipelines.{name}] {sentence}" for sentence in said]
        cards[card.name] = card
    if complaints:
        raise ConfigError("\n".join(["Some pipelines cannot be used:", *(f"  {c}" for c in complaints)]))
    return dict(sorted(cards.items()))


def _complaints(name: str, entry: ExternalPipeline, card: Card) -> Iterator[str]:
    if card.name != name:
        yield f"the card in {entry.folder} is of pipeline {card.name!r}; name the table after it"
    for path in sorted(entry.folder.rglob("*")):
        if path.is_symlink():
            yield f"{path} is a link, so the digest cannot vouch for it; put the file itself there"
        elif path.name == "__pycache__":
            yield f"{path} holds compiled code, which the digest leaves out; remove it"
    package = card.use.partition(".")[0].partition(":")[0]
    if package not in ("pipelines", entry.folder.name):
        yield (
            f"its code, {card.use!r}, lies outside the approved folder; use 'pipelines...' or "
            f"'{entry.folder.name}....:Class'"
        )
    if entry.sha256.lower() != card.digest:
        yield (
            f"nobody approved what is in {entry.folder} now: its digest is {card.digest}. "
            "Look at what it holds, then write that as sha256 to approve it"
        )
    elif complaint := complaint_of_trial(entry.folder, card.digest):
        yield complaint
