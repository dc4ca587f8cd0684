"""Whom we call: [destinations.<name>] to bring results, [sources.<name>] to ask for images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from node.config.fields import AETitle, Host, Name, Seconds, Table, Url
from node.config.matching import misfits
from node.profile import LABELMAP_CLASS, Coordinates, Extra, Profile, Report, Segmentation, decide


class _Destination(Table):
    """What any destination may say of the results that it wants; `node.profile` explains the words."""

    report: Report = "viewer"
    segmentation: Segmentation = "auto"
    coordinates: Coordinates = "image"
    also: tuple[Extra, ...] = ()
    #: Other destinations that are given what this one lacks while it cannot be reached.
    alternates: tuple[Name, ...] = ()

    def profile(self, takes_labelmap: bool | None = None) -> Profile:
        """Return what this destination is given; see `node.profile.decide`."""
        return decide(
            report=self.report,
            segmentation=self.segmentation,
            coordinates=self.coordinates,
            also=self.also,
            takes_labelmap=takes_labelmap,
        )


class DimseDestination(_Destination):
    """[destinations.<name>] with transport = "dimse"."""

    transport: Literal["dimse"]
    ae_title: AETitle
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)]
    timeout_s: Seconds = 30.0
    tls: bool = False
    #: How we know that it has what it took: "commitment" (PS3.4 J), "query" (it is asked by C-FIND).
    proof: Literal["none", "commitment", "query"] = "none"
    proof_s: Seconds = 600.0  #: a proof that has not come after so long is asked for again


class StowDestination(_Destination):
    """[destinations.<name>] with transport = "stow": STOW-RS (PS3.18 10.5)."""

    transport: Literal["stow"]
    url: Url  #: of the DICOMweb service; /studies is added
    timeout_s: Seconds = 30.0
    token_file: Path | None = None  #: holds a bearer token; read again for every delivery
    max_request_mb: Annotated[float, Field(ge=1, le=100_000)] = 100.0  #: a job goes in as many as it needs
    proof: Literal["none", "query"] = "none"  #: "query": it is asked by QIDO-RS
    proof_s: Seconds = 600.0


class FolderDestination(_Destination):
    """[destinations.<name>] with transport = "folder"."""

    transport: Literal["folder"]
    path: Path


Destination = Annotated[
    DimseDestination | StowDestination | FolderDestination, Field(discriminator="transport")
]


class Watch(Table):
    """[sources.<name>.watch]: studies that appear there are fetched."""

    every_s: Seconds = 60.0
    days: Annotated[int, Field(ge=0, le=3650)] = 1  #: studies of today and of so many days before
    #: Keyword -> what C-FIND or QIDO-RS is asked for, e.g. ``ModalitiesInStudy = "CT"``.
    match: dict[Name, str] = {}

    @field_validator("match")
    @classmethod
    def _can_be_asked(cls, match: dict[str, str]) -> dict[str, str]:
        if wrong := "; ".join(misfits(match)):
            raise ValueError(wrong)
        return match


class _Source(Table):
    """What is asked of an archive."""

    counts: bool = True  #: how many instances a series has is asked for, as evidence that it is whole
    priors: bool = False  #: earlier studies are looked for, where a rule wants one and none is held
    watch: Watch | None = None


class DimseSource(_Source):
    """[sources.<name>] with transport = "dimse": C-FIND, then C-MOVE to us or C-GET (PS3.4 C)."""

    transport: Literal["dimse"]
    ae_title: AETitle
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)]
    timeout_s: Seconds = 30.0
    tls: bool = False
    retrieve: Literal["move", "get"] = "move"  #: for "move" the archive must know our AE title and port


class WebSource(_Source):
    """[sources.<name>] with transport = "web": QIDO-RS and WADO-RS (PS3.18 10)."""

    transport: Literal["web"]
    url: Url  #: of the DICOMweb service
    timeout_s: Seconds = 30.0
    token_file: Path | None = None


Source = Annotated[DimseSource | WebSource, Field(discriminator="transport")]


def profiles_of(
    names: Iterable[str],
    destinations: Mapping[str, DimseDestination | StowDestination | FolderDestination],
    takes: Callable[[str, str], bool | None],
) -> dict[str, Profile]:
    """Return what each of these destinations is given; nowhere is given what a viewer needs.

    Parameters
    ----------
    takes
        (destination, SOP Class UID) -> whether it was seen to take the class; None: never asked.
    """
    known = {
        name: destinations[name].profile(takes(name, LABELMAP_CLASS)) if name in destinations else Profile()
        for name in names
    }
    return known or {"": Profile()}
