"""What is done with what came: [assemble], [compute], [results], [send], [keep], pipelines, rules."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from node.config.fields import Days, Gigabytes, Name, Seconds, Table
from node.profile import Presentation


class AssembleTable(Table):
    """[assemble]"""

    quiet_s: Annotated[float, Field(ge=0, le=31_536_000)] = 10.0  #: settled: nothing new for this long
    #: A series of which an archive counts more than ever came: "proceed" says so in the results,
    #: "refuse" gives a refusal that says so, "wait" lets it wait until they come.
    incomplete: Literal["proceed", "refuse", "wait"] = "proceed"


class ComputeTable(Table):
    """[compute]"""

    engine: Literal["local"] = "local"
    devices: tuple[str, ...] = ("auto",)  #: one worker slot per entry: "auto", "cpu", "cuda:0"
    timeout_s: Seconds = 900.0
    tries: Annotated[int, Field(ge=1, le=10)] = 2
    memory_gb: Gigabytes = 16.0  #: a worker above this resident size is killed
    scratch_gb: Gigabytes = 16.0  #: a worker that wrote more than this into its folder is killed
    #: "required": pipelines from outside run only where the kernel shuts them in; "best": anyhow
    isolation: Literal["required", "best"] = "required"


class SendTable(Table):
    """[send]"""

    tries: Annotated[int, Field(ge=1, le=1000)] = 20
    first_retry_s: Seconds = 5.0  #: doubles with each try
    longest_retry_s: Seconds = 900.0


#: Fields of a Series Description as `string.Formatter` parses them: no format, no conversion.
_FILLED_IN = {(name, "", None) for name in ("pipeline", "version", "what")}


class ResultsTable(Table):
    """[results]: how results are numbered and named in a study."""

    series_number: Annotated[int, Field(ge=1, le=2**31 - 1000)] = 9001  #: of the first kind of object
    #: Series Description; must tell ``{pipeline}`` and ``{what}``, and say "research".
    series_description: Name = Presentation.series_description
    max_object_mb: Annotated[float, Field(ge=5, le=2000)] = 512.0  #: larger segmentations are split

    @field_validator("series_description")
    @classmethod
    def _tells(cls, template: str) -> str:
        told = "may hold {pipeline}, {version} and {what}, and no other braces or backslashes"
        try:
            parts = list(Formatter().parse(template))
        except ValueError as error:
            raise ValueError(told) from error
        if any(part[1:] not in _FILLED_IN for part in parts if part[1] is not None):
            raise ValueError(told)
        if "\\" in template:
            raise ValueError(told)
        filled = template.format(pipeline="", version="", what="")
        if not {"pipeline", "what"} <= {part[1] for part in parts} or "research" not in filled:
            raise ValueError("must hold {pipeline}, {what} and the word research")
        if len(filled) > 32:
            raise ValueError("leaves no room: at most 32 characters beside what is filled in")
        return template

    @property
    def presentation(self) -> Presentation:
        """The same as the encoder takes it."""
        return Presentation(**self.model_dump())


class KeepTable(Table):
    """[keep]: retention. A series ages out after its newest instance; nothing with open work does."""

    unrouted_days: Days = 7.0
    done_days: Days = 30.0
    failed_days: Days = 90.0


class ExternalPipeline(Table):
    """[pipelines.<name>]: a pipeline outside this distribution, approved by its digest."""

    folder: Path  #: holds card.toml; relative to the config file
    sha256: str  #: digest of the folder; what is said about a wrong one tells the right one


#: "refuse": the lack is told as a refusal; "skip": the pipeline is not for such a study.
WithoutPrior = Literal["refuse", "skip"]


class RuleTable(Table):
    """[[rules]]: which series go to which pipeline. The match language is `node.assign.rule`."""

    name: Name
    pipeline: str
    send_to: tuple[str, ...] = ()
    match: dict[str, Any] = {}  #: of the series; of each one, where the pipeline takes several
    #: [rules.inputs.<role>]: the same for one role; where there is none, what the card says is used
    inputs: dict[str, dict[str, Any]] = {}
    #: [rules.results.<pipeline>]: what another pipeline must have found; see `node.assign.results`
    results: dict[str, dict[str, Any]] = {}
    #: How long several series of a study may lack one before that is a refusal.
    wait_s: Annotated[float, Field(ge=0, le=31_536_000)] = 600.0
    without_prior: WithoutPrior = "refuse"  #: where there is no earlier study after that time
    #: "proceed": after that time a case goes on without the roles that its card calls optional, and says so
    incomplete: Literal["refuse", "proceed"] = "refuse"
