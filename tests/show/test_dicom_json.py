from __future__ import annotations

import base64
import json
import struct
import warnings
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from node.header import read_header
from node.show.dicom_json import INLINE_BYTES, as_model
from pipelines.contract import InputRefused
from tests.paths import SHARED, needs_shared


def raw(tag: int, vr: str | None, value: bytes, *, little: bool = True) -> Dataset:
    ds = Dataset()
    ds[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, vr is None, little)
    ds.set_original_encoding(vr is None, little)
    return ds


def test_values_are_written_as_the_standard_says():
    ds = Dataset()
    ds.PatientName = "Yamada^Tarou=山田^太郎"
    ds.SliceThickness = "2.50"
    ds.InstanceNumber = "7"
    ds.ImageType = ["ORIGINAL", "", "AXIAL"]
    ds.FrameIncrementPointer = 0x00181063
    ds.AccessionNumber = ""
    ds.Rows = 512
    item = Dataset()
    item.CodeValue = "T-1"
    ds.ProcedureCodeSequence = [item]
    model = as_model(ds)
    assert model["00100010"] == {
        "vr": "PN",
        "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}],
    }
    assert model["00180050"] == {"vr": "DS", "Value": [2.5]}
    assert model["00200013"] == {"vr": "IS", "Value": [7]}
    assert model["00080008"] == {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]}
    assert model["00280009"] == {"vr": "AT", "Value": ["00181063"]}
    assert model["00080050"] == {"vr": "SH"}
    assert model["00280010"] == {"vr": "US", "Value": [512]}
    assert model["00081032"]["Value"] == [{"00080100": {"vr": "SH", "Value": ["T-1"]}}]
    assert list(model) == sorted(model)


def test_whatever_the_character_set_was_the_answer_says_utf_8():
    ds = Dataset()
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    assert as_model(ds)["00080005"]["Value"] == ["ISO_IR 192"]


def test_binary_values_stand_in_the_text_or_elsewhere():
    ds = Dataset()
    ds.add_new(0x00281201, "OW", b"\1\2")
    ds.add_new(0x00420011, "OB", bytes(INLINE_BYTES + 2))
    model = as_model(ds, lambda place: f"here/{place}")
    assert base64.b64decode(model["00281201"]["InlineBinary"]) == b"\1\2"
    assert model["00420011"] == {"vr": "OB", "BulkDataURI": "here/00420011"}
    assert "00420011" not in as_model(ds)


def test_the_place_of_a_long_value_in_a_sequence_leads_to_it():
    item = Dataset()
    item.add_new(0x54001010, "OW", bytes(4000))
    ds = Dataset()
    ds.WaveformSequence = [Dataset(), item]
    model = as_model(ds, lambda place: place)
    assert model["54000100"]["Value"][1]["54001010"]["BulkDataURI"] == "54000100/1/54001010"


@pytest.mark.parametrize("little", [True, False])
def test_numbers_and_words_of_either_byte_order_are_the_same(little):
    order = "<" if little else ">"
    assert as_model(raw(0x00280010, "US", struct.pack(f"{order}H", 513), little=little))["00280010"][
        "Value"
    ] == [513]
    words = as_model(raw(0x00281201, "OW", struct.pack(f"{order}H", 513), little=little))
    assert base64.b64decode(words["00281201"]["InlineBinary"]) == struct.pack("<H", 513)


def test_what_is_no_number_is_told_as_the_text_that_it_is_and_json_stays_json():
    assert as_model(raw(0x00180050, "DS", b"thick "))["00180050"]["Value"] == ["thick"]
    assert as_model(raw(0x00180050, "DS", b"1e999 "))["00180050"]["Value"] == ["1e999"]
    nan = as_model(raw(0x00189087, "FD", struct.pack("<d", float("nan"))))
    assert nan["00189087"]["Value"] == ["NaN"]
    json.dumps(nan, allow_nan=False)


def test_values_of_the_wrong_length_do_no_harm():
    assert "Value" not in as_model(raw(0x00280010, "US", b"\1")).get("00280010", {})
    assert as_model(raw(0x00200032, "DS", b"1\\2\\"))["00200032"]["Value"] == [1, 2, None]


def told_by_pydicom(file: Path) -> dict:
    """Return what pydicom makes of a header: {} where it can make nothing."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(file, stop_before_pixels=True)
        return header.to_json_dict(suppress_invalid_tags=True)
    return {}


def values_of(element: dict) -> list:
    """Return values without what tells nothing: padding, component groups that are empty."""
    values = element.get("Value", [])
    if element["vr"] == "PN":
        names = [{k: v for k, v in name.items() if v.strip("^")} for name in values if name]
        return [name for name in names if name]
    return [(v.strip() or None) if isinstance(v, str) else v for v in values]


@needs_shared
def test_real_headers_are_told_as_pydicom_tells_them():
    compared = 0
    for file in sorted(SHARED.glob("odd_charsets_minipacs/**/*")):
        try:
            model = as_model(read_header(file))
        except (InputRefused, IsADirectoryError):
            continue
        json.dumps(model, allow_nan=False)
        for tag, element in told_by_pydicom(file).items():
            is_private = int(tag[:4], 16) % 2  # they guess what these are
            if tag in model and not is_private and element["vr"] not in ("SQ", "UN", "OB", "OW"):
                compared += 1
                if tag != "00080005":
                    assert values_of(model[tag]) == values_of(element), f"{file.name} {tag}"
    assert compared > 3000
