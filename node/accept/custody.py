"""Checks who an object is, and makes it durable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from node.accept.header import SERIES_UID, SOP_CLASS_UID, SOP_INSTANCE_UID, STUDY_UID
from node.accept.spool import Request, Spool
from node.accept.store import Store
from node.errors import IdentityMismatch, MissingIdentity
from node.model import Instance
from node.uid import is_harmless

_NAMES = {
    SOP_CLASS_UID: "SOP Class UID",
    SOP_INSTANCE_UID: "SOP Instance UID",
    STUDY_UID: "Study Instance UID",
    SERIES_UID: "Series Instance UID",
}


def accept(spool: Spool, request: Request, store: Store, *, now: datetime) -> Instance:
    """Check who a received object is, and make it durable.

    Parameters
    ----------
    spool
        Holds the whole data set; discarded on an error.
    request
        What the sender said that it was sending.
    store
        Where it is kept.
    now
        Aware, UTC.

    Returns
    -------
    Instance
        File and folder entry are synced; the journal does not know it yet.

    Raises
    ------
    NotDicom
        Cut off, nested too deep, or no data set at all.
    MissingIdentity
        A Study, Series or SOP Instance UID is absent, or one is malformed.
    IdentityMismatch
        The data set has another SOP Class or Instance UID than the request.
    OutOfSpace, OSError
        The bytes could not be written.
    """
    try:
        uids = spool.uids()
        _check(uids, request)
        path = store.keep(spool)
    except BaseException:
        spool.discard()
        raise
    return Instance(
        sop_instance_uid=uids[SOP_INSTANCE_UID],
        sop_class_uid=uids.get(SOP_CLASS_UID) or request.sop_class_uid,
        series_uid=uids[SERIES_UID],
        study_uid=uids[STUDY_UID],
        transfer_syntax_uid=request.transfer_syntax_uid,
        path=path,
        sha256=spool.sha256,
        size_bytes=spool.size_bytes,
        arrived_at=now,
        sender=request.sender,
        policy=request.policy,
        prior=request.prior,
    )


def _check(uids: Mapping[int, str], request: Request) -> None:
    for tag, name in _NAMES.items():
        if tag == SOP_CLASS_UID and not uids.get(tag) and is_harmless(request.sop_class_uid):
            continue  # seen in the wild, and the request says it
        if not uids.get(tag):
            raise MissingIdentity(f"The data set has no {name}.", tags=(tag,))
        if not is_harmless(uids[tag]):
            raise MissingIdentity(f"The {name} of the data set is malformed.", tags=(tag,))
    for tag, said in (
        (SOP_CLASS_UID, request.sop_class_uid),
        (SOP_INSTANCE_UID, request.sop_instance_uid),
    ):
        if uids.get(tag) and uids[tag] != said.strip(" \0"):
            raise IdentityMismatch(f"Data set and request differ in {_NAMES[tag]}.", tags=(tag,))
