"""A bundle from outside is copied into a folder of ours: plain files, of bounded size, in their place."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Final

from node.compute.sandbox import remove
from node.errors import ConfigError

MOST_FILES: Final = 10_000
MOST_BYTES: Final = 40 << 30  #: the largest networks of the zoo take some 2 GB
#: An archive may not grow to more than this many times its size; weights hardly shrink at all.
MOST_GROWTH: Final = 100
LEEWAY_BYTES: Final = 64 << 20  #: which any archive may hold
DEEPEST: Final = 20  #: folders in folders
LONGEST_NAME: Final = 255
PIECE: Final = 1 << 20
#: What tools leave behind, and no part of a bundle.
LEFT_OUT: Final = frozenset({"__pycache__", "__MACOSX", ".DS_Store", ".git", ".cache", ".ipynb_checkpoints"})
#: What makes a folder a bundle, or a pipeline with code of its own.
MARKS: Final = ("configs/metadata.json", "card.toml")


@dataclass(slots=True)
class _Room:
    """How much may still come."""

    bytes_left: int = field(default_factory=lambda: MOST_BYTES)
    files_left: int = field(default_factory=lambda: MOST_FILES)

    def take(self, source: IO[bytes], target: Path) -> None:
        """Copy one file.

        Raises
        ------
        ConfigError
            It is too large, or one too many.
        """
        self.files_left -= 1
        if self.files_left < 0:
            raise ConfigError(f"The bundle holds more than {MOST_FILES} files.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            while piece := source.read(PIECE):
                self.bytes_left -= len(piece)
                if self.bytes_left < 0:
                    raise ConfigError(
                        "The bundle is larger than it may be; an archive that grows like this does harm."
                    )
                file.write(piece)


def bring(source: Path, target: Path) -> None:
    """Copy a bundle into a new folder of ours.

    Parameters
    ----------
    source
        A folder, a zip archive of one, or a TorchScript archive with its configuration inside.
    target
        Does not exist yet.

    Raises
    ------
    ConfigError
        It is none of these, or holds links, names that lead elsewhere, or too much.
    """
    target.mkdir(mode=0o750, parents=True)
    try:
        if source.is_dir():
            _copy_folder(source, target)
        elif zipfile.is_zipfile(source):
            _unpack(source, target)
        else:
            raise ConfigError(f"{source} is neither a folder nor a zip or TorchScript archive.")
    except OSError as error:
        raise ConfigError(f"{error.filename or source} cannot be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise ConfigError(f"{source} is a damaged archive: {error}.") from error


def _copy_folder(source: Path, target: Path) -> None:
    root, room = _root(source), _Room()
    for path in _files(root, 0):
        name = path.relative_to(root)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path} is no plain file.")
            room.take(file, target / name)


def _root(folder: Path) -> Path:
    """Return the folder of the bundle: this one, or the only one in it."""
    if any((folder / mark).is_file() for mark in MARKS):
        return folder
    inner = [
        one for one in sorted(folder.iterdir()) if one.is_dir() and any((one / m).is_file() for m in MARKS)
    ]
    if len(inner) == 1 and not inner[0].is_symlink():
        return inner[0]
    raise ConfigError(f"{folder} is no bundle: it has no {MARKS[0]}.")


def _files(folder: Path, depth: int) -> Iterator[Path]:
    if depth > DEEPEST:
        raise ConfigError(f"{folder} lies too deep; a bundle has at most {DEEPEST} folders in each other.")
    for path in sorted(folder.iterdir()):
        if path.name in LEFT_OUT:
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise ConfigError(f"{path} is a link; put the file itself there.")
        if stat.S_ISDIR(mode):
            yield from _files(path, depth + 1)
        elif stat.S_ISREG(mode):
            _check_name(path.name)
            yield path
        else:
            raise ConfigError(f"{path} is no plain file.")


def _unpack(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        if len(entries := archive.infolist()) > MOST_FILES:
            raise ConfigError(f"The archive holds more than {MOST_FILES} entries.")
        if any(
            entry.filename.count("/") == 1 and entry.filename.endswith("/constants.pkl") for entry in entries
        ):
            _unpack_torchscript(source, archive, target)
            return
        files: dict[PurePosixPath, zipfile.ZipInfo] = {}
        for entry in entries:
            if (name := _name(entry)) is None:
                continue
            if name in files:
                raise ConfigError(f"The archive holds {entry.filename!r} twice.")
            files[name] = entry
        top = _top(files)
        room = _Room(bytes_left=min(MOST_BYTES, LEEWAY_BYTES + MOST_GROWTH * source.stat().st_size))
        for name, entry in files.items():
            if name.is_relative_to(top):
                inner = name.relative_to(top)
                with archive.open(entry) as file:
                    room.take(file, target / inner)


def _name(entry: zipfile.ZipInfo) -> PurePosixPath | None:
    """Return where an entry belongs; None for folders and for what tools leave behind.

    Raises
    ------
    ConfigError
        It leads elsewhere, is a link, or is locked.
    """
    said = entry.filename
    name, mode = PurePosixPath(said), entry.external_attr >> 16
    if name.is_absolute() or ".." in name.parts or "\\" in said or ":" in said or not name.parts:
        raise ConfigError(f"The archive holds {said!r}, which leads out of it.")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ConfigError(f"The archive holds {said!r}, which is a link or a device.")
    if entry.flag_bits & 0x1:
        raise ConfigError(f"The archive holds {said!r} locked with a password.")
    for part in name.parts:
        _check_name(part)
    if len(name.parts) > DEEPEST:
        raise ConfigError(f"The archive holds {said!r}, which lies too deep.")
    return None if entry.is_dir() or LEFT_OUT & {*name.parts} else name


def _check_name(name: str) -> None:
    if not name.isprintable() or len(name.encode(errors="surrogatepass")) > LONGEST_NAME:
        raise ConfigError(f"The bundle holds a file with the name {name[:40]!r}, which cannot be used.")


def _top(names: dict[PurePosixPath, zipfile.ZipInfo]) -> PurePosixPath:
    for top in (PurePosixPath(), *sorted({PurePosixPath(name.parts[0]) for name in names})):
        if any(top / mark in names for mark in MARKS):
            return top
    raise ConfigError(f"The archive holds no bundle: there is no {MARKS[0]} in it.")


def _unpack_torchscript(source: Path, archive: zipfile.ZipFile, target: Path) -> None:
    """Make a bundle of a TorchScript archive: it is the weights, and its extra files the configuration."""
    room = _Room()
    found = set()
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename).parts
        if len(parts) == 3 and parts[1] == "extra" and not entry.is_dir():
            name = parts[2] if "." in parts[2] else f"{parts[2]}.json"
            if not name.endswith((".json", ".yaml", ".yml")) or _name(entry) is None:
                continue
            small = _Room(bytes_left=LEEWAY_BYTES, files_left=room.files_left)
            with archive.open(entry) as file:
                small.take(file, target / "configs" / name)
            found.add(name)
    if "metadata.json" not in found:
        raise ConfigError(
            f"{source} is a TorchScript archive without a metadata.json inside; "
            "export it with 'python -m monai.bundle ckpt_export', or give it a folder with configs/."
        )
    with source.open("rb") as file:
        room.take(file, target / "models" / "model.ts")


def discard(folder: Path) -> None:
    """Remove a folder that came to nothing; the trial of a pipeline may have filled it."""
    remove(folder)
