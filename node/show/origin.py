"""What an origin server gives from (PS3.18 10): an index of what the node holds, and its files.

Pixels are decoded elsewhere: `Develop` is a process that may crash or hang without harm to the server.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from starlette.requests import Request

from node.errors import ComputeError, NodeError
from node.journal import Holding, Journal
from node.lease import Leases
from node.log import get_log
from node.show.index import Index
from node.show.members import Members
from node.show.resource import Problem, shown_by
from pipelines.contract import InputRefused

log = get_log("show")

#: Does a thing ("frames", "dataset", "picture") to a file elsewhere, as a payload says, and gives a folder
#: with what it made, until the block ends. Raises InputRefused where it cannot be done. `node.develop`.
Develop = Callable[[str, Path, Mapping[str, Any]], AbstractContextManager[Path]]


class Origin:
    """The part of the node that is shown.

    Parameters
    ----------
    leases
        Kept from retention while they are read.
    develop
        Decodes pixels; None: nothing is decoded.
    decodable
        Transfer syntaxes of which it can.
    """

    def __init__(
        self,
        journal: Journal,
        leases: Leases,
        develop: Develop | None = None,
        decodable: Collection[str] = (),
    ) -> None:
        self._journal, self._leases = journal, leases
        self._develop, self._decodable = develop, decodable
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

    def can_decode(self, transfer_syntax_uid: str) -> bool:
        """Say whether pixels in a transfer syntax can be decoded."""
        return self._develop is not None and transfer_syntax_uid in self._decodable

    @contextmanager
    def developed(self, what: str, holding: Holding, **payload: Any) -> Iterator[Made]:
        """Have something done to an instance elsewhere; what it made is there until the block ends.

        Raises
        ------
        Problem
            406: it cannot be done to this instance; 503: nobody has time for it.
        """
        if self._develop is None:
            raise Problem(406, "Nothing is decoded here.")
        payload["syntax"] = holding.transfer_syntax_uid
        try:
            with self._develop(what, holding.path, payload) as folder, Made.open(folder) as made:
                yield made
        except InputRefused as refusal:
            raise Problem(406, refusal.sentence) from refusal
        except ComputeError as error:
            log.warning(
                "not_developed",
                sop_instance_uid=holding.sop_instance_uid,
                transfer_syntax_uid=holding.transfer_syntax_uid,
                code=error.code,
            )
            if error.then == "leave":
                raise Problem(503, "The node stops.") from error
            raise Problem(406, "The pixels of this instance cannot be decoded here.") from error
        except NodeError as error:
            if error.then != "retry":
                raise
            raise Problem(503, str(error), {"Retry-After": "5"}) from error

    def lease(self, study: str) -> Lease:
        """Keep a study from retention, as long as what is returned is held by anybody.

        Raises
        ------
        Problem
            410: retention is at it.
        """
        return Lease(self._leases, study)


class Made:
    """A folder that something hostile may have made: only plain files directly in it are read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Made]:
        """Open a folder for the length of a block."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield cls(descriptor)
        finally:
            os.close(descriptor)

    def file(self, name: str) -> BinaryIO:
        """Open one of its files."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(name, flags, dir_fd=self._descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Problem(500, "What was made of this instance is no file.")
        return os.fdopen(descriptor, "rb")


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
