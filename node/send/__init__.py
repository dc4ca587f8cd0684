"""Objects go home, with receipts.

`send` is all that others need. One module per transport; a transport takes objects in their
order and yields a receipt for each as it is answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any, Protocol

from node.config import Config, TlsTable
from node.errors import PeerBusy, PeerRefused, PeerUnreachable, SendError
from node.journal.given import REJECTION
from node.log import get_log
from node.model import Receipt, ResultObject, StandIn
from node.send import dimse, folder, stow
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
        tls: TlsTable,
        now: Callable[[], datetime],
        negotiated: Negotiated,
    ) -> Iterator[Receipt]:
        """Yield a receipt per object; raise `SendError` once no further object can be sent."""


class Swapping(Protocol):
    """`Negotiated`, for a place that is named."""

    def __call__(
        self,
        place: str,
        lacking: Sequence[ResultObject],
        taken: Mapping[str, bool],
        hoped: Mapping[str, bool],
    ) -> Mapping[str, StandIn]:
        """Return what goes there in place of what."""


TRANSPORTS: Mapping[str, Transport] = {
    "dimse": dimse.store,
    "stow": stow.store,
    "folder": folder.write,
}

NOTHING: Mapping[str, bool] = MappingProxyType({})

_log = get_log("send")


def send(
    objects: Sequence[ResultObject],
    name: str,
    config: Config,
    now: Callable[[], datetime],
    swapping: Swapping = lambda _place, _lacking, _taken, _hoped: {},
) -> Iterator[Receipt]:
    """Send objects to one destination; yield a receipt for each as it is answered.

    What was yielded counts, whatever comes after it. An object is not sent when one that it
    refers to was refused; those that do not refer to it still are.

    While the destination cannot be reached, or cannot take more, its alternates are given what it
    lacks, in their order; a receipt says who took it. What it refused is not offered to them.

    Parameters
    ----------
    name
        Of one of ``config.destinations``.
    swapping
        Told which SOP Classes a place takes, says what goes in place of what it does not.

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
    lacking = {thing.sop_instance_uid: thing for thing in in_order(objects)}
    for thing in lacking.values():
        _check_unchanged(thing)
    troubles: list[SendError] = []
    for place in dict.fromkeys((name, *destination.alternates)):
        # What takes results back goes where these went, however long that takes.
        offered = [thing for thing in lacking.values() if place == name or thing.kind != REJECTION]
        try:
            for one in _sent(offered, place, config, now, swapping) if offered else ():
                del lacking[one.sop_instance_uid]
                yield one if place == name else replace(one, destination=name, via=place)
            if not lacking:
                return
        except (PeerUnreachable, PeerBusy, PeerRefused) as error:
            if isinstance(error, PeerRefused) and place == name:
                raise
            if destination.alternates:
                _log.info("turned_away", destination=name, via=place, code=error.code, reason=str(error))
            troubles.append(error)
    raise _summed_up(troubles)


def _sent(
    objects: Sequence[ResultObject],
    place: str,
    config: Config,
    now: Callable[[], datetime],
    swapping: Swapping,
) -> Iterator[Receipt]:
    """Send objects to one place, be it their destination or an alternate."""

    def negotiated(
        lacking: Sequence[ResultObject], taken: Mapping[str, bool], hoped: Mapping[str, bool] = NOTHING
    ) -> Mapping[str, StandIn]:
        replaced = swapping(place, lacking, taken, hoped)
        for one in replaced.values():
            if one.thing is not None:
                _check_unchanged(one.thing)
        return replaced

    destination = config.destinations[place]
    yield from TRANSPORTS[destination.transport](
        objects,
        place,
        destination,
        calling_ae=config.node.ae_title,
        tls=config.tls,
        now=now,
        negotiated=negotiated,
    )


def _summed_up(troubles: Sequence[SendError]) -> SendError:
    """Return one error for a destination and its alternates, none of which took everything.

    Where the answer of one of them may have been lost, it may have what it was sent.
    """
    first, *others = troubles
    if not others:
        return first
    lost = any(isinstance(error, PeerUnreachable) for error in troubles)
    kind = PeerUnreachable if lost else type(first)
    return kind(" ".join(str(error) for error in troubles), again_s=first.again_s)


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
