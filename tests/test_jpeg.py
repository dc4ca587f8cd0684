"""JPEG of twelve bits, progressive and lossless: taken at the door, decoded for pipelines as DCMTK does."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

from node.accept import decodable_syntaxes
from node.assemble.pixels import pixel_format, read_frames
from node.header.read import parse
from node.jpeg import LOSSLESS, SYNTAXES, decode_jpeg
from pipelines.contract import InputRefused
from tests import phantoms
from tests.harness import program

OPTIONS = dict(zip(SYNTAXES, ("+ee", "+es", "+ep"), strict=True))


def dcmtk(name, *words):
    subprocess.run([program(name), *map(str, words)], check=True, capture_output=True)


def stored_values(path):
    return next(read_frames(path, pixel_format(parse(path), path), [0]))[1]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_door_offers_it(syntax):
    assert syntax in decodable_syntaxes()


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_the_values_are_those_of_dcmtk(tmp_path, syntax):
    ramp = np.arange(64 * 60).reshape(1, 64, 60) % 3000
    (plain,) = phantoms.write_ct_series(tmp_path, ramp.astype(np.int16), phantoms.make_affine(), signed=False)
    ds = dcmread(plain)
    ds.BitsStored, ds.HighBit = 12, 11
    ds.PixelData = ramp.astype("<u2").tobytes()
    ds.save_as(plain)
    dcmtk("dcmcjpeg", OPTIONS[syntax], "+q", "90", plain, tmp_path / "packed.dcm")
    dcmtk("dcmdjpeg", tmp_path / "packed.dcm", tmp_path / "theirs.dcm")
    assert dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID == syntax
    ours, theirs = stored_values(tmp_path / "packed.dcm"), dcmread(tmp_path / "theirs.dcm").pixel_array
    assert ours.dtype == np.uint16
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2  # two implementations of one cosine


def test_what_is_no_codestream_or_cut_off_is_refused(tmp_path):
    for data in (b"", b"\xff\xd8\xff\xd9", b"\xff\xd8" + bytes(100)):
        with pytest.raises(ValueError, match="libjpeg"):
            decode_jpeg(data)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("option", ["+e1", *(f"+el +sv {value}" for value in range(1, 8))])
def test_lossless_jpeg_gives_every_value_back(tmp_path, option, signed):
    noise = np.random.default_rng(1).integers(-1000 if signed else 0, 3000, (1, 64, 60), dtype=np.int16)
    (plain,) = phantoms.write_ct_series(tmp_path, noise, phantoms.make_affine(), signed=signed)
    dcmtk("dcmcjpeg", *option.split(), plain, tmp_path / "packed.dcm")
    assert dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID in LOSSLESS
    values = stored_values(tmp_path / "packed.dcm")
    assert values.dtype == (np.int16 if signed else np.uint16)
    np.testing.assert_array_equal(values, dcmread(plain).pixel_array)


def test_lossless_jpeg_that_is_cut_off_is_refused(tmp_path):
    noise = np.random.default_rng(1).integers(0, 3000, (1, 64, 60), dtype=np.int16)
    (plain,) = phantoms.write_ct_series(tmp_path, noise, phantoms.make_affine())
    dcmtk("dcmcjpeg", "+e1", plain, tmp_path / "packed.dcm")
    ds = dcmread(tmp_path / "packed.dcm")
    (whole,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = encapsulate([whole[: len(whole) // 2]])
    ds.save_as(tmp_path / "cut.dcm")
    with pytest.raises(InputRefused, match="cut off"):
        stored_values(tmp_path / "cut.dcm")
