"""One object on its way in: hashed and written while it comes, in a file that has no name yet.

What arrives is written once and read again when its series is whole. By way of the page cache it would be
copied once more, into memory that the kernel has to find and, in a virtual machine, the host to hand out.
So it is gathered in aligned memory of ours and written from there (open(2): O_DIRECT). And a name that is
made to be taken away again is two more changes of a folder to be committed, so that there is none before
there is the last one (O_TMPFILE). A file system that knows neither is written to as usual.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from node.accept.buffers import BUFFER_BYTES, Buffers
from node.accept.header import read_uids
from node.accept.part10 import part10_head
from node.errors import OutOfSpace

#: What such writing begins at, and how long it is, in whole numbers of; disks with larger sectors are rare.
_BLOCK_BYTES = 4096
#: So much of a larger data set is kept in memory: mostly its header, which is read again at once.
_BEGINNING_BYTES = 64 << 10
#: What is worth to be hashed while the rest is still to come: others run meanwhile, and one waits to go on.
_WORTH_HASHING_BYTES = 256 << 10
#: How many bytes may be written between two looks at the free space.
_LOOK_EVERY_BYTES = 16 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_USUAL = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a sender says that it is sending."""

    sender: str  #: calling AE title, "folder", ...
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    policy: str = ""  #: name in [accept.policies]
    prior: bool = False  #: we asked for it, as a prior of something else


@dataclass(frozen=True, slots=True)
class Ways:
    """What a file system can do."""

    is_nameless: bool  #: a file may get its name later
    is_direct: bool  #: it may be written past the page cache


class _OpenFile:
    """A descriptor that is closed when nobody uses it any more: in a ``with`` nobody else's file has it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self._fd)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        pass


class Spool:
    """One object on its way in.

    One thread uses it; any other may `discard` it meanwhile, and what is lost discards itself.
    ``write`` never raises, because it is called from the thread that reads the network; what
    went wrong first is remembered, the file is given up at once, and `finish` raises it. It has
    what pynetdicom wants of a temporary file: ``name``, ``file``, ``flush`` and ``close``.

    Parameters
    ----------
    path
        Where it lies as long as it has no other name; where ``ways.is_nameless`` it does not.
    spare_bytes
        Returns how much the disk may still take.
    """

    def __init__(
        self,
        path: str,
        request: Request,
        *,
        ways: Ways,
        buffers: Buffers,
        max_bytes: int,
        spare_bytes: Callable[[], int],
    ) -> None:
        self.request = request
        self.size_bytes = 0  #: of the data set so far
        self._path = path
        self._ways = ways
        self._buffers = buffers
        self._head = part10_head(request.sop_class_uid, request.sop_instance_uid, request.transfer_syntax_uid)
        self._max_bytes = max_bytes
        self._spare_bytes = spare_bytes
        self._look_at = 0
        self._digest = hashlib.sha256()
        self._buffer = memoryview(b"")  #: what has come and is not in the file ...
        self._filled = self._hashed = 0  #: ... so much of it, of which so much is hashed
        self._beginning = b""  #: of the data set, once it is in the file
        self._uids: dict[int, str] | None = None
        self._error: Exception | None = None
        self._file: _OpenFile | None = None
        self._has_path = False
        self._is_direct = ways.is_direct
        self._is_written = False
        try:
            self._look()
            self._buffer = buffers.take()
            self._file = _OpenFile(self._open())
            self._gather(memoryview(self._head))
            self._hashed = self._filled
        except (OSError, OutOfSpace) as error:
            self._give_up(error)

    def __del__(self) -> None:
        self.discard()

    @property
    def name(self) -> str:
        """Where to read what is in the file, as long as it is open."""
        with self._open_file() as fd:
            return self._name_of(fd)

    @property
    def file(self) -> Spool:
        """Itself: pynetdicom flushes ``.file``."""
        return self

    @property
    def sha256(self) -> str:
        """Digest of the data set, which is finished, hexadecimal."""
        return self._digest.hexdigest()

    @property
    def file_digest(self) -> str:
        """Digest of head and data set together, hexadecimal; once finished, what the file is kept under."""
        return hashlib.sha256(self._head + self._digest.digest()).hexdigest()

    @property
    def is_nameless(self) -> bool:
        """Whether it has no name, so that `link` can give it one."""
        return self._ways.is_nameless and not self._has_path

    def write(self, data: bytes | memoryview) -> int:
        """Take the next bytes of the data set; after an error they are passed over."""
        count = len(data)
        if self._error is None:
            try:
                if self._is_written:
                    raise OSError(errno.EBADF, "something comes after the end")
                if self.size_bytes + count > self._max_bytes:
                    raise OutOfSpace(f"The object is larger than {self._max_bytes >> 20} MiB.")
                self._look()
                self._gather(memoryview(data))
                if self._filled - self._hashed >= _WORTH_HASHING_BYTES:
                    self._hash()
                self.size_bytes += count
            except (OSError, OutOfSpace) as error:
                self._give_up(error)
        return count

    def flush(self) -> None:
        """Do nothing: `finish` writes what is left."""

    def uids(self) -> dict[int, str]:
        """Return who the object is, which is whole: see `node.accept.header.read_uids`.

        Raises
        ------
        NotDicom
            It is no data set, or not whole.
        OutOfSpace, OSError
            As `finish` does.
        """
        self._raise()
        if self._uids is None:
            beginning: bytes | memoryview = self._beginning
            if self._is_all_here:
                beginning = self._buffer[len(self._head) : self._filled]
            else:
                self.finish()
            said = self.request.transfer_syntax_uid
            with self._open_file() as fd:
                path = self._name_of(fd)
                self._uids = read_uids(path, said, len(self._head), beginning, self.size_bytes)
        return self._uids

    def finish(self) -> None:
        """Bring every byte into the file; nothing can be written afterwards.

        Raises
        ------
        OutOfSpace
            Disk full, below the reserve, or the object is too large.
        OSError
            The disk could not be written for another reason.
        """
        self._raise()
        if not self._is_written:
            self._hash()
            try:
                self._write_out()
            except OSError as error:
                self._give_up(error)
                self._raise()
            self._is_written = True

    def link(self, path: str) -> None:
        """Give a nameless file this name.

        Raises
        ------
        FileExistsError
            Something has the name.
        OSError
            It cannot have it.
        """
        with self._open_file() as fd:
            # With a folder, though none is needed, os.link() follows the link that /proc shows.
            os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)

    def is_named(self, path: str) -> bool:
        """Return whether this name is that of the file, and not of another.

        Raises
        ------
        OSError
            Nothing has the name, or the file is closed.
        """
        with self._open_file() as fd:
            return os.path.samestat(os.stat(path), os.fstat(fd))  # noqa: PTH116 - one is no path

    def show(self) -> str:
        """Return the name that the file has for the time being; it is given one if it has none."""
        if self.is_nameless:
            self.link(self._path)
            self._has_path = True
        return self._path

    def sync(self) -> None:
        """Bring the bytes to the disk."""
        self.finish()
        with self._open_file() as fd:
            os.fsync(fd)

    def close(self) -> None:
        """Close the file; it stays, if it has a name."""
        self._file = None

    def keep(self) -> None:
        """Close the file, which has the name that it keeps."""
        self._has_path = False
        self.close()
        buffer, self._buffer = self._buffer, memoryview(b"")
        self._buffers.give_back(buffer)

    def discard(self) -> None:
        """Close and remove the file, unless it has been kept under another name. Never raises."""
        # The buffer is not given back: another thread may be writing to it just now.
        self.close()
        if self._has_path:
            self._has_path = False
            with suppress(OSError):  # what cannot be removed now is swept at the next start
                Path(self._path).unlink(missing_ok=True)

    @property
    def _is_all_here(self) -> bool:
        return self._filled == len(self._head) + self.size_bytes

    def _open_file(self) -> _OpenFile:
        """Return the open file, which another thread may discard while it is used."""
        file = self._file
        if file is None:
            raise OSError(errno.EBADF, "the object was given up")
        return file

    def _name_of(self, fd: int) -> str:
        return self._path if self._has_path else f"/proc/self/fd/{fd}"

    def _open(self) -> int:
        direct = os.O_DIRECT if self._is_direct else 0
        if self._ways.is_nameless:
            folder = os.path.dirname(self._path)  # noqa: PTH120 - to make a Path takes longer
            return os.open(folder, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC | direct, 0o640)
        fd = os.open(self._path, _USUAL | direct, 0o640)
        self._has_path = True
        return fd

    def _gather(self, data: memoryview) -> None:
        while data:
            room = BUFFER_BYTES - self._filled
            part, data = data[:room], data[room:]
            end = self._filled + len(part)
            self._buffer[self._filled : end] = part
            self._filled = end
            if end == BUFFER_BYTES:
                if not self._beginning:
                    begin = len(self._head)
                    self._beginning = bytes(self._buffer[begin : begin + _BEGINNING_BYTES])
                self._hash()
                self._write_out()
                self._filled = self._hashed = 0

    def _hash(self) -> None:
        if self._hashed < self._filled:
            self._digest.update(self._buffer[self._hashed : self._filled])
            self._hashed = self._filled

    def _write_out(self) -> None:
        """Write what was gathered: whole blocks as they are, and the rest, which is the last, as usual."""
        aligned = self._filled // _BLOCK_BYTES * _BLOCK_BYTES
        self._write(self._buffer[:aligned])
        if aligned < self._filled:
            self._use_the_cache()
            self._write(self._buffer[aligned : self._filled])

    def _write(self, data: memoryview) -> None:
        with self._open_file() as fd:
            while data:
                try:
                    data = data[os.write(fd, data) :]
                except OSError as error:
                    # A disk with larger sectors, or that took a part of a sector.
                    if error.errno != errno.EINVAL or not self._is_direct:
                        raise
                    self._use_the_cache()

    def _use_the_cache(self) -> None:
        if self._is_direct:
            with self._open_file() as fd:
                fcntl.fcntl(fd, fcntl.F_SETFL, 0)  # of what can be set, nothing else was
            self._is_direct = False

    def _look(self) -> None:
        if self.size_bytes >= self._look_at:
            self._look_at = self.size_bytes + _LOOK_EVERY_BYTES
            if self._spare_bytes() <= 0:
                raise OutOfSpace("The free disk space is below the reserve.")

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in _FULL:
            error = OutOfSpace("The disk is full.")
        self._error = error.with_traceback(None)  # which would hold on to all that was in hand
        self._buffer = memoryview(b"")
        self.discard()  # at once: an open handle would keep a full disk full

    def _raise(self) -> None:
        if self._error is not None:
            raise copy.copy(self._error)


def ways_of(folder: Path) -> Ways:
    """Try what the file system of a folder can do."""
    path = folder / "try.part"
    path.unlink(missing_ok=True)
    for ways in (Ways(True, True), Ways(True, False), Ways(False, True)):
        spool = Spool(
            str(path),
            Request(sender="", sop_class_uid="", sop_instance_uid="", transfer_syntax_uid=""),
            ways=ways,
            buffers=Buffers(),
            max_bytes=_BLOCK_BYTES,
            spare_bytes=lambda: 1,
        )
        try:
            spool.write(bytes(_BLOCK_BYTES))
            spool.finish()
            spool.show()
            return ways
        except (OSError, OutOfSpace):
            continue
        finally:
            spool.discard()
    return Ways(False, False)
