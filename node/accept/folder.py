"""The folder door: DICOM files on a disk, once or as they appear.

A watched folder is a letter box. A file is taken when its size and time have stood still for
two looks; then it moves to ``taken/``, or to ``failed/`` with a sentence in ``<name>.txt``
beside it. When the node itself is in trouble (disk full, journal busy) the file stays and is
tried again. Nothing is ever deleted. Names that begin with a dot are left alone, so a writer
that cannot rename in one step may hide its file until it is whole.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from node.accept.header import SOP_CLASS_UID, SOP_INSTANCE_UID, read_uids
from node.accept.part10 import MAX_META_BYTES, META_SOP_CLASS, PREAMBLE_BYTES, begin
from node.accept.spool import Request, Spool
from node.accept.store import Store
from node.config import AcceptTable, Config, FolderDestination
from node.errors import AcceptError, ConfigError, MissingIdentity, OutOfSpace
from node.log import describe, get_log
from node.model import Instance

log = get_log("accept")

_TAKEN, _FAILED = "taken", "failed"


def find_files(path: Path) -> Iterator[Path]:
    """Yield the files at a path, sorted, from all folders below it.

    Links that lead out of the folder are not followed; what is no plain file is left out.
    """
    if path.is_file():
        yield path
        return
    root = path.resolve()
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            if file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(root)):
                yield file


def spool_file(path: Path, store: Store) -> tuple[Spool, Request]:
    """Copy the data set of a file into the spool, after a look at whether it is whole.

    Preamble and file meta information may be absent if the file is plainly a data set all the
    same. The data set says who the object is: the meta of many files in the world is stale.

    Raises
    ------
    NotDicom
        Text, a DICOMDIR, cut off, or anything else; the sentence does not repeat the name.
    MissingIdentity
        No SOP Class or Instance UID.
    OutOfSpace, OSError
        The file could not be read or the spool not be written.
    """
    transfer_syntax_uid, offset, meta = _begin(path)
    uids = read_uids(path, transfer_syntax_uid, offset)
    sop_class_uid = uids.get(SOP_CLASS_UID) or meta.get(META_SOP_CLASS, "")
    if not sop_class_uid or not uids.get(SOP_INSTANCE_UID):
        raise MissingIdentity("The data set has no SOP Class or Instance UID.", tags=(SOP_INSTANCE_UID,))
    request = Request(
        sender="folder",
        sop_class_uid=sop_class_uid,
        sop_instance_uid=uids[SOP_INSTANCE_UID],
        transfer_syntax_uid=transfer_syntax_uid,
    )
    spool = store.spool(request)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while data := file.read(1 << 20):
                spool.write(data)
        spool.finish()
    except BaseException:
        spool.discard()
        raise
    return spool, request


def _begin(path: Path) -> tuple[str, int, dict[int, str]]:
    with path.open("rb") as file:
        return begin(file.read(PREAMBLE_BYTES + MAX_META_BYTES))


def check_inbox(config: Config) -> None:
    """Refuse a watched folder that is mixed up with what the node itself writes.

    Raises
    ------
    ConfigError
        It overlaps the data folder, which would be taken in as if it had been sent, or results
        are written into it, which would be swallowed.
    """
    if config.accept.folder.path is None:
        return
    inbox = config.accept.folder.path.resolve()
    data = config.node.data.resolve()
    said = f"[accept.folder] path = {str(inbox)!r}"
    if inbox.is_relative_to(data) or data.is_relative_to(inbox):
        raise ConfigError(
            f"{said} overlaps [node] data = {str(data)!r}, where the node keeps its own files. "
            "Give the inbox a folder of its own."
        )
    for name, destination in config.destinations.items():
        if isinstance(destination, FolderDestination) and destination.path.resolve().is_relative_to(inbox):
            raise ConfigError(
                f"{said} would take in again what is sent to [destinations.{name}] "
                f"path = {str(destination.path)!r}. Give the inbox a folder of its own."
            )


class FolderDoor:
    """Watches a folder and takes what is put there.

    Parameters
    ----------
    config
        Table [accept]; without ``folder.path`` there is no such door.
    store
        Gives the files that data sets are copied into.
    receive
        Takes custody of what was copied, or raises.
    """

    def __init__(
        self, config: AcceptTable, store: Store, receive: Callable[[Spool, Request], Instance]
    ) -> None:
        self._folder = config.folder.path
        self._poll_s = config.folder.poll_s
        self._store = store
        self._receive = receive
        self._seen: dict[Path, tuple[int, int]] = {}  #: size and time of change at the last look
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Make the folder if need be, and begin to watch it.

        Raises
        ------
        ConfigError
            It cannot be made, or files in it could not be moved.
        """
        if self._folder is None:
            return
        try:
            for name in (_TAKEN, _FAILED):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=self._folder / name):
                    pass
        except OSError as error:
            raise ConfigError(
                f"[accept.folder] path = {str(self._folder)!r} cannot be used: {error.strerror}. "
                "Name a folder that this user may write."
            ) from error
        self._thread = threading.Thread(target=self._watch, name="accept-folder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the file at hand and stop watching."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def look(self) -> int:
        """Take every file that has stood still since the last look; return how many were taken."""
        if self._folder is None:
            return 0
        now_seen: dict[Path, tuple[int, int]] = {}
        taken = 0
        for path in self._candidates(self._folder):
            if self._stopping.is_set():
                break
            try:
                about = path.stat()
                state = (about.st_size, about.st_mtime_ns)
                if self._seen.get(path) == state:
                    taken += self._take(path)
                else:
                    now_seen[path] = state
            except OSError as error:
                log.warning("file_waits", error=describe(error))  # gone, or the disk is in trouble
        self._seen = now_seen
        if taken:
            log.info("instances_kept", instances=taken, via="folder")
        return taken

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the door stays open whatever one file does
                log.error("folder_stumbled", error=describe(error))
            self._stopping.wait(self._poll_s)

    def _candidates(self, folder: Path) -> Iterator[Path]:
        for entry in sorted(folder.iterdir()):
            if entry.is_symlink() or entry.name in (_TAKEN, _FAILED):
                continue
            for path in find_files(entry):
                if not any(part.startswith(".") for part in path.relative_to(folder).parts):
                    yield path

    def _take(self, path: Path) -> int:
        try:
            spool, request = spool_file(path, self._store)
            try:
                self._receive(spool, request)
            finally:
                spool.discard()
        except OutOfSpace as error:
            log.warning("file_waits", code=error.code, reason=str(error))
            return 0
        except AcceptError as error:
            log.warning("file_refused", code=error.code, reason=str(error))  # its name may be a patient's
            moved = self._move(path, _FAILED)
            moved.with_name(f"{moved.name}.txt").write_text(f"{error}\n", encoding="utf-8")
            return 0
        except Exception as error:  # noqa: BLE001 - our own trouble: the file stays and is tried again
            log.error("file_waits", error=describe(error))
            return 0
        self._move(path, _TAKEN)
        return 1

    def _move(self, path: Path, name: str) -> Path:
        """Move a file to the same place below ``taken`` or ``failed``, beside any namesake."""
        if self._folder is None:
            raise ValueError("there is no folder")
        target = self._folder / name / path.relative_to(self._folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        number = 0
        while target.exists():
            number += 1
            target = target.with_name(f"{path.stem}.{number}{path.suffix}")
        return path.rename(target)
