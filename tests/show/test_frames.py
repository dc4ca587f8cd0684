from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from node.darkroom import DECODABLE, Darkroom
from tests.phantoms import uid_of
from tests.show.served import Served, parts_of
from tests.toy_node import small_ct

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

OCTETS = 'multipart/related; type="application/octet-stream"'
FRAMES, ROWS, COLUMNS = 5, 6, 10  #: sixty pixels: frames of single bits begin within bytes


def a_cine(file: Path, key: str, *, syntax: str = "", bits: int = 16) -> Path:
    """Write a multi-frame object with noise in it."""
    ds = pydicom.dcmread(small_ct(file.parent / key, seed=key, slices=2)[0])
    top = 2 if bits == 1 else 1 << 12
    array = np.random.default_rng(7).integers(0, top, (FRAMES, ROWS, COLUMNS), dtype=np.uint16)
    ds.NumberOfFrames, ds.Rows, ds.Columns = FRAMES, ROWS, COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (
        bits,
        min(bits, 12),
        min(bits, 12) - 1,
        0,
    )
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, uid_of("frames", key, keyword))
    ds.PixelData = (
        np.packbits(array.astype(np.uint8).ravel(), bitorder="little").tobytes()
        if bits == 1
        else array.tobytes()
    )
    ds["PixelData"].VR = "OB" if bits == 1 else "OW"
    if syntax:
        ds.compress(syntax, array, generate_instance_uid=False)
    ds.save_as(file)
    ds.save_as(file)
    return file


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("frames").resolve()
    room = Darkroom(folder / "dark", (folder,), "best")
    with Served(folder / "data", room.develop, DECODABLE) as running:
        running.paths, running.truth = {}, {}
        for key, more in {
            "native": {},
            "rle": {"syntax": RLELossless},
            "jpeg-ls": {"syntax": JPEGLSLossless},
            "bits": {"bits": 1},
        }.items():
            file = a_cine(folder / f"{key}.dcm", key, **more)
            (one,) = running.hold(file)
            running.paths[key] = (
                f"/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_instance_uid}"
            )
            running.truth[key] = pydicom.dcmread(file)
        yield running
    room.close()


def frame(served: Served, key: str, number: int) -> bytes:
    """Return what pydicom makes of a frame: native, little endian."""
    return served.truth[key].pixel_array[number - 1].astype("<u2").tobytes()


@pytest.mark.parametrize(
    "accept",
    [None, OCTETS, f"{OCTETS}; transfer-syntax=*", f"{OCTETS}; transfer-syntax={ExplicitVRLittleEndian}"],
)
def test_native_frames_are_given_in_the_order_asked_for(served: Served, accept):
    parts = parts_of(served.get(f"{served.paths['native']}/frames/3,1,3", accept))
    assert [body for _, body in parts] == [frame(served, "native", number) for number in (3, 1, 3)]
    for headers, _ in parts:
        assert (
            headers["content-type"] == f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
        )
    assert parts[0][0]["content-location"].endswith("/frames/3")


@pytest.mark.parametrize(("key", "kind"), [("rle", "image/dicom-rle"), ("jpeg-ls", "image/jls")])
def test_compressed_frames_are_given_as_they_came_in_their_own_media_type(
    served: Served, key: str, kind: str
):
    sent = served.truth[key]
    wanted = list(pydicom.encaps.generate_frames(sent.PixelData, number_of_frames=FRAMES))
    for accept in (
        f"{OCTETS}; transfer-syntax=*",
        f'multipart/related; type="{kind}"',
        f'multipart/related; type="{kind}"; transfer-syntax={sent.file_meta.TransferSyntaxUID}',
    ):
        answer = served.get(f"{served.paths[key]}/frames/2,5,1", accept)
        parts = parts_of(answer)
        assert [body for _, body in parts] == [wanted[1], wanted[4], wanted[0]]
        assert parts[0][0]["content-type"] == f"{kind}; transfer-syntax={sent.file_meta.TransferSyntaxUID}"
        assert answer.headers["content-type"].startswith(f'multipart/related; type="{kind}"')


@pytest.mark.parametrize("key", ["rle", "jpeg-ls"])
def test_compressed_frames_are_decoded_for_who_wants_octets(served: Served, key: str):
    parts = parts_of(served.get(f"{served.paths[key]}/frames/4,2", OCTETS))
    assert [body for _, body in parts] == [frame(served, key, number) for number in (4, 2)]


def test_dicomweb_client_gets_the_pixels_that_pydicom_reads(served: Served):
    truth = served.truth["native"]
    uids = truth.StudyInstanceUID, truth.SeriesInstanceUID, truth.SOPInstanceUID
    got = served.client.retrieve_instance_frames(*uids, [1, 5])
    assert [bytes(one) for one in got] == [frame(served, "native", 1), frame(served, "native", 5)]


def test_frames_of_single_bits_begin_at_a_byte_of_their_own(served: Served):
    array = served.truth["bits"].pixel_array
    for number, (_, body) in enumerate(
        parts_of(served.get(f"{served.paths['bits']}/frames/1,2,3,4,5", OCTETS))
    ):
        bits = np.unpackbits(np.frombuffer(body, np.uint8), bitorder="little")[: ROWS * COLUMNS]
        assert (bits.reshape(ROWS, COLUMNS) == array[number]).all()


def test_one_frame_may_come_without_parts(served: Served):
    answer = served.get(f"{served.paths['native']}/frames/2", "application/octet-stream")
    assert answer.body == frame(served, "native", 2)
    assert served.get(f"{served.paths['rle']}/frames/2", "image/dicom-rle").status == 200
    assert served.get(f"{served.paths['native']}/frames/1,2", "application/octet-stream").status == 406


@pytest.mark.parametrize(
    ("frames", "status"),
    [
        ("0", 404),
        ("6", 404),
        ("1,6", 404),
        ("a", 400),
        ("1-3", 400),
        ("1,,2", 400),
        (",".join(["1"] * 10_001), 413),
    ],
)
def test_frames_that_are_not_there_or_not_meant_are_refused(served: Served, frames: str, status: int):
    answer = served.get(f"{served.paths['native']}/frames/{frames}")
    assert answer.status == status and answer.sentence.endswith(".")


def test_a_media_type_that_the_frames_are_not_in_is_not_acceptable(served: Served):
    for accept in (
        'multipart/related; type="image/jpeg"',
        f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.4.50",
    ):
        answer = served.get(f"{served.paths['rle']}/frames/1", accept)
        assert answer.status == 406 and "image/dicom-rle" in answer.sentence


def test_frames_that_are_broken_are_said_to_be(served: Served, tmp_path: Path):
    file = a_cine(tmp_path / "broken.dcm", "broken", syntax=RLELossless)
    ds = pydicom.dcmread(file)
    ds.PixelData = encapsulate([b"\1\2\3\4"] * 2)
    ds["PixelData"].is_undefined_length = True
    ds.save_as(file)
    (one,) = served.hold(file)
    path = f"/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_instance_uid}/frames"
    decoded = served.get(f"{path}/1", OCTETS)
    assert decoded.status == 406 and "cannot be decoded" in decoded.sentence
    missing = served.get(f"{path}/5", f"{OCTETS}; transfer-syntax=*")
    assert missing.status == 406 and "told apart" in missing.sentence
