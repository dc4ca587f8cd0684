"""The C libraries inside pylibjpeg-openjpeg and pyjpegls give what pydicom gives, or leave it to pydicom.

When a new version of these packages hides its library, or changes it, these tests say so.
"""

from __future__ import annotations

import random
import sys
import threading
import time

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from node.assemble import clibrary, pixels
from node.assemble.clibrary import decode_j2k, decode_jls
from node.assemble.pixels import decode_frame, encoded_frames, pixel_format, read_frames
from node.header.read import parse
from pipelines.contract import InputRefused
from tests import phantoms
from tests.paths import SHARED, needs_shared

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SHAPE = (1, 61, 47)
DECODERS = {JPEG2000Lossless: decode_j2k, JPEGLSLossless: decode_jls}


def stored_values(bits: int, signed: bool) -> np.ndarray:
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if signed else (0, 1 << bits)
    return np.random.default_rng(bits).integers(low, high, SHAPE[1:])


def encoded(folder, syntax, *, bits=16, signed=True):
    """Return the values, the codestream, and what the header says, of a slice written by pydicom."""
    values = stored_values(bits, signed)
    path = phantoms.write_ct_series(folder, np.zeros(SHAPE, np.int16), phantoms.make_affine(), signed=signed)[
        0
    ]
    ds = dcmread(path)
    ds.BitsStored, ds.HighBit, ds.BitsAllocated = bits, bits - 1, 8 if bits <= 8 else 16
    ds.PixelData = values.astype(f"{'i' if signed else 'u'}{ds.BitsAllocated // 8}").tobytes()
    ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(path)
    return values, next(generate_frames(ds.PixelData, number_of_frames=1)), path


def test_the_libraries_are_found():
    assert clibrary.openjpeg() is not None
    assert clibrary.charls() is not None


@pytest.mark.parametrize("syntax", DECODERS)
@pytest.mark.parametrize(("bits", "signed"), [(16, True), (16, False), (12, False), (12, True), (8, False)])
def test_the_values_are_those_that_were_encoded(tmp_path, monkeypatch, syntax, bits, signed):
    values, stream, path = encoded(tmp_path, syntax, bits=bits, signed=signed)
    dtype = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    array = DECODERS[syntax](stream, *SHAPE[1:], bits, dtype)
    if syntax == JPEGLSLossless and bits == 12 and signed:
        assert array is None  # JPEG-LS knows no sign; pydicom takes care of it
    else:
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, values)
    format_ = pixel_format(parse(path), path)
    ((_, ours),) = read_frames(path, format_, [0])
    monkeypatch.setattr(pixels, "decode_j2k", lambda *given: None)
    monkeypatch.setattr(pixels, "decode_jls", lambda *given: None)
    ((_, theirs),) = read_frames(path, format_, [0])
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(ours, values)


@pytest.mark.parametrize("syntax", DECODERS)
def test_what_is_not_the_plain_case_is_left_to_pydicom(tmp_path, syntax):
    _, stream, _ = encoded(tmp_path, syntax, bits=12, signed=False)
    rows, columns = SHAPE[1:]
    decode = DECODERS[syntax]
    assert decode(stream, rows, columns, 12, np.dtype("u2")) is not None
    assert decode(stream, rows, columns, 11, np.dtype("u2")) is None
    assert decode(stream, rows + 1, columns, 12, np.dtype("u2")) is None
    assert decode(stream, rows, columns, 12, np.dtype("i2")) is None


@pytest.mark.parametrize("syntax", DECODERS)
def test_the_lock_of_python_is_free_while_a_frame_is_decoded(tmp_path, syntax):
    """Nobody is asked to hand the lock over here, so this thread wakes only while a decoder let go of it."""
    noise = np.random.default_rng(0).integers(-2000, 2000, (1, 512, 512), dtype=np.int16)
    path = phantoms.write_ct_series(tmp_path, noise, phantoms.make_affine(), transfer_syntax=syntax)[0]
    format_ = pixel_format(parse(path), path)
    ((_, stream),) = encoded_frames(path, format_, [0])
    done, turns, usual_s = threading.Event(), 0, sys.getswitchinterval()

    def decode():
        for _ in range(10):
            decode_frame(stream, format_)
        done.set()

    thread = threading.Thread(target=decode)
    sys.setswitchinterval(60)
    try:
        thread.start()
        while not done.is_set():
            time.sleep(0.0005)
            turns += 1
    finally:
        sys.setswitchinterval(usual_s)
    thread.join()
    assert turns > 25  # a decoder that holds it gives ten, one per frame; these two give hundreds


@pytest.mark.parametrize("syntax", DECODERS)
def test_a_mutated_codestream_is_decoded_or_refused(tmp_path, syntax):
    _, stream, path = encoded(tmp_path, syntax)
    format_, chance = pixel_format(parse(path), path), random.Random(3)
    refusals = 0
    for _ in range(400):
        mutant = bytearray(stream)
        for _ in range(chance.randint(1, 6)):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        if chance.random() < 0.3:
            del mutant[chance.randrange(len(mutant)) :]
        try:
            assert decode_frame(bytes(mutant), format_).shape == SHAPE[1:]
        except InputRefused as refusal:
            assert refusal.code == "not-decodable"
            refusals += 1
    assert refusals > 20


@needs_shared
def test_real_slices_are_the_same_with_and_without_the_libraries(monkeypatch):
    paths = sorted((SHARED / "ct_transfer_syntaxes").glob("CTImage.dcm*"))

    def decoded():
        values = {}
        for path in paths:
            try:
                values[path] = next(read_frames(path, pixel_format(parse(path), path), [0]))[1]
            except InputRefused:
                continue
        return values

    ours = decoded()
    monkeypatch.setattr(pixels, "decode_j2k", lambda *given: None)
    monkeypatch.setattr(pixels, "decode_jls", lambda *given: None)
    theirs = decoded()
    assert ours.keys() == theirs.keys() and len(ours) > 8
    for path, values in ours.items():
        np.testing.assert_array_equal(values, theirs[path])
