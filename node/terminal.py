"""What the commands share: where they print, their common options, a bar for what is under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from node.config import Config, read_config

out = Console()

ConfigPath = Annotated[
    Path | None, typer.Option("--config", help="Configuration; ./node.toml when it is there.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]

#: Called with the stage, how much of it is done (0 to 1), and what is under way.
Watcher = Callable[[str, float, str], None]


def config_file(path: Path | None) -> Path | None:
    """Return the file that is meant: the one that was named, or ./node.toml where there is one."""
    return Path("node.toml") if path is None and Path("node.toml").exists() else path


def read_chosen(path: Path | None) -> Config:
    """Read the configuration that is meant."""
    return read_config(config_file(path))


@contextmanager
def progress() -> Iterator[Watcher]:
    """Show what is under way; nothing where nobody looks."""
    columns = (
        TextColumn("{task.description:18}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def watch(stage: str, done: float, detail: str) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=1.0, detail="")
            bars.update(tasks[stage], completed=done, detail=escape(detail))

        yield watch
