"""``radnode pipelines``: which there are, and how one comes and goes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from node.adding import approve, words
from node.adding.add import add, remove, trial_of
from node.compute import installed
from node.config import Config, read_config
from node.errors import ConfigError
from node.notice import unsaid
from node.serve import utc_now
from node.terminal import AsJson, ConfigPath, config_file, out, progress, read_chosen
from pipelines.contract import Card

app = typer.Typer(invoke_without_command=True, help="List the pipelines, add one from outside, remove it.")

PipelineName = Annotated[str, typer.Argument(metavar="NAME", help="Of a pipeline, as its card says.")]
Yes = Annotated[bool, typer.Option("--yes", help="Write into the configuration without asking.")]


@app.callback()
def _bare(context: typer.Context, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """List the installed pipelines, or do one of these."""
    if context.invoked_subcommand is None:
        _list(read_chosen(config), as_json)


@app.command("list")
def list_command(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """List the installed pipelines."""
    _list(read_chosen(config), as_json)


@app.command("show")
def show_command(name: PipelineName, config: ConfigPath = None) -> None:
    """Say what a pipeline takes and gives, who answers for it, and how its trial went."""
    cards = installed(read_chosen(config).pipelines)
    if name not in cards:
        raise ConfigError(f"There is no pipeline {name!r}; installed are: {', '.join(cards)}.")
    for line in words.of_card(cards[name]):
        _say(line)
    trial = trial_of(cards[name])
    for line in words.of_trial(trial) if trial else ("no trial is on record",):
        _say(line)


@app.command("add")
def add_command(
    bundle: Annotated[
        str,
        typer.Argument(
            help="A folder, a zip or TorchScript archive, or the name of a bundle of the Model Zoo."
        ),
    ],
    name: Annotated[str | None, typer.Option("--as", help="What it is to be called here.")] = None,
    card: Annotated[Path | None, typer.Option("--card", help="The card that it gets.")] = None,
    config: ConfigPath = None,
    yes: Yes = False,
) -> None:
    """Copy a MONAI bundle into the node, hold it against its card, try it, and have it approved.

    Without a card a draft is written beside the bundle, as NAME.card.draft.toml,
    with a mark wherever a person has to decide; complete it and run this again.

    At a terminal it asks whether to approve; elsewhere --yes approves. The exit
    code is 1 as long as there is a configuration that does not approve it.
    """
    chosen = read_chosen(config)
    with progress() as watch:
        added = add(bundle, chosen, utc_now(), _say, watch, name=name, card=card)
    for line in words.of_trial(added.trial):
        _say(line)
    _say(f"copied to {added.card.folder}")
    file = config_file(config)
    wanted = approve.table(added.card.name, added.card.folder, added.card.digest, file)
    known = chosen.pipelines.get(added.card.name)
    if file is not None and known is not None and known.sha256 == added.card.digest:
        _say(f"{file} approves these files already")
        return
    if file is not None and _agreed(yes, f"Approve it in {file}?"):
        approve.rewrite(
            file, approve.with_table(file.read_text(encoding="utf-8-sig"), added.card.name, wanted)
        )
        installed(read_config(file).pipelines)
        _say(f"approved in {file}; a running node takes it up when it is started again")
        return
    _say("\nIt runs once this stands in the configuration, which approves these files and no others:\n")
    out.print(wanted, markup=False, highlight=False, soft_wrap=True)
    if file is not None:
        _say(f"Nothing was approved: {file} is as it was. The same command with --yes writes this into it.")
        sys.exit(1)


@app.command("remove")
def remove_command(name: PipelineName, config: ConfigPath = None, yes: Yes = False) -> None:
    """Take a pipeline that was added away again, and its table out of the configuration."""
    chosen, file = read_chosen(config), config_file(config)
    for folder in remove(name, chosen):
        _say(f"removed {folder}")
    if name not in chosen.pipelines:
        return
    if file is not None and _agreed(yes, f"Take [pipelines.{name}] out of {file}?"):
        approve.rewrite(file, approve.without_table(file.read_text(encoding="utf-8-sig"), name))
        _say(f"[pipelines.{name}] taken out of {file}")
    else:
        _say(f"Now take [pipelines.{name}] out of the configuration; with it the node does not start.")


def _agreed(yes: bool, question: str) -> bool:
    """Ask a person, where there is one."""
    return yes or (sys.stdin.isatty() and sys.stdout.isatty() and typer.confirm(question))


def _say(sentence: str) -> None:
    out.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _list(config: Config, as_json: bool) -> None:
    cards = installed(config.pipelines)
    if as_json:
        typer.echo(json.dumps({card.name: _as_dict(card) for card in cards.values()}))
        return
    table = Table("name", "version", "takes", "finds", "intended use")
    for card in cards.values():
        table.add_row(
            escape(card.name),
            escape(card.version),
            escape("\n".join(f"{role}: {', '.join(spec.modality)}" for role, spec in card.inputs.items())),
            escape("\n".join(segment.label for segment in card.segments)),
            escape("\n".join(filter(None, (card.intended_use, unsaid(card.warning, card.intended_use))))),
        )
    out.print(table)
    for card in cards.values():
        _say(f"digest of {card.name}:\n  {card.digest}")


def _as_dict(card: Card) -> dict[str, Any]:
    trial = trial_of(card)
    return {
        "version": card.version,
        "title": card.title,
        "sha256": card.digest,
        "folder": str(card.folder),
        "takes": {role: list(spec.modality) for role, spec in card.inputs.items()},
        "finds": [segment.label for segment in card.segments],
        "intended_use": card.intended_use,
        "warning": card.warning,
        "trial": trial.verdict if trial else None,
    }
