"""From a bundle somewhere to a folder of ours that was tried, and whose digest may be approved."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from node.adding import words
from node.adding.arrive import bring, discard
from node.adding.card import NAME, Bundle, bundle_name, choose, renamed
from node.adding.download import download, is_name
from node.compute import installed
from node.compute.catalogue import OURS
from node.compute.record import MARK, Trial, read_trial, record_of, write_trial
from node.compute.sandbox.probe import probe, unconfined
from node.compute.trial import try_out
from node.config import Config
from node.errors import BundleRefused, ConfigError
from node.terminal import Watcher
from pipelines.contract import Card, CardError, read_card
from pipelines.trial import simulated_case

LEFT_AFTER_S: Final = 86_400.0  #: no command takes that long
#: How far the trial is when a step begins.
_STEPS: Final = {
    "wait": "a worker starts",
    "look": "card and files",
    "model": "the model loads",
    "compute": "it runs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A pipeline that was tried and lies in its place."""

    card: Card
    trial: Trial


def shelf(config: Config) -> Path:
    """Return where added pipelines lie."""
    return config.node.data / "pipelines"


def add(
    bundle: str,
    config: Config,
    now: datetime,
    say: Callable[[str], None],
    watch: Watcher,
    *,
    name: str | None = None,
    card: Path | None = None,
) -> Added:
    """Copy a bundle, give it a card, try it on a simulated case, and keep it.

    Parameters
    ----------
    bundle
        A folder, an archive, or the name of a bundle of the Model Zoo.
    say
        Is told, sentence by sentence, what was seen and done.
    name
        What it is to be called here instead of what its card says.
    card
        To be used before any other.

    Raises
    ------
    BundleRefused
        With every reason that is known; nothing is left of it.
    ConfigError
        There is no such bundle, or it cannot be read, or this machine cannot shut it in.
    """
    data = config.node.data.resolve()
    if lack := unconfined(config.compute.isolation, [bundle], probe(data)):
        raise ConfigError(lack)
    with _workplace(data / "pipelines") as work:
        watch("Copying", 0.0, bundle)
        source = _source(bundle, work, say)
        # What was fetched is kept here if a person has to go on with it.
        base = Path.cwd() / source.name if source.is_relative_to(work) else source
        folder = work / "bundle"
        bring(source, folder)
        watch("Copying", 1.0, "")
        for sentence in words.of_folder(folder):
            say(sentence)
        seen = Bundle(folder=folder, name=bundle_name(source), draft=_draft_of(base), again=str(base))
        try:
            text = choose(seen, card, say)
        except BundleRefused:
            if base != source and not os.path.lexists(base):
                shutil.move(source, base)
                say(f"What was fetched is in {base}.")
            raise
        (folder / "card.toml").write_text(renamed(text, name) if name else text, encoding="utf-8")
        found = _put(folder, seen.name)
        final = data / "pipelines" / found.folder.name
        _refuse_taken(found, final)
        watch("Trial", 0.0, "a simulated case is made")
        trial = _tried(found, config, now, partial(_told, watch))
        if not trial.is_good:
            raise BundleRefused(found.name, [trial.sentence])
        watch("Trial", 1.0, "")
        if not final.exists():
            found.folder.rename(final)
        write_trial(trial, final)
        return Added(card=read_card(final / "card.toml"), trial=trial)


@contextmanager
def _workplace(place: Path) -> Iterator[Path]:
    """Make a folder beside the pipelines, on their disk, that is gone afterwards."""
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o750)
        (place / MARK).touch()
        _tidy(place)
        work = Path(tempfile.mkdtemp(prefix=".new-", dir=place))
    except OSError as error:
        raise ConfigError(f"Nothing can be written into {place}: {error.strerror}.") from error
    try:
        yield work
    finally:
        discard(work)


def _tidy(place: Path) -> None:
    """Remove what was left by an earlier command that was killed."""
    for left in (*place.glob(".new-*"), *place.glob(".gone-*")):
        if time.time() - left.stat().st_mtime > LEFT_AFTER_S:
            discard(left)


def _source(bundle: str, work: Path, say: Callable[[str], None]) -> Path:
    """Return the bundle as a path, after it was fetched where it is only a name."""
    path = Path(bundle)
    if os.path.lexists(path):
        return path.resolve()
    if not is_name(bundle):
        raise ConfigError(f"There is no folder or file {bundle}.")
    say(f"{bundle} is neither a folder nor a file here; MONAI's downloader is asked for it.")
    place = work / "download"
    place.mkdir()
    return download(bundle, place)


def _draft_of(source: Path) -> Path:
    """Return where the draft of a card stands: beside the bundle."""
    return source.with_name(f"{bundle_name(source)}.card.draft.toml")


def _put(folder: Path, name: str) -> Card:
    """Return the card of a copy, which now lies in a folder of the name that it must have."""
    try:
        card = read_card(folder / "card.toml")
        package = card.use.partition(".")[0].partition(":")[0]
        if not NAME.fullmatch(card.name):
            raise BundleRefused(
                name, [f"its name {card.name!r} is not of lower case letters, digits and hyphens (--as)"]
            )
        if not package.isidentifier():
            raise BundleRefused(name, [f"its code, {card.use!r}, is in no package"])
        if card.name in installed({}):
            raise BundleRefused(
                name, [f"{card.name!r} is a pipeline of radnode itself; give it another name (--as)"]
            )
        # Code of its own is a package of the name of its folder; else the folder bears the pipeline's.
        final = folder.with_name(card.name if package == OURS.name else package)
        if final != folder:
            folder.rename(final)
        return read_card(final / "card.toml")
    except CardError as error:
        raise BundleRefused(name, [str(error).replace(f"{folder}/", "")]) from error


def _refuse_taken(card: Card, final: Path) -> None:
    """Refuse to put other files in the place of a pipeline that a running node may use."""
    if not final.exists():
        return
    try:
        there = read_card(final / "card.toml").digest
    except CardError:
        there = ""
    if there != card.digest:
        raise BundleRefused(
            card.name,
            [
                f"there is another {card.name!r} in {final}; remove it first (radnode pipelines remove "
                f"{card.name}), or give this one another name (--as)"
            ],
        )


def _tried(card: Card, config: Config, now: datetime, report: Callable[[str, float], None]) -> Trial:
    try:
        case = simulated_case(card)
    except ValueError as error:
        raise BundleRefused(card.name, [f"no case can be simulated for it: {error}"]) from error
    return try_out(card, case, config.compute, now, report)


def _told(watch: Watcher, step: str, done: float) -> None:
    watch("Trial", done, _STEPS.get(step, step))


def remove(name: str, config: Config) -> tuple[Path, ...]:
    """Remove an added pipeline and the record of its trial; return what is gone.

    Raises
    ------
    ConfigError
        There is none, or rules still use it.
    """
    if rules := [rule.name for rule in config.rules if rule.pipeline == name]:
        raise ConfigError(f"{name} is used by {', '.join(map(repr, rules))}; take these [[rules]] out first.")
    gone = []
    for folder in sorted(shelf(config).glob("*/")):
        if folder.name.startswith(".") or _name_of(folder) != name:
            continue
        away = folder.with_name(f".gone-{folder.name}")
        discard(away)
        folder.rename(away)
        record_of(folder).unlink(missing_ok=True)
        discard(away)
        gone.append(folder)
    if not gone and name not in config.pipelines:
        raise ConfigError(f"There is no pipeline {name!r} in {shelf(config)}.")
    return tuple(gone)


def _name_of(folder: Path) -> str:
    try:
        return read_card(folder / "card.toml").name
    except CardError:
        return folder.name


def trial_of(card: Card) -> Trial | None:
    """Return the record of a pipeline's trial, if there is one that can be read."""
    try:
        return read_trial(card.folder)
    except ValueError:
        return None
