"""What an origin server gives from (PS3.18 10): an index of what the node holds, and its files.

Pixels are decoded elsewhere: `Develop` is a process that may crash or hang without harm to the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request

from node.journal import Holding, Journal
from node.lease import Leases
from node.show.index import Index
from node.show.members import Members
from node.show.resource import Problem, shown_by

#: Does a thing ("frame", "object", "picture") to a file elsewhere, as a payload says, and returns a folder
#: with what came of it; whoever asked removes it. Raises InputRefused where it cannot be done.
Develop = Callable[[str, Path, Mapping[str, Any]], Path]


class Origin:
    """The part of the node that is shown.

    Parameters
    ----------
    leases
        Kept from retention while they are read.
    develop
        Decodes pixels; None: nothing is decoded.
    """

    def __init__(self, journal: Journal, leases: Leases, develop: Develop | None = None) -> None:
        self._journal, self._leases = journal, leases
        self.develop = develop
        self.index = Index(journal)
        self.members = Members(journal)

    def start(self) -> None:
        """Begin to read headers."""
        self.index.start()

    def stop(self) -> None:
        """End the reading of headers."""
        self.index.stop()

    def holdings(self, study: str, series: str = "", instance: str = "") -> list[Holding]:
        """Return what is held of a resource; to be called while its study is leased.

        Raises
        ------
        Problem
            404: it is not known here; 410: it was held and has aged out, or its results were taken back.
        """
        found = self._journal.holdings(study, series, instance)
        if found:
            return found
        what = "instance" if instance else "series" if series else "study"
        if self._journal.was_held(study, series, instance):
            raise Problem(410, f"This {what} was held here and is not any more.")
        raise Problem(404, f"This {what} is not held here.")

    def lease(self, study: str) -> Lease:
        """Keep a study from retention, as long as what is returned is held by anybody.

        Raises
        ------
        Problem
            410: retention is at it.
        """
        return Lease(self._leases, study)


class Lease:
    """Ends when nobody holds it any more: an answer that is never begun has no other end."""

    def __init__(self, leases: Leases, study: str) -> None:
        self._leases, self._study = leases, study
        self._is_taken = leases.take(study)
        if not self._is_taken:
            raise Problem(410, "This study was held here and is not any more.")

    def __del__(self) -> None:
        if self._is_taken:
            self._leases.give_back(self._study)


def origin_of(request: Request) -> Origin:
    """Return what an origin server gives from.

    Raises
    ------
    Problem
        404: this door shows nothing.
    """
    origin = shown_by(request).origin
    if origin is None:
        raise Problem(404, "This door shows nothing.")
    return origin
