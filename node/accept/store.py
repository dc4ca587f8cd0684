"""Where instances lie on disk, and how they get there without ever being half there.

::

    <data>/instances/<2 hex>/<run>-<number>.part  being received; swept at start
    <data>/instances/<2 hex>/<digest>.dcm         in our custody: named and synced
    <data>/quarantine/<digest>.dcm + .json        not to be used, not to be thrown away

Names come from our own random numbers and digests, never from a peer. The digest is over the
whole file: the same data set under another transfer syntax is another file. A stored file is 128
zero bytes, "DICM", our own file meta information (PS3.10 7.1) and then the encoded data set,
byte for byte as it was sent.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from node import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.accept.gate import Gate
from node.config import AcceptTable
from node.durable import sync_folder
from node.errors import OutOfSpace
from node.failpoint import failpoint
from node.lease import Leases
from node.model import Instance

#: How many bytes may be written between two looks at the free space.
_LOOK_EVERY_BYTES = 16 << 20
#: ... and for how long the answer holds for all that arrives.
_LOOK_EVERY_S = 0.1
#: So much of a data set is kept in memory: mostly its header, which is read again at once.
_BEGINNING_BYTES = 16 << 10
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a sender says that it is sending."""

    sender: str  #: calling AE title, "folder", ...
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    policy: str = ""  #: name in [accept.policies]
    prior: bool = False  #: we asked for it, as a prior of something else


class Spool:
    """One object on its way in: a file of our own, hashed while it grows.

    ``write`` never raises, because it is called from the thread that reads the network; what
    went wrong first is remembered, the file is given up at once, and `finish` raises it. It has
    what pynetdicom wants of a temporary file: ``name``, ``file``, ``flush`` and ``close``.
    """

    def __init__(
        self, name: str, request: Request, *, max_bytes: int, spare_bytes: Callable[[], int]
    ) -> None:
        self.name = name  #: the path of the file
        self.request = request
        self._head = part10_head(request)
        self.offset = len(self._head)  #: where in the file the data set begins
        self.size_bytes = 0  #: of the data set so far
        self.beginning = b""  #: of the data set
        self._max_bytes = max_bytes
        self._spare_bytes = spare_bytes
        self._look_at = 0
        self._digest = hashlib.sha256()
        self._error: Exception | None = None
        self._fd = -1
        self._is_gone = True  #: not made yet, discarded, or kept under another name
        try:
            self._look()
            self._fd = os.open(self.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            self._is_gone = False
        except (OSError, OutOfSpace) as error:
            self._give_up(error)

    @property
    def file(self) -> Spool:
        """Itself: pynetdicom flushes ``.file``."""
        return self

    @property
    def sha256(self) -> str:
        """Digest of the data set so far, hexadecimal."""
        return self._digest.hexdigest()

    @property
    def file_digest(self) -> str:
        """Digest of head and data set together, hexadecimal: what the file is kept under."""
        return hashlib.sha256(self._head + self._digest.digest()).hexdigest()

    def write(self, *pieces: bytes | memoryview) -> int:
        """Take the next bytes of the data set, in up to 1,000 pieces; after an error they are ignored."""
        count = sum(map(len, pieces))
        if self._error is None:
            try:
                if self.size_bytes + count > self._max_bytes:
                    raise OutOfSpace(f"The object is larger than {self._max_bytes >> 20} MiB.")
                self._look()
                self._put(pieces, count)
                for piece in pieces:
                    self._digest.update(piece)
                    if len(self.beginning) < _BEGINNING_BYTES:
                        self.beginning += bytes(piece[: _BEGINNING_BYTES - len(self.beginning)])
                self.size_bytes += count
            except (OSError, OutOfSpace) as error:
                self._give_up(error)
        return count

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def finish(self) -> None:
        """Say whether every byte is in the file.

        Raises
        ------
        OutOfSpace
            Disk full, below the reserve, or the object is too large.
        OSError
            The disk could not be written for another reason.
        """
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        """Bring the bytes to the disk and close the file."""
        self.finish()
        os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        """Close the file; it stays."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def discard(self) -> None:
        """Close and remove the file, unless it has been kept under another name. Never raises."""
        if self._is_gone:
            return
        self._is_gone = True
        with suppress(OSError):  # what cannot be removed now is swept at the next start
            self.close()
            Path(self.name).unlink(missing_ok=True)

    def moved(self) -> None:
        """Say that the file now has another name, so that nothing is left to discard."""
        self._is_gone = True

    def _put(self, pieces: tuple[bytes | memoryview, ...], count: int) -> None:
        head = b"" if self.size_bytes else self._head
        parts = (head, *pieces)
        written = os.writev(self._fd, parts)
        if written < len(head) + count:  # hardly ever, but by a disk that is about to be full
            rest = memoryview(b"".join(parts))[written:]
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def _look(self) -> None:
        if self.size_bytes >= self._look_at:
            self._look_at = self.size_bytes + _LOOK_EVERY_BYTES
            if self._spare_bytes() <= 0:
                raise OutOfSpace("The free disk space is below the reserve.")

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            error = OutOfSpace("The disk is full.")
        self._error = error
        self.discard()  # at once: an open handle would keep a full disk full


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
        self._naming = threading.Lock()  #: over names that are taken from one file for another
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

    def spool(self, request: Request) -> Spool:
        """Open a file for an object that arrives. Never raises: see `Spool.finish`."""
        number = next(self._numbers)
        return Spool(
            # Not all in one folder: a file system makes one name at a time in each, near its other files.
            f"{self.instances}/{number % 256:02x}/{self._run}-{number}.part",
            request,
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
            Then nothing is kept.
        """
        spool.finish()
        failpoint("accept.spooled")
        digest = spool.file_digest
        folder = f"{self.instances}/{digest[:2]}"
        path = f"{folder}/{digest}.dcm"
        if not self._name_and_sync(spool, path):
            spool.sync()
            failpoint("accept.synced")
            with self._naming:
                Path(spool.name).rename(path)
        spool.moved()
        sync_folder(folder)
        failpoint("accept.renamed")
        return Path(path)

    def _name_and_sync(self, spool: Spool, path: str) -> bool:
        """Give a file its name before it is synced, so that the file system commits both together.

        What a power cut leaves under the name has no journal row, and is set aside by `sweep`. False if
        something has the name, which must not give way before the other is whole on the disk; or if
        the file system knows no second names.
        """
        try:
            os.link(spool.name, path)
        except OSError:
            return False
        try:
            spool.sync()
            failpoint("accept.synced")
        except BaseException:
            with self._naming:  # it may be that of another sender's by now
                if Path(spool.name).samefile(path):
                    Path(path).unlink()
            raise
        os.unlink(spool.name)  # noqa: PTH108 - to make a Path of it takes longer than to remove it
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
                self._set_aside(path, {"reason": "no-journal-row"})
            else:
                continue
            count += 1
        return count

    def _set_aside(self, path: Path, note: dict[str, str]) -> Path:
        target = self._quarantine / path.name
        target.with_suffix(".json").write_text(json.dumps(note, indent=1) + "\n", encoding="ascii")
        path.rename(target)
        sync_folder(self._quarantine)
        return target


def part10_head(request: Request) -> bytes:
    """Return zero preamble, prefix and file meta information (PS3.10 7.1), all our own."""

    def element(number: int, vr: bytes, value: bytes) -> bytes:
        value += (b" " if vr == b"SH" else b"\0") * (len(value) % 2)
        return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value

    def uid(text: str) -> bytes:
        return text.encode("ascii", "replace")[:64]

    version = struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"
    meta = version + b"".join(
        element(number, vr, value)
        for number, vr, value in (
            (0x0002, b"UI", uid(request.sop_class_uid)),
            (0x0003, b"UI", uid(request.sop_instance_uid)),
            (0x0010, b"UI", uid(request.transfer_syntax_uid)),
            (0x0012, b"UI", uid(IMPLEMENTATION_CLASS_UID)),
            (0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii")),
        )
    )
    return bytes(128) + b"DICM" + element(0x0000, b"UL", struct.pack("<I", len(meta))) + meta
