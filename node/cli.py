"""``radnode``: the commands an operator uses."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from node import __version__, evidence, log
from node.adding.commands import app as pipelines
from node.analyze import Analysis, analyze
from node.assign import render, render_cases
from node.check import complaints
from node.config import Config
from node.errors import ConfigError, NodeError
from node.explain import explained
from node.job import Job, Withdrawal
from node.journal import Journal
from node.model import Outcome
from node.pause import pause, resume, standing_lines
from node.profile import EXTRAS, Coordinates, Report, Segmentation
from node.pull.commands import pull, pull_lines
from node.serve import serve as run_node
from node.serve import utc_now
from node.terminal import AsJson, ConfigPath, out, progress, read_chosen

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="DICOM analysis node. Research software: results are not for diagnosis.",
)
app.add_typer(pipelines, name="pipelines")
app.command()(pause)
app.command()(resume)

JobNumber = Annotated[int, typer.Argument(help="Number of the job, as `radnode status` shows it.")]


_EXTRAS = f"<{'|'.join(EXTRAS)}>"


def _extras(words: list[str] | None) -> list[str]:
    for word in words or ():
        if word not in EXTRAS:
            choices = ", ".join(repr(extra) for extra in EXTRAS)
            raise typer.BadParameter(f"{word!r} is not one of {choices}.")
    return words or []


def main() -> None:
    """Run the command line; every error is a sentence, never a traceback."""
    try:
        app()
    except NodeError as error:
        Console(stderr=True).print(f"[red]radnode:[/red] {escape(str(error))}", soft_wrap=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except Exception as error:  # noqa: BLE001  the last place that can turn it into a sentence
        told = f"radnode: unexpected fault ({log.describe(error)}). This is a bug; please report this line."
        Console(stderr=True).print(told, markup=False, soft_wrap=True)
        sys.exit(70)  # EX_SOFTWARE


@app.callback()
def _begin(context: typer.Context) -> None:
    """Say where log lines go: the node tells all it does, the other commands only what went wrong."""
    log.configure(level=logging.INFO if context.invoked_subcommand == "serve" else logging.ERROR)
    if context.invoked_subcommand in ("analyze", "explain", "pipelines"):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)


def _end(number: int, _frame: Any) -> None:
    """End as if asked politely, so that scratch folders with patients' images go away."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


@contextmanager
def _journal(config: Config) -> Iterator[Journal]:
    journal = Journal.open(config.node.data, create=False)
    try:
        yield journal
    finally:
        journal.close()


@app.command()
def serve(config: ConfigPath = None) -> None:
    """Run the node until SIGTERM, which drains it."""
    sys.exit(run_node(read_chosen(config), announce=lambda line: print(line, flush=True)))


@app.command("analyze")
def analyze_command(
    path: Annotated[Path, typer.Argument(help="A file or folder of DICOM.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Where the result objects go.")],
    pipeline: Annotated[str | None, typer.Option(help="Run only this one, whatever the rules say.")] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help="Series for a role of the pipeline; may be repeated.", metavar="ROLE=PATH"
        ),
    ] = None,
    report: Annotated[Report, typer.Option(help="Which reports are written.")] = "viewer",
    segmentation: Annotated[Segmentation, typer.Option(help="How outlines are written.")] = "auto",
    coordinates: Annotated[
        Coordinates, typer.Option(help="Places are told on an image, or in space.")
    ] = "image",
    also: Annotated[
        list[str] | None,
        typer.Option(help="What else is written; may be repeated.", callback=_extras, metavar=_EXTRAS),
    ] = None,
    config: ConfigPath = None,
) -> None:
    """Run pipelines over a folder and write the result objects to another."""
    given = {
        "report": report,
        "segmentation": segmentation,
        "coordinates": coordinates,
        "also": tuple(also or ()),
    }
    with progress() as watch:
        result = analyze(
            path, out_folder, read_chosen(config), pipeline, watch, given, _by_role(inputs or [])
        )
    _tell(result, out_folder)
    sys.exit(0 if result.is_good else 1)


def _by_role(words: list[str]) -> dict[str, Path]:
    """Return role -> path of ``ROLE=PATH``."""
    found: dict[str, Path] = {}
    for word in words:
        role, equals, path = word.partition("=")
        if not (role and equals and path) or role in found:
            raise typer.BadParameter(
                f"{word!r} is not ROLE=PATH with a role of its own.", param_hint="--input"
            )
        found[role] = Path(path)
    return found


@app.command()
def status(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show series, jobs by state, and deliveries."""
    chosen = read_chosen(config)
    with _journal(chosen) as journal:
        report = evidence.status(journal, chosen, utc_now())
    if as_json:
        print(json.dumps(report))
        return
    held = {key: report[key] for key in ("instances", "series", "quarantined")}
    held |= {"arriving": len(report["arriving"]), "unrouted": report["unrouted"]["count"]}
    for title, counts in (("held", held), ("jobs", report["jobs"])):
        out.print(
            f"{title}: {', '.join(f'{count} {what}' for what, count in counts.items())}", soft_wrap=True
        )
    sent = report["deliveries"]
    out.print(f"deliveries: {sent['delivered']} made, {sent['pending']} pending, {sent['parked']} parked")
    for line in pull_lines(report["pulls"]):
        out.print(line, markup=False, soft_wrap=True)
    _tell_series("Series that arrive (radnode settle SERIES_UID)", report["arriving"], "waits")
    _tell_series("Last series that went on without what an archive counts", report["incomplete"], "reason")
    _tell_jobs("Jobs that wait for a series, or for the result of another", report["waiting"])
    _tell_jobs("Failed jobs (radnode retry JOB)", report["failed"])
    _tell_jobs("Last refused jobs (the series is not fit for the pipeline)", report["refused"])
    _tell_jobs("Last withdrawn jobs", report["withdrawn"])
    trouble = ("job", "destination", "tries", "next_try", "code", "reason")
    _list("Deliveries in trouble", sent["troubled"], trouble)
    for line in standing_lines(report["destinations"]):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    _tell_series("Unrouted series (radnode explain SERIES_UID)", report["unrouted"]["series"], "reason")
    _list("Last events", report["events"], ("at", "job", "pipeline", "to", "reason"))


@app.command("explain")
def explain_command(
    what: Annotated[str, typer.Argument(metavar="SERIES_UID|PATH", help="A series of the node, or files.")],
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Say why a series settled, whether each rule matches, by which value, and what became of the jobs."""
    found = explained(what, read_chosen(config))
    if as_json:
        print(json.dumps({told.series.uid: told.as_dict() for told in found}))
        return
    for told in found:
        out.print(f"[b]Series {told.series.uid}[/b], {len(told.series.instances)} instances", soft_wrap=True)
        lines = [*told.how_it_settled, *told.unreadable, render(told.rules)]
        out.print("\n".join(lines), markup=False, soft_wrap=True)
        _tell_jobs("Jobs", told.jobs)
    for study_uid, cases in {told.series.study_uid: told.cases for told in found if told.cases}.items():
        out.print(f"[b]Study {study_uid}[/b]", soft_wrap=True)
        out.print(render_cases(cases), markup=False, soft_wrap=True)


@app.command()
def settle(
    series_uid: Annotated[str, typer.Argument(help="A series that arrives.")], config: ConfigPath = None
) -> None:
    """Wait no longer for a series: work on what is held of it now."""
    with _journal(read_chosen(config)) as journal:
        held = journal.settle(series_uid, utc_now())
    out.print(f"Series {series_uid} goes on with the {held} instances held.", markup=False, soft_wrap=True)


@app.command()
def retry(job: JobNumber, config: ConfigPath = None) -> None:
    """Try a failed job again: sending where results exist, else computing."""
    with _journal(read_chosen(config)) as journal:
        _tell_job(journal.retry(job, utc_now()))


@app.command()
def cancel(job: JobNumber, config: ConfigPath = None) -> None:
    """Give up a job that is not finished, or a rejection that failed."""
    with _journal(read_chosen(config)) as journal:
        _tell_job(journal.cancel(job, utc_now()))


@app.command("withdraw")
def withdraw_command(
    job: JobNumber,
    reason: Annotated[Withdrawal, typer.Option(help="Why; it becomes the title of the rejection note.")],
    config: ConfigPath = None,
) -> None:
    """Take back the results of a job: a rejection note goes wherever they went (IHE IOCM)."""
    from node.withdraw import withdraw  # it needs the encoder, which a node does not load

    chosen = read_chosen(config)
    with _journal(chosen) as journal:
        _tell_job(withdraw(job, reason, journal, chosen, utc_now, _say))


def _say(sentence: str) -> None:
    Console(stderr=True).print(escape(sentence), soft_wrap=True)


app.command()(pull)


@app.command()
def check(config: ConfigPath = None) -> None:
    """Examine configuration, disk, decoders, pipelines and destinations; every complaint at once."""
    found = 0
    for place, complaint in complaints(read_chosen(config)):
        found += bool(complaint)
        mark = "[red]no[/red] " if complaint else "[green]ok[/green] "
        out.print(f"{mark}{escape(place)}{': ' + escape(complaint) if complaint else ''}", soft_wrap=True)
    sys.exit(1 if found else 0)


@app.command()
def conformance(config: ConfigPath = None) -> None:
    """Print the DICOM conformance statement of the node as it is configured, in Markdown."""
    from node.conformance import statement  # knows the encoder, which a node that serves does not load

    out.file.write(statement(read_chosen(config)))


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _list(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    if not rows:
        return
    whole = (Column(name, overflow="fold") for name in columns)  # UIDs in reasons are not cut
    table = Table(*whole, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(escape(str(row.get(column, "") or "")) for column in columns))
    out.print(table)


def _tell_series(title: str, series: list[dict[str, Any]], why: str) -> None:
    if series:
        out.print(f"[i]{title}[/i]", soft_wrap=True)
    for one in series:
        held = f"  {one['instances']} instances" if "instances" in one else ""
        told = f"  {one['series_uid']}{held}: {one[why]}"
        out.print(told, markup=False, highlight=False, soft_wrap=True)


def _tell_jobs(title: str, jobs: list[dict[str, Any]]) -> None:
    """Print jobs as lines: a series UID alone would fill half of a table."""
    if not jobs:
        return
    out.print(f"[i]{title}[/i]", soft_wrap=True)
    for job in jobs:
        code = f" ({job['code']})" if job["code"] else ""
        lines = [f"  job {job['job']}  {job['pipeline']} {job['version']}  {job['state']}{code}"]
        lines += _input_lines(job["inputs"])
        lines += [f"    until {job['until'][:19]}Z"] if "until" in job else []
        if job["withdrawal"]:
            lines.append(f"    withdrawn ({job['withdrawal']}) at {job['withdrawn_at'][:19]}Z")
        if job["superseded_by"]:
            lines.append(f"    superseded by job {job['superseded_by']}")
        lines += [f"    {job['reason']}"] if job["reason"] else []
        lines += [f"    {line}" for line in standing_lines(job.get("destinations", ()))]
        out.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _input_lines(inputs: list[dict[str, Any]]) -> list[str]:
    """Tell the series of a job: the whole UID of a single one, else how a person knows each by its role."""
    if len(inputs) == 1:
        return [f"    series {entry['series_uid']}" for entry in inputs]
    return [
        f"    {entry['role']}: series {entry['series_number'] or '?'} (...{entry['series_uid'][-12:]})"
        for entry in inputs
    ]


def _tell_job(job: Job) -> None:
    out.print(f"Job {job.id} is now {job.state}: {job.reason}", markup=False)


def _tell_found(outcome: Outcome) -> None:
    """Print what a pipeline found: measurements, answers, detections, and outlines without a number."""
    if outcome.summary:
        table = Table("structure", "measurement", "value", "unit")
        for row in outcome.summary:
            value = "not measured" if row["value"] is None else row["value"]
            told = (row["segment"], row["name"], value, row["unit"] if row["value"] is not None else "")
            table.add_row(*(escape(str(one)) for one in told))
        out.print(table)
    for line in _found_lines(outcome):
        out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _found_lines(outcome: Outcome) -> Iterator[str]:
    """Say what stands in no table of measurements."""
    for answer in outcome.evaluations:
        subject = f"{answer['segment']}: " if answer["segment"] else ""
        chance = answer["probability"]
        sure = "" if chance is None else f" (probability {100 * chance:.4g} %)"
        yield f"{subject}{answer['name']}: {answer['value']}{sure}"
    counts = Counter(one["label"] for one in outcome.detections)
    yield from (f"detected: {label}, {count}" for label, count in counts.items())
    measured = {row["segment"] for row in outcome.summary}
    for segment in outcome.segments:
        if segment["label"] not in measured:
            size = f"{segment['voxels']} voxels" if segment["voxels"] else "none found"
            yield f"outlined: {segment['label']}, {size}"
    if not (outcome.summary or outcome.evaluations or outcome.detections or outcome.segments):
        yield "nothing was found"


def _tell(result: Analysis, folder: Path) -> None:
    """Print what came of an analysis."""
    for file, why in result.skipped:
        out.print(f"[yellow]skipped[/yellow] {escape(f'{file}: {why}')}", soft_wrap=True)
    for series_uid, reason in result.unrouted:
        out.print(f"[yellow]not routed[/yellow] series {series_uid}: {escape(reason)}", soft_wrap=True)
    for job, outcome in result.jobs:
        series = ", ".join(
            given.series_uid if len(job.spec.inputs) == 1 else f"...{given.series_uid[-12:]} as {role}"
            for role, given in job.spec.inputs.items()
        )
        colour = "green" if job.state == "done" else "yellow" if job.state == "refused" else "red"
        told = f": {escape(job.reason)}" if job.state != "done" and job.reason else ""
        out.print(
            f"[{colour}]{job.state}[/{colour}] {job.spec.pipeline} on series {series}{told}",
            soft_wrap=True,
        )
        if outcome is not None:
            _tell_found(outcome)
            for note in outcome.notes:
                out.print(f"  note: {note}", markup=False, soft_wrap=True)
            if not job.spec.send_to:
                out.print("  not written: only another pipeline needed it, and no rule asks for it")
            for made in outcome.objects if job.spec.send_to else ():
                out.print(
                    f"  {made.kind}: {folder / made.sop_instance_uid}.dcm", markup=False, soft_wrap=True
                )


if __name__ == "__main__":
    main()
