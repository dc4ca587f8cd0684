"""Where instances lie on disk, and how they get there without ever being half there.

::

    <data>/instances/<2 hex>/<digest>.dcm         in our custody: named and synced
    <data>/instances/<2 hex>/<run>-<number>.part  on the way there; swept at start
    <data>/quarantine/<digest>.dcm + .json        not to be used, not to be thrown away

Names come from our own random numbers and digests, never from a peer. The digest is over the
whole file: the same data set under another transfer syntax is another file. A stored file is 128
zero bytes, "DICM", our own file meta information (PS3.10 7.1) and then the encoded data set,
byte for byte as it was sent. What is being received has a name only on the way to one that is taken,
and where the file system knows no other: see `node.accept.spool`.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from node.accept.buffers import Buffers
from node.accept.gate import Gate
from node.accept.spool import Request, Spool, ways_of
from node.config import AcceptTable
from node.durable import sync_folder, write_whole
from node.failpoint import failpoint
from node.lease import Leases
from node.log import get_log
from node.model import Instance

log = get_log("accept")

#: For how long an answer about the free space holds for all that arrives.
_LOOK_EVERY_S = 0.1


class Store:
    """The part of the data folder that holds instances.

    Parameters
    ----------
    data
        The data folder; made when absent.
    config
        Table [accept]: the reserve of free disk, and the largest object.

    Attributes
    ----------
    instances
        The folder of the instances in our custody.
    gate
        Shared from before `keep` until the journal knows the file; held alone from before the
        journal forgets a file until `remove` is done.
    leases
        Of studies that somebody reads, which are removed later.
    """

    def __init__(self, data: Path, config: AcceptTable) -> None:
        root = data.resolve()
        self.gate = Gate()
        self.leases = Leases()
        self._run, self._numbers = secrets.token_hex(8), itertools.count()  #: names of what arrives
        self._spare_bytes, self._spare_until = 0, 0.0  #: how much it was, and how long that holds
        self._naming = threading.Lock()  #: over names that go from one file to another
        self.instances = root / "instances"
        self._quarantine = root / "quarantine"
        self._reserve_bytes = int(config.reserve_gb * 1e9)
        self._max_object_bytes = int(config.max_object_gb * 1e9)
        for folder in (self.instances, self._quarantine):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        for number in range(256):
            (self.instances / f"{number:02x}").mkdir(mode=0o750, exist_ok=True)
        sync_folder(self.instances)
        sync_folder(root)
        self._ways, self._buffers = ways_of(self.instances), Buffers()
        if not (self._ways.is_nameless and self._ways.is_direct):
            log.info("store_slow", reason="the file system of the data folder lacks O_TMPFILE or O_DIRECT")

    def spool(self, request: Request) -> Spool:
        """Open a file for an object that arrives. Never raises: see `Spool.finish`."""
        number = next(self._numbers)
        return Spool(
            # Not all in one folder: a file system makes one name at a time in each, near its other files.
            f"{self.instances}/{number % 256:02x}/{self._run}-{number}.part",
            request,
            ways=self._ways,
            buffers=self._buffers,
            max_bytes=self._max_object_bytes,
            spare_bytes=self._recently_spare_bytes,
        )

    def spare_bytes(self) -> int:
        """Return the free disk space above the reserve; negative below it."""
        disk = os.statvfs(self.instances)
        return disk.f_bavail * disk.f_frsize - self._reserve_bytes

    def _recently_spare_bytes(self) -> int:
        """Return the same as it was a moment ago: not asked anew for each of a thousand small files."""
        now = time.monotonic()
        if now >= self._spare_until:
            self._spare_bytes, self._spare_until = self.spare_bytes(), now + _LOOK_EVERY_S
        return self._spare_bytes

    def keep(self, spool: Spool) -> Path:
        """Make what was received durable under the name of its content.

        The same file again replaces itself, so a sender that was not answered may repeat.

        Returns
        -------
        Path
            Absolute. File and folder entry are synced.

        Raises
        ------
        OutOfSpace, OSError
            It is not kept. What could not be taken back is set aside by the next `sweep`.
        """
        spool.finish()
        failpoint("accept.spooled")
        digest = spool.file_digest
        folder = f"{self.instances}/{digest[:2]}"
        path = f"{folder}/{digest}.dcm"
        if not (spool.is_nameless and self._name_and_sync(spool, path, folder)):
            part = spool.show()
            spool.sync()
            failpoint("accept.synced")
            with self._naming:
                Path(part).rename(path)
            sync_folder(folder)
        spool.keep()
        failpoint("accept.renamed")
        return Path(path)

    def _name_and_sync(self, spool: Spool, path: str, folder: str) -> bool:
        """Give a file its name before it is synced, so that the file system commits both together.

        What a power cut leaves under the name has no journal row, and is set aside by `sweep`. False if
        something has the name, which must not give way before the other is whole on the disk.
        """
        try:
            spool.link(path)
        except FileExistsError:
            return False
        try:
            spool.sync()
            failpoint("accept.synced")
            sync_folder(folder)
        except BaseException:
            with self._naming, suppress(OSError):  # it may be that of another sender's by now
                if spool.is_named(path):
                    Path(path).unlink()
            raise
        return True

    def quarantine(self, instance: Instance, reason: str = "content-conflict") -> Path:
        """Move an instance out of use, with a note of UIDs, sender and reason beside it."""
        return self._set_aside(
            instance.path,
            {
                "reason": reason,
                "sop_instance_uid": instance.sop_instance_uid,
                "sop_class_uid": instance.sop_class_uid,
                "series_uid": instance.series_uid,
                "study_uid": instance.study_uid,
                "transfer_syntax_uid": instance.transfer_syntax_uid,
                "sender": instance.sender,
                "arrived_at": instance.arrived_at.isoformat(),
            },
            instance.path.name,
        )

    def remove(self, paths: Iterable[Path]) -> int:
        """Remove files that have aged out; return how many there were.

        Raises
        ------
        ValueError
            A path lies outside the store.
        """
        removed = 0
        for path in paths:
            if not path.resolve().is_relative_to(self.instances):
                raise ValueError("Only files of the store are removed.")
            if path.exists():
                path.unlink()
                removed += 1
        return removed

    def sweep(self, known_paths: Collection[Path]) -> int:
        """Put right what a crash left; call before any door opens.

        What was half received is removed. Files which no journal row names were renamed but
        never acknowledged, so their senders will repeat; they go to the quarantine and not to
        nothing, in case it is the journal that was lost.

        Returns
        -------
        int
            How many files there were of both kinds.
        """
        known = {str(path) for path in known_paths}
        count = 0
        for path in sorted(self.instances.glob("*/*")):
            if path.suffix == ".part":
                path.unlink()
            elif path.suffix == ".dcm" and str(path) not in known:
                # It need not be whole as what was set aside before may be, or the other way round.
                is_there = (self._quarantine / path.name).exists()
                name = f"{path.stem}-{secrets.token_hex(4)}.dcm" if is_there else path.name
                self._set_aside(path, {"reason": "no-journal-row"}, name)
            else:
                continue
            count += 1
        return count

    def _set_aside(self, path: Path, note: dict[str, str], name: str) -> Path:
        target = self._quarantine / name
        with self._naming:  # several may send the same at the same time
            write_whole(target.with_suffix(".json"), json.dumps(note, indent=1) + "\n")
            try:
                path.rename(target)
            except FileNotFoundError:
                if not target.exists():  # else one of them was faster
                    raise
        sync_folder(self._quarantine)
        return target
