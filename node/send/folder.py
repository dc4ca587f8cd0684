"""Objects go into a folder, whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from node.config import FolderDestination, TlsTable
from node.durable import sync_file, sync_folder
from node.errors import PeerBusy, PeerUnreachable, SendError
from node.failpoint import failpoint
from node.model import Receipt, ResultObject, StandIn
from node.send.classes import Negotiated
from node.uid import is_legal


def write(
    objects: Sequence[ResultObject],
    name: str,
    destination: FolderDestination,
    *,
    calling_ae: str,
    tls: TlsTable,
    now: Callable[[], datetime],
    negotiated: Negotiated,
) -> Iterator[Receipt]:
    """Write each object as ``<SOP Instance UID>.dcm``; it appears under that name when complete.

    A folder takes every SOP Class, so nothing is asked for but what went as another kind before.

    The folder itself is made if need be, but not the one above it: an absent mount is an error,
    not a reason to fill the disk below it.

    Raises
    ------
    PeerUnreachable
        The folder cannot be written just now.
    PeerBusy
        Its disk is full.
    """
    del calling_ae, tls  # a folder has no use for them
    try:
        destination.path.mkdir(exist_ok=True)
        failpoint("send.connected")
        replaced = negotiated(objects, {})
        for thing in objects:
            stand_in = replaced.get(thing.sop_instance_uid, StandIn(thing=thing, sentence=""))
            sent = stand_in.thing or thing
            _put(sent, destination.path)
            failpoint("send.answered")
            yield Receipt(
                sop_instance_uid=thing.sop_instance_uid,
                destination=name,
                status=0,
                sentence=stand_in.sentence,
                at=now(),
                sent_as="" if sent is thing else sent.sop_instance_uid,
            )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PeerBusy(f"The disk of destination {name!r} ({destination.path}) is full.") from error
        raise PeerUnreachable(
            f"Destination {name!r} ({destination.path}) cannot be written: {error.strerror}."
        ) from error


def _put(thing: ResultObject, folder: Path) -> None:
    uid = thing.sop_instance_uid
    if not is_legal(uid):  # nothing else ever becomes a file name
        raise SendError("An object has no valid SOP Instance UID, so no file can be named after it.")
    # A name of its own per object: what a killed try left is overwritten by the next.
    part = folder / f".{uid}.part"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        with thing.path.open("rb") as source, os.fdopen(handle, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            sync_file(target)
        part.rename(folder / f"{uid}.dcm")
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(folder)
