from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from node.assemble.pixels import pixel_format, read_frames
from node.header.read import parse
from pipelines.contract import InputRefused
from tests import phantoms
from tests.assemble.test_codestream import SIGNATURE, siz
from tests.paths import SHARED, needs_shared

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

ENCODED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)


def frames_in(path, indices=(0,)):
    format_ = pixel_format(parse(path), path)
    return [stored for _, stored in read_frames(path, format_, list(indices))]


def code_of(path, indices=(0,)) -> tuple[str, str]:
    with pytest.raises(InputRefused) as caught:
        frames_in(path, indices)
    return caught.value.code, caught.value.sentence


@pytest.fixture
def phantom():
    affine = phantoms.make_affine()
    return affine, phantoms.asymmetric_phantom((5, 33, 47), affine)


def rewrite(path, *, pixels: bytes | None = None, syntax: str | None = None, **headers):
    """Change a written file; ``pixels`` are one encoded frame when the syntax is encapsulated."""
    ds = pydicom.dcmread(path)
    if syntax is not None:
        ds.file_meta.TransferSyntaxUID = syntax
    if pixels is not None:
        encoded = ds.file_meta.TransferSyntaxUID.is_encapsulated
        ds.PixelData = encapsulate([pixels]) if encoded else pixels
        ds["PixelData"].VR = "OB" if encoded else "OW"
        ds["PixelData"].is_undefined_length = encoded
    for keyword, value in headers.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, *ENCODED])
def test_every_encoding_gives_the_same_stored_values(tmp_path, phantom, syntax, signed):
    affine, image = phantom
    paths = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=syntax, signed=signed)
    for path, plane in zip(paths, image.array_hu, strict=True):
        (stored,) = frames_in(path)
        np.testing.assert_array_equal(stored, plane.astype(np.int32) + (0 if signed else 1024))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, *ENCODED])
def test_frames_of_a_multi_frame_object_come_one_by_one_in_stored_order(tmp_path, phantom, syntax):
    affine, image = phantom
    path = phantoms.write_enhanced_ct(tmp_path / "x", image.array_hu, affine, transfer_syntax=syntax)
    format_ = pixel_format(parse(path), path)
    given = dict(read_frames(path, format_, [3, 1]))
    assert list(given) == [1, 3]
    for index, stored in given.items():
        np.testing.assert_array_equal(stored, image.array_hu[index])


def test_deflated_and_big_endian_data_sets_are_decoded(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine)[2]
    rewrite(path, syntax=DeflatedExplicitVRLittleEndian)
    np.testing.assert_array_equal(frames_in(path)[0], image.array_hu[2])
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine)[2]
    ds = pydicom.dcmread(path)
    swapped = pydicom.dataset.Dataset()
    for attribute in ds:
        swapped.add(attribute)
    swapped.PixelData = np.frombuffer(ds.PixelData, "<i2").astype(">i2").tobytes()
    swapped.file_meta = ds.file_meta
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(path, swapped, implicit_vr=False, little_endian=False, enforce_file_format=True)
    np.testing.assert_array_equal(frames_in(path)[0], image.array_hu[2])


def test_bits_above_bits_stored_do_not_count(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine)[0]
    twelve = image.array_hu[0].astype(np.int32) & 0x0FFF
    overlaid = (twelve | 0x5000).astype("<u2").tobytes()
    rewrite(path, pixels=overlaid, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(frames_in(path)[0], image.array_hu[0])


def test_two_billion_frames_are_refused_by_arithmetic(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_enhanced_ct(tmp_path / "x", image.array_hu, affine)
    rewrite(path, NumberOfFrames=2**31 - 1)
    assert code_of(path)[0] == "pixel-budget"


def test_a_header_that_asks_for_a_giant_frame_is_refused(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=JPEG2000Lossless)[0]
    rewrite(path, Rows=12000, Columns=12000)
    assert code_of(path)[0] == "pixel-budget"


def test_a_codestream_of_another_size_than_its_header_never_reaches_a_decoder(tmp_path, phantom, monkeypatch):
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=JPEG2000Lossless)[0]
    rewrite(path, pixels=siz(12000, 12000))
    monkeypatch.setattr("node.assemble.pixels.get_decoder", lambda uid: pytest.fail("a decoder was asked"))
    code, sentence = code_of(path)
    assert code == "not-decodable" and "12000 x 12000" in sentence


def test_a_jp2_box_of_length_zero_is_refused_without_hanging(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=JPEG2000Lossless)[0]
    rewrite(path, pixels=SIGNATURE + struct.pack(">I", 0) + b"free" + b"\0" * 56)
    assert code_of(path)[0] == "not-decodable"


def test_a_frame_wrapped_as_jp2_file_is_decoded(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=JPEG2000Lossless)[0]
    stream = next(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))
    rewrite(path, pixels=SIGNATURE + struct.pack(">I", 0) + b"jp2c" + stream)
    np.testing.assert_array_equal(frames_in(path)[0], image.array_hu[0])


@pytest.mark.parametrize("syntax", ENCODED)
def test_a_broken_frame_is_refused_and_the_next_one_is_decoded(tmp_path, phantom, syntax):
    """A Rust decoder panics outside `Exception` (reliability.md B10)."""
    affine, image = phantom
    broken, whole = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=syntax)[:2]
    stream = bytearray(
        next(pydicom.encaps.generate_frames(pydicom.dcmread(broken).PixelData, number_of_frames=1))
    )
    rewrite(broken, pixels=bytes(stream[: len(stream) // 3 // 2 * 2]))
    code, sentence = code_of(broken)
    assert code == "not-decodable" and sentence.count("\n") == 0
    np.testing.assert_array_equal(frames_in(whole)[0], image.array_hu[1])


def test_an_rle_frame_of_the_wrong_length_is_refused(tmp_path, phantom):
    """Segments that decode to too little, to too much, or lie outside."""
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=RLELossless)[0]
    for table in ((2, 64, 66), (1, 64, 0), (2, 64, 90), (3, 64, 66)):
        frame = struct.pack("<16I", *table, *([70] if table[0] == 3 else [0]), *[0] * 12) + b"\x7f" * 32
        rewrite(path, pixels=frame)
        assert code_of(path)[0] == "not-decodable"


def test_a_panic_of_a_native_decoder_becomes_a_refusal(tmp_path, phantom, monkeypatch):
    """PyO3 raises a class outside `Exception`; no sample that provokes a real one is kept here."""
    panic = type("PanicException", (BaseException,), {})

    class Panicking:
        available_plugins = ("pylibjpeg",)

        def as_array(self, *args, **options):
            raise panic("index out of range")

    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=RLELossless)[0]
    monkeypatch.setattr("node.assemble.pixels.get_decoder", lambda uid: Panicking())
    assert code_of(path)[0] == "not-decodable"


def test_native_pixel_data_cut_off_are_refused(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine)[0]
    path.write_bytes(path.read_bytes()[:-200])
    assert code_of(path)[0] == "not-decodable"


def test_a_missing_frame_is_refused(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_enhanced_ct(tmp_path / "x", image.array_hu, affine, transfer_syntax=RLELossless)
    ds = pydicom.dcmread(path)
    frames = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=5))
    ds.PixelData = encapsulate(frames[:4])
    ds.save_as(path)
    assert code_of(path, range(5))[0] == "not-decodable"


def test_a_syntax_without_a_decoder_is_refused(tmp_path, phantom):
    affine, image = phantom
    path = phantoms.write_ct_series(tmp_path, image.array_hu, affine, transfer_syntax=RLELossless)[0]
    rewrite(path, syntax=pydicom.uid.MPEG2MPML)
    code, sentence = code_of(path)
    assert code == "not-decodable" and "MPEG2" in sentence


@needs_shared
def test_one_real_slice_is_the_same_in_every_syntax():
    """Encodings of one GE slice (cornerstone3D)."""
    decoded = {}
    for path in sorted((SHARED / "ct_transfer_syntaxes").glob("CTImage.dcm*")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        measured = frames_in(path)[0] * float(header.RescaleSlope) + float(header.RescaleIntercept)
        decoded[header.file_meta.TransferSyntaxUID] = measured
    reference = decoded.pop(ExplicitVRLittleEndian)
    assert len(decoded) == 14
    for syntax, measured in decoded.items():
        worst = np.abs(measured - reference).max()
        # near-lossless, lossy, 8 bit; 12 bits of JPEG, rescaled to those by who wrote them
        twelve = dict.fromkeys(("51", "53", "55"), 60)
        allowed = {"80": 0, "81": 10, "91": 60, "50": 400, **twelve}.get(syntax[-2:], 0)
        assert worst <= allowed, (syntax.name, worst)


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"BitsStored": 12, "HighBit": 15}, "High Bit"),
        ({"PixelRepresentation": 2}, "sign"),
        ({"PixelRepresentation": None}, "sign"),
    ],
)
def test_what_stored_values_mean_is_never_guessed(tmp_path, phantom, headers, word):
    affine, made = phantom
    path, *_ = phantoms.write_ct_series(tmp_path, made.array_hu, affine)
    rewrite(path, **headers)
    code, sentence = code_of(path)
    assert code == "not-decodable"
    assert word in sentence
