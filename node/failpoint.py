"""Named places on the main path where a test may kill, raise, stall or fill the disk.

Off unless ``RADNODE_FAILPOINTS`` says otherwise, e.g.
``accept.renamed=kill`` or ``send.connected=raise@3,compute.staged=sleep:2``: at the third
passage raise, and so on; without ``@n`` every passage acts. Passages are counted by process; with
``RADNODE_FAILPOINTS_ONCE=FOLDER`` each place acts only once over all processes and restarts.
`NAMES` lists every place, so a test can walk the list and a new step cannot be forgotten.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

#: Every failpoint, in the order of the main path.
NAMES = (
    "accept.spooled",  # bytes received, not yet synced
    "accept.synced",  # synced, not yet renamed
    "accept.renamed",  # in the store, not yet in the journal
    "accept.recorded",  # in the journal, sender not yet answered
    "assign.planned",  # routes known, jobs not yet in the journal
    "assign.enqueued",  # jobs in the journal
    "compute.claimed",  # job claimed, worker not yet asked
    "compute.loaded",  # in the worker: image built
    "compute.analyzed",  # in the worker: findings known
    "encode.written",  # in the worker: objects in staging, no manifest yet
    "compute.staged",  # manifest written, not yet committed
    "compute.committed",  # results committed, nothing sent
    "assign.followed",  # known what rules on results ask for, not yet in the journal
    "send.connected",  # association to the destination is open
    "send.answered",  # the destination took an object, receipt not yet in the journal
    "send.receipted",  # receipt in the journal
    "send.finished",  # all receipts there, job moved to DONE if no proof is wanted
    "prove.asked",  # the destination was asked whether it has what it took
    "prove.answered",  # it answered, not yet in the journal
)

_passages: Counter[str] = Counter()
_lock = threading.Lock()


class FailpointRaised(Exception):
    """A failpoint was told to raise."""


def failpoint(name: str) -> None:
    """Do what ``RADNODE_FAILPOINTS`` asks for at this place; usually nothing."""
    if name not in NAMES:
        raise ValueError(f"{name!r} is no failpoint; add it to node.failpoint.NAMES")
    spec = os.environ.get("RADNODE_FAILPOINTS")
    if not spec:
        return
    wanted = [entry.partition("=")[2] for entry in spec.split(",") if entry.partition("=")[0].strip() == name]
    if not wanted:
        return
    with _lock:
        _passages[name] += 1
        passage = _passages[name]
    for said in wanted:
        action, _, nth = said.partition("@")
        if (not nth or int(nth) == passage) and _is_first(name):
            _act(name, action)


def _is_first(name: str) -> bool:
    """Say whether this place may act: always, unless it should act once and has."""
    folder = os.environ.get("RADNODE_FAILPOINTS_ONCE")
    if not folder:
        return True
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _act(name: str, action: str) -> None:
    verb, _, value = action.partition(":")
    if verb == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif verb == "raise":
        raise FailpointRaised(name)
    elif verb == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif verb == "sleep":
        time.sleep(float(value))
    else:
        raise ValueError(f"failpoint {name}: unknown action {action!r}")
