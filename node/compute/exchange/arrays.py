"""Arrays as ``.npy`` files: written by one worker, mapped or read by another."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Nothing is followed, waited for or inherited: a name may lead to a link, a pipe or a device.
_AS_IT_IS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Unreadable(ValueError):
    """A file is not what it has to be; the sentence names it."""


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array of at least one axis, whatever its layout, without a copy of the whole."""
    with path.open("xb") as file:
        file.write(_header(array.dtype, array.shape))
        file.flush()
        for part in array:
            np.ascontiguousarray(part).tofile(file)


def map_array(path: Path) -> NDArray[Any]:
    """Return an array of ours, mapped and read-only."""
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)  # type: ignore[no-any-return]


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """Open a hostile folder, which may not be a link; yields its descriptor.

    Raises
    ------
    Unreadable
        There is none.
    """
    try:
        descriptor = os.open(folder, _AS_IT_IS | os.O_DIRECTORY)
    except OSError as error:
        raise Unreadable(f"there is no folder {folder.name} ({error.strerror})") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_array(folder: int, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read a hostile file that has to be exactly this array.

    It is read, not mapped: whoever wrote it may still hold it open, and change or cut it while it is
    looked at. The header has to be what numpy writes for this type and shape, byte for byte, so
    there is nothing to parse.

    Raises
    ------
    Unreadable
        It is no regular file of ours alone, or holds something else.
    """
    wanted = np.dtype(dtype)
    header = _header(wanted, shape)
    size = len(header) + wanted.itemsize * int(np.prod(shape, dtype=object))
    with _regular(folder, name) as (descriptor, found):
        if found != size:
            raise Unreadable(f"{name} has {found} bytes; an array of {wanted} and {shape} has {size}")
        if os.read(descriptor, len(header)) != header:
            raise Unreadable(f"{name} does not begin as an array of {wanted} and {shape}")
        array = np.empty(shape, wanted)
        _fill(descriptor, array.reshape(-1).view(np.uint8).data, name)
    return array


def read_text(folder: int, name: str, most_bytes: int) -> bytes:
    """Read a hostile file of at most so many bytes.

    Raises
    ------
    Unreadable
        It is no regular file of ours alone, or longer.
    """
    with _regular(folder, name) as (descriptor, size):
        if size > most_bytes:
            raise Unreadable(f"{name} has {size} bytes; {most_bytes} are the most")
        content = bytearray(size)
        _fill(descriptor, memoryview(content), name)
    return bytes(content)


@contextmanager
def _regular(folder: int, name: str) -> Iterator[tuple[int, int]]:
    """Open a file beside nothing else; yields its descriptor and size."""
    try:
        descriptor = os.open(name, _AS_IT_IS, dir_fd=folder)
    except OSError as error:
        raise Unreadable(f"{name} cannot be opened ({error.strerror})") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise Unreadable(f"{name} is no plain file of its own")
        yield descriptor, found.st_size
    finally:
        os.close(descriptor)


def _fill(descriptor: int, view: memoryview, name: str) -> None:
    while view:
        count = os.readv(descriptor, [view])
        if not count:
            raise Unreadable(f"{name} became shorter while it was read")
        view = view[count:]


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return the beginning of a file of format 1.0, C order."""
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()
