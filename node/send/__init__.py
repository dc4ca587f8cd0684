"""Objects go home, with receipts.

`send` is all that others need. One module per transport; a transport takes objects in their
order and yields a receipt for each as it is answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

from node.config import Config
from node.errors import PeerRefused, SendError
from node.model import Receipt, ResultObject, StandIn
from node.send import dimse, folder
from node.send.classes import Negotiated

__all__ = ["TRANSPORTS", "Transport", "in_order", "send"]


class Transport(Protocol):
    """How objects get to one kind of destination."""

    def __call__(
        self,
        objects: Sequence[ResultObject],
        name: str,
        destination: Any,
        *,
        calling_ae: str,
        now: Callable[[], datetime],
        negotiated: Negotiated,
    ) -> Iterator[Receipt]:
        """Yield a receipt per object; raise `SendError` once no further object can be sent."""


TRANSPORTS: Mapping[str, Transport] = {
    "dimse": dimse.store,
    "folder": folder.write,
}


def send(
    objects: Sequence[ResultObject],
    name: str,
    config: Config,
    now: Callable[[], datetime],
    negotiated: Negotiated = lambda _taken: {},
) -> Iterator[Receipt]:
    """Send objects to one destination; yield a receipt for each as it is answered.

    What was yielded counts, whatever comes after it. An object is not sent when one that it
    refers to was refused; those that do not refer to it still are.

    Parameters
    ----------
    name
        Of one of ``config.destinations``.
    negotiated
        Told which SOP Classes the destination takes, says what goes in place of what it does not.

    Raises
    ------
    PeerUnreachable, PeerBusy
        Worth another try later.
    PeerRefused
        At least one object will never be taken; raised after all others were sent. Or the
        configuration has no such destination any more.
    SendError
        A file is not what was committed.
    """
    destination = config.destinations.get(name)
    if destination is None:
        raise PeerRefused(f"The configuration no longer has a destination {name!r}.")
    ordered = in_order(objects)
    for thing in ordered:
        _check_unchanged(thing)

    def whole(taken: Mapping[str, bool]) -> Mapping[str, StandIn]:
        replaced = negotiated(taken)
        for one in replaced.values():
            if one.thing is not None:
                _check_unchanged(one.thing)
        return replaced

    transport, calling_ae = TRANSPORTS[destination.transport], config.node.ae_title
    yield from transport(ordered, name, destination, calling_ae=calling_ae, now=now, negotiated=whole)


def in_order(objects: Sequence[ResultObject]) -> tuple[ResultObject, ...]:
    """Return the objects so that each comes after those it refers to, otherwise as given.

    Raises
    ------
    SendError
        They refer to each other in a circle.
    """
    given = {thing.sop_instance_uid: thing for thing in objects}
    position = {uid: number for number, uid in enumerate(given)}
    sorter = TopologicalSorter(
        {uid: [other for other in thing.refers_to if other in given] for uid, thing in given.items()}
    )
    ordered: list[ResultObject] = []
    try:
        sorter.prepare()
    except CycleError as error:
        raise SendError("The objects refer to each other in a circle, so none can go first.") from error
    waiting: list[str] = []
    while sorter.is_active():
        waiting = sorted([*waiting, *sorter.get_ready()], key=position.__getitem__)
        uid = waiting.pop(0)
        ordered.append(given[uid])
        sorter.done(uid)
    return tuple(ordered)


def _check_unchanged(thing: ResultObject) -> None:
    """Refuse to send a file whose bytes are not those that were committed."""
    try:
        with thing.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SendError(
            f"The file of object {thing.sop_instance_uid} cannot be read: {error.strerror}."
        ) from error
    if found != thing.sha256:
        raise SendError(
            f"The file of object {thing.sop_instance_uid} changed on disk after it was made, so it is "
            "not sent. Look for a failing disk, or for somebody who edits the data folder."
        )
