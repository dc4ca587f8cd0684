from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zlib

import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from node.assemble import read_header, read_headers
from node.header.read import MAX_ELEMENTS, MAX_ITEMS, PEEK_BYTES, parse
from node.header.value import integer_of
from pipelines.contract import InputRefused
from tests import phantoms

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def part10(body: bytes, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return a Part 10 file around an encoded data set."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = syntax
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return b"\0" * 128 + b"DICM" + buffer.getvalue()[0:] + body


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in (b"OB", b"OW", b"UN", b"SQ", b"UT"):
        return head + b"\0\0" + struct.pack("<I", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def deflated(body: bytes) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return engine.compress(body) + engine.flush()


def refusal_of(path) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        read_header(path)
    assert caught.value.code == "unreadable"
    return caught.value


@pytest.fixture
def slice_path(tmp_path):
    affine = phantoms.make_affine()
    phantom = phantoms.asymmetric_phantom((3, 32, 40), affine)
    return phantoms.write_ct_series(tmp_path / "ct", phantom.array_hu, affine, patient_name="Canary^Secret")[
        0
    ]


def test_it_holds_everything_that_pydicom_reads_before_the_pixels(slice_path):
    ours, theirs = read_header(slice_path), pydicom.dcmread(slice_path, stop_before_pixels=True)
    assert ours == theirs
    assert ours.file_meta == theirs.file_meta
    assert "PixelData" not in ours


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_it_knows_where_the_pixels_begin(slice_path, syntax):
    ds = pydicom.dcmread(slice_path)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(slice_path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    place = parse(slice_path).pixels
    assert place is not None and place.length == len(ds.PixelData)
    assert slice_path.read_bytes()[place.offset : place.offset + place.length] == ds.PixelData


def test_it_knows_where_the_pixels_begin_in_a_deflated_data_set(slice_path):
    ds = pydicom.dcmread(slice_path)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.save_as(slice_path)
    place = parse(slice_path).pixels
    raw = slice_path.read_bytes()
    assert place is not None and place.deflated_at is not None
    inflated = zlib.decompress(raw[place.deflated_at :], -zlib.MAX_WBITS)
    assert inflated[place.offset : place.offset + place.length] == ds.PixelData


def test_a_header_longer_than_one_read_is_read_whole(slice_path):
    ds = pydicom.dcmread(slice_path)
    ds.add_new(0x00091010, "OB", b"\1" * (3 * PEEK_BYTES))
    ds.add_new(0x00090010, "LO", "TEST")
    ds.save_as(slice_path)
    header = read_header(slice_path)
    assert len(header[0x00091010].value) == 3 * PEEK_BYTES
    assert header.Rows == 32


@pytest.mark.parametrize("junk", [b"", b"hello", b"\0" * 4000, b"PK\3\4" * 100, b"\0" * 128 + b"DICM"])
def test_what_is_not_dicom_is_refused(tmp_path, junk):
    path = tmp_path / "x"
    path.write_bytes(junk)
    refusal_of(path)


def test_a_missing_file_is_refused(tmp_path):
    refusal_of(tmp_path / "absent.dcm")


def test_a_header_cut_off_within_a_value_is_refused(tmp_path):
    path = tmp_path / "x"
    whole = part10(element(0x00080060, b"CS", b"CT") + element(0x00081030, b"LO", b"a long description  "))
    path.write_bytes(whole[:-6])
    refusal_of(path)


def test_a_deflate_bomb_costs_little(tmp_path):
    """Eighty kilobytes that become 80 MiB, more than any header (reliability.md B7)."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = engine.compress(element(0x00080060, b"CS", b"CT"))
    bomb += engine.compress(struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 1 << 30))
    bomb += b"".join(engine.compress(b"\0" * (1 << 22)) for _ in range(20)) + engine.flush()
    path = tmp_path / "x"
    path.write_bytes(part10(bomb, DeflatedExplicitVRLittleEndian))
    assert path.stat().st_size < 1 << 17
    tracemalloc.start()
    start = time.perf_counter()
    refusal_of(path)
    assert time.perf_counter() - start < 2
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_an_honest_deflated_data_set_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(part10(deflated(element(0x00080060, b"CS", b"CT")), DeflatedExplicitVRLittleEndian))
    assert read_header(path).Modality == "CT"


def test_an_announced_length_of_four_gigabytes_allocates_nothing(tmp_path):
    path = tmp_path / "x"
    head = element(0x00080060, b"CS", b"CT") + struct.pack("<HH2sHI", 9, 0x1010, b"OB", 0, 0xFFFFFFFE)
    path.write_bytes(part10(head + b"\0" * 100))
    tracemalloc.start()
    refusal_of(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_ten_thousand_nested_sequences_are_refused_quickly(tmp_path):
    nested = (
        struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    ) * 10_000
    path = tmp_path / "x"
    path.write_bytes(part10(nested))
    start = time.perf_counter()
    refusal_of(path)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("is_nested", [False, True])
def test_too_many_items_are_refused(tmp_path, is_nested):
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * (MAX_ITEMS + 1)
    if is_nested:
        inner = element(0x00081140, b"SQ", items)
        items = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    path = tmp_path / "x.dcm"
    path.write_bytes(part10(element(0x00081140, b"SQ", items)))
    assert "items" in refusal_of(path).sentence


def test_too_many_elements_are_refused(tmp_path):
    body = b"".join(
        element((0x0011 + 2 * (i // 0xEF00) << 16) | 0x1000 + i % 0xEF00, b"SH", b"")
        for i in range(MAX_ELEMENTS + 1)
    )
    path = tmp_path / "x"
    path.write_bytes(part10(body))
    assert "elements" in refusal_of(path).sentence


def test_a_refusal_quotes_nothing_from_the_data_set(tmp_path):
    path = tmp_path / "x"
    body = element(0x00100010, b"PN", b"Canary^Secret ") + element(0x00081115, b"SQ", b"\1\2\3Canary")
    path.write_bytes(part10(body)[:-3])
    assert "Canary" not in str(refusal_of(path))


def test_a_value_of_half_a_number_is_absent(tmp_path):
    path = tmp_path / "half"
    path.write_bytes(part10(element(0x00280010, b"US", b"\x03") + element(0x00280011, b"US", b"\x04\0")))
    header = read_header(path)
    assert integer_of(header, "Rows") is None and integer_of(header, "Columns") == 4


def test_headers_come_by_uid_and_the_unreadable_ones_as_sentences(tmp_path, slice_path):
    good = phantoms.instances_of([slice_path])[0]
    broken_path = tmp_path / "broken"
    broken_path.write_bytes(b"nothing")
    import dataclasses

    bad = dataclasses.replace(good, sop_instance_uid="1.2.99", path=broken_path)
    headers, unreadable = read_headers([good, bad])
    assert list(headers) == [good.sop_instance_uid]
    assert len(unreadable) == 1 and unreadable[0].startswith("1.2.99: ")


def test_mutated_files_are_read_or_refused_and_nothing_else(slice_path, tmp_path):
    """Seeded mutations of an honest file: bytes flipped, blocks cut, doubled and zeroed."""
    honest = slice_path.read_bytes()
    header_end = parse(slice_path).pixels.offset
    chance = random.Random(20261120)
    path = tmp_path / "mutant"
    for _ in range(400):
        mutant = bytearray(honest[: header_end + 64])
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(128, len(mutant))
            kind = chance.randrange(4)
            if kind == 0:
                mutant[at] = chance.randrange(256)
            elif kind == 1:
                del mutant[at : at + chance.randint(1, 40)]
            elif kind == 2:
                mutant[at:at] = mutant[at : at + chance.randint(1, 40)]
            else:
                mutant[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xfe\xff\x00\xe0"))
        path.write_bytes(mutant)
        try:
            read_header(path)
        except InputRefused as refusal:
            assert refusal.code == "unreadable"


def test_a_header_can_be_cut_down_to_what_is_asked_for(tmp_path):
    affine = phantoms.make_affine()
    array = phantoms.asymmetric_phantom((30, 24, 20), affine).array_hu
    path = tmp_path / "mr.dcm"
    phantoms.write_enhanced_mr(path, array, affine, b_values=(0.0,), patient_name="山田^太郎")
    (instance,) = phantoms.instances_of([path])
    whole, _ = read_headers([instance])
    asked = (
        "Modality",
        "DiffusionBValue",
        "ImagePositionPatient",
        "PatientName",
        "EchoTime",
        "NoSuchKeyword",
    )
    cut, unreadable = read_headers([instance], asked)
    assert unreadable == []
    (full,), (small,) = whole.values(), cut.values()
    assert small.Modality == full.Modality
    assert small.PatientName == full.PatientName
    assert len(small.PerFrameFunctionalGroupsSequence) == 30
    for one, other in zip(
        small.PerFrameFunctionalGroupsSequence, full.PerFrameFunctionalGroupsSequence, strict=True
    ):
        assert one.PlanePositionSequence == other.PlanePositionSequence
        assert "FrameContentSequence" not in one
    assert "SeriesInstanceUID" not in small
