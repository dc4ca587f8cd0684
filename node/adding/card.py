"""Which card a bundle gets: one given, its own, the draft a person completed, ours for the Model Zoo."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from node.errors import BundleRefused, ConfigError
from pipelines.draft import draft_card, open_points, read_said
from pipelines.zoo import unlike_card, zoo_cards

LONGEST: Final = 1 << 20  #: bytes of a card
NAME: Final = re.compile(r"[a-z0-9](-?[a-z0-9]){0,62}")
_VERSION: Final = re.compile(r"_v\d+(\.\d+)*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was copied into a folder of ours."""

    folder: Path
    name: str  #: as its author calls it
    draft: Path  #: where a draft of its card stands, or will
    again: str  #: the bundle as a person would name it the next time


def bundle_name(source: Path) -> str:
    """Return what a bundle is called by its folder or archive: without the version that archives bear."""
    name = source.name if source.is_dir() else source.stem
    return _VERSION.sub("", name)


def choose(bundle: Bundle, given: Path | None, say: Callable[[str], None]) -> str:
    """Return the text of the card that a bundle gets.

    Parameters
    ----------
    given
        A card by its path, which goes before all others.
    say
        Is told where the card comes from.

    Raises
    ------
    BundleRefused
        There is none, so a draft was written; or there is a draft that nobody has completed.
    ConfigError
        A card cannot be read.
    """
    own = bundle.folder / "card.toml"
    for place, told in ((given, "given"), (own, "of the bundle"), (bundle.draft, "the completed draft")):
        if place is not None and (place is given or place.is_file()):
            text = _read(place)
            if points := open_points(text):
                raise BundleRefused(bundle.name, [f"{place}, {point}" for point in points])
            say(f"card: {place if place is not own else 'card.toml'} ({told})")
            return text
    reasons = []
    if zoo := zoo_cards().get(bundle.name):
        reasons = list(unlike_card(zoo, bundle.folder))
        if not reasons:
            say("card: the one that comes with radnode; every file that it pins is what it was written for")
            return _with_weights(_read(zoo), bundle, say)
    text = draft_card(read_said(bundle.folder, bundle.name))
    points = open_points(text)
    _write(bundle.draft, text)
    if reasons:
        say(
            "radnode has a card for this bundle, but for other files than these. Who knows that it fits "
            f"nevertheless copies {zoo}, puts the pins right and names it (--card)."
        )
    say(
        f"A draft of a card is now in {bundle.draft}: {len(points)} lines need a person. Then run "
        f"'radnode pipelines add {bundle.again}' again."
    )
    raise BundleRefused(bundle.name, [*reasons, *(f"{bundle.draft.name}, {point}" for point in points)])


def renamed(text: str, name: str) -> str:
    """Return a card with another name.

    Raises
    ------
    ConfigError
        The name cannot be one, or the card has none to replace.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name a pipeline: lower case letters, digits and hyphens between them."
        )
    return _replaced(text, "name", name, ())


def _with_weights(text: str, bundle: Bundle, say: Callable[[str], None]) -> str:
    """Write the SHA-256 of the weights into a card of ours; say whether its pins have vouched for them.

    Raises
    ------
    BundleRefused
        There are no weights.
    """
    table = tomllib.loads(text).get("bundle", {})
    weights = table.get("weights")
    if not weights:
        return text
    path = bundle.folder / weights
    if not path.is_file():
        where = (
            "; large_files.yml says where to fetch them"
            if any(bundle.folder.glob("large_files.y*ml"))
            else ""
        )
        raise BundleRefused(bundle.name, [f"the weights, {weights}, are missing{where}"])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if weights not in table.get("pins", {}):
        say(
            f"weights: {weights} has SHA-256 {found}; their publisher tells no hash, so nobody vouches for "
            "them: compare it with somebody whom you trust"
        )
    if "weights_sha256" in table:
        return _replaced(text, "weights_sha256", found, ("bundle",))
    line = re.search(r"(?m)^weights\s*=.*$", text)
    if line is None:
        raise ConfigError("The card names its weights in a way that cannot be completed.")
    return _checked(
        f'{text[: line.end()]}\nweights_sha256 = "{found}"{text[line.end() :]}',
        "weights_sha256",
        found,
        ("bundle",),
    )


def _replaced(text: str, key: str, value: str, table: tuple[str, ...]) -> str:
    made = re.sub(rf"(?m)^{key}\s*=.*$", f'{key} = "{value}"', text, count=1)
    return _checked(made, key, value, table)


def _checked(text: str, key: str, value: str, table: tuple[str, ...]) -> str:
    """Return a changed card, if it now says what it was changed to say."""
    try:
        there: Any = tomllib.loads(text)
        for one in table:
            there = there[one]
        if there.get(key) == value:
            return text
    except (tomllib.TOMLDecodeError, KeyError, AttributeError):
        pass
    raise ConfigError(
        f"The card's {key} cannot be set to {value!r}; write it into a copy and name that (--card)."
    )


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LONGEST:
            raise ConfigError(f"{path} is too long to be a card.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: byte {error.start + 1} is not UTF-8.") from error


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"The draft of a card cannot be written to {path}: {error.strerror}.") from error
