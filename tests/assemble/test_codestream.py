from __future__ import annotations

import random
import struct
import time

import pytest

from node.assemble.codestream import FrameSize, check_rle, size_j2k, size_jpeg, strip_jp2

SIGNATURE = struct.pack(">I", 12) + b"jP  \r\n\x87\n"


def siz(rows: int, columns: int, *, samples: int = 1, bits: int = 16, left: int = 0, top: int = 0) -> bytes:
    """Return the beginning of a JPEG 2000 codestream (ISO/IEC 15444-1 A.5.1)."""
    sizes = struct.pack(">IIIIIIII", columns + left, rows + top, left, top, columns, rows, 0, 0)
    return (
        b"\xff\x4f\xff\x51"
        + struct.pack(">HH", 41, 0)
        + sizes
        + struct.pack(">HBBB", samples, bits - 1, 1, 1)
    )


def sof(marker: int, rows: int, columns: int, *, samples: int = 1, bits: int = 12) -> bytes:
    """Return the beginning of a JPEG codestream with an application segment before its frame."""
    frame = struct.pack(">HBHHB", 11, bits, rows, columns, samples) + b"\1\x11\0"
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 6) + b"JFIF\xff\xff" + bytes([marker]) + frame


def test_the_size_of_a_jpeg_2000_codestream_is_read():
    assert size_j2k(siz(12000, 11000)) == FrameSize(12000, 11000, 1, 16)
    assert size_j2k(siz(30, 40, left=5, top=7, samples=3, bits=8)) == FrameSize(30, 40, 3, 8)


@pytest.mark.parametrize("marker", [0xC0, 0xC1, 0xC3, 0xF7])
def test_the_size_of_a_jpeg_codestream_is_read(marker):
    assert size_jpeg(sof(marker, 512, 300)) == FrameSize(512, 300, 1, 12)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\4\0\0", b"\xff\xd8\0\0\0\0\0", b"\xff\xd8" + b"\xff" * 99]
)
def test_a_jpeg_without_a_frame_is_an_error(data):
    with pytest.raises(ValueError):
        size_jpeg(data)


@pytest.mark.parametrize("cut", [0, 3, 20, 42])
def test_a_cut_off_jpeg_2000_codestream_is_an_error(cut):
    with pytest.raises(ValueError):
        size_j2k(siz(10, 10)[:cut])


def test_a_jp2_wrapper_is_taken_off():
    stream = siz(10, 20)
    box = struct.pack(">I", 20) + b"ihdr" + b"\0" * 12
    for wrapped in (
        SIGNATURE + box + struct.pack(">I", 8 + len(stream)) + b"jp2c" + stream,
        SIGNATURE + box + struct.pack(">I", 0) + b"jp2c" + stream,  # to the end
        SIGNATURE + box + struct.pack(">I", 1) + b"jp2c" + struct.pack(">Q", 16 + len(stream)) + stream,
    ):
        assert strip_jp2(wrapped) == stream
    assert strip_jp2(stream) == stream


@pytest.mark.parametrize("length", [0, 1, 2, 7])
def test_a_jp2_box_that_leads_nowhere_ends_the_search(length):
    """Such a box makes pydicom's own search endless (reliability.md B11)."""
    start = time.perf_counter()
    with pytest.raises(ValueError):
        strip_jp2(SIGNATURE + struct.pack(">I", length) + b"free" + b"\0" * 56)
    assert time.perf_counter() - start < 1


def test_an_rle_segment_outside_its_frame_is_an_error():
    good = struct.pack("<16I", 2, 64, 70, *[0] * 13) + b"\0" * 20
    check_rle(good)
    for table in ((2, 64, 99), (2, 64, 64), (2, 70, 64), (0, 64, 0), (16, 64, 70), (1, 60, 0)):
        with pytest.raises(ValueError):
            check_rle(struct.pack("<16I", *table, *[0] * 13) + b"\0" * 20)
    with pytest.raises(ValueError):
        check_rle(good[:63])


def test_no_mutated_codestream_hangs_or_raises_anything_else():
    chance = random.Random(7)
    honest = [siz(10, 20), sof(0xC3, 10, 20), SIGNATURE + struct.pack(">I", 0) + b"jp2c" + siz(1, 2)]
    start = time.perf_counter()
    for _ in range(5000):
        mutant = bytearray(chance.choice(honest) + b"\0" * 40)
        for _ in range(chance.randint(1, 5)):
            mutant[chance.randrange(len(mutant))] = chance.choice((0, 1, 255, chance.randrange(256)))
        for look in (size_j2k, size_jpeg, strip_jp2, check_rle):
            try:
                look(bytes(mutant))
            except ValueError:
                continue
    assert time.perf_counter() - start < 20
