from __future__ import annotations

import http.client
import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from node.darkroom import DECODABLE, Darkroom
from node.journal import Journal
from tests.show.served import Served, parts_of
from tests.toy_node import small_ct, uid_of_file

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

DICOM = 'multipart/related; type="application/dicom"'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("wado").resolve()
    room = Darkroom(folder / "dark", (folder,), "best")
    with Served(folder / "data", room.develop, DECODABLE) as running:
        running.files = small_ct(folder / "plain", seed="plain", slices=4)
        running.plain = running.hold(*running.files)
        about = {"seed": "implicit", "transfer_syntax": ImplicitVRLittleEndian}
        running.implicit = running.hold(*small_ct(folder / "implicit", slices=2, **about))
        compressed = small_ct(folder / "rle", seed="rle", slices=2)
        for file in compressed:
            dataset = pydicom.dcmread(file)
            dataset.compress(RLELossless)
            dataset.SOPInstanceUID = uid_of_file(file)
            dataset.save_as(file)
        running.rle = running.hold(*compressed)
        yield running
    room.close()


def path_of(instance, level: str = "instance") -> str:
    path = f"/studies/{instance.study_uid}"
    path += f"/series/{instance.series_uid}" if level != "study" else ""
    return path + (f"/instances/{instance.sop_instance_uid}" if level == "instance" else "")


@pytest.mark.parametrize(("level", "count"), [("study", 4), ("series", 4), ("instance", 1)])
def test_every_level_is_given_byte_for_byte_as_it_is_kept(served: Served, level: str, count: int):
    answer = served.get(path_of(served.plain[0], level), DICOM)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    kept = {one.path.read_bytes() for one in served.plain}
    parts = parts_of(answer)
    assert len(parts) == count
    for headers, body in parts:
        assert headers["content-type"] == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
        assert body in kept
        where = headers["content-location"].removeprefix(served.url)
        assert served.get(where, "application/dicom").body == body


def test_dicomweb_client_reads_what_was_sent(served: Served):
    first = served.plain[0]
    found = served.client.retrieve_series(first.study_uid, first.series_uid)
    theirs = {one.SOPInstanceUID: one for one in found}
    for file in served.files:
        sent = pydicom.dcmread(file)
        assert theirs[sent.SOPInstanceUID] == sent


@pytest.mark.parametrize("accept", [None, "*/*", DICOM, f"{DICOM}; transfer-syntax=*"])
def test_who_names_no_transfer_syntax_gets_what_came(served: Served, accept):
    (part,) = parts_of(served.get(path_of(served.rle[0]), accept))
    assert part[0]["content-type"] == f"application/dicom; transfer-syntax={RLELossless}"
    assert part[1] == served.rle[0].path.read_bytes()


@pytest.mark.parametrize("kind", ["implicit", "rle"])
def test_explicit_little_endian_is_made_of_what_can_be_decoded(served: Served, kind: str):
    instances = getattr(served, kind)
    answer = served.get(path_of(instances[0], "series"), f"{DICOM}; transfer-syntax={ExplicitVRLittleEndian}")
    assert answer.status == 200
    parts = parts_of(answer)
    assert len(parts) == 2
    kept = {uid_of_file(one.path): pydicom.dcmread(one.path) for one in instances}
    for headers, body in parts:
        assert headers["content-type"] == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
        made = pydicom.dcmread(io.BytesIO(body))
        source = kept[made.SOPInstanceUID]
        assert made.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (made.pixel_array == source.pixel_array).all()
        for keyword in ("PatientName", "ImagePositionPatient", "SOPClassUID", "RescaleIntercept"):
            assert made[keyword].value == source[keyword].value


def test_other_transfer_syntaxes_and_media_types_are_not_acceptable_and_that_is_said(served: Served):
    path = path_of(served.plain[0], "study")
    jpeg = served.get(path, f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.50")
    assert jpeg.status == 406
    assert ExplicitVRLittleEndian in jpeg.sentence
    for accept in ("image/gif", "application/dicom", "text/html", 'multipart/related; type="image/jpeg"'):
        assert served.get(path, accept).status == 406, accept


def test_the_next_best_is_given_where_the_best_is_not_there(served: Served):
    wanted = f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.4.50, {DICOM}; transfer-syntax=*; q=0.5"
    assert served.get(path_of(served.plain[0]), wanted).status == 200


def test_what_can_be_given_only_in_part_is_marked_as_partial(served: Served, tmp_path: Path):
    files = small_ct(tmp_path / "mixed", seed="mixed", slices=2)
    dataset = pydicom.dcmread(files[0])
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4, which nobody decodes here
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(files[0], enforce_file_format=False)
    instances = served.hold(*files)
    path = path_of(instances[0], "series")
    partial = served.get(path, f"{DICOM}; transfer-syntax={ExplicitVRLittleEndian}")
    assert partial.status == 206
    assert len(parts_of(partial)) == 1
    assert served.get(path, DICOM).status == 200


def test_what_was_never_held_is_not_found_and_what_has_gone_is_gone(served: Served, monkeypatch):
    first = served.plain[0]
    for path in ("/studies/1.2.3", f"/studies/{first.study_uid}/series/1.2.3", path_of(first)[:-4] + "9999"):
        answer = served.get(path)
        assert answer.status == 404 and answer.sentence.endswith(".")
    assert served.get(f"/studies/1.2.3/series/{first.series_uid}").status == 404
    monkeypatch.setattr(Journal, "was_held", lambda *_: True)
    gone = served.get("/studies/1.2.3")
    assert gone.status == 410 and "not any more" in gone.sentence


@pytest.mark.parametrize("uid", ["../../etc", "1.2%2f..%2f", "1.2'--", "a" * 100, "1" * 65])
def test_a_path_that_is_no_uid_leads_nowhere(served: Served, uid: str):
    assert served.get(f"/studies/{uid}").status in (400, 404)
    assert served.get(f"/studies/1.2/series/{uid}/metadata").status in (400, 404)


def test_a_file_that_vanishes_breaks_the_answer_off_visibly(served: Served, tmp_path: Path):
    instances = served.hold(*small_ct(tmp_path / "torn", seed="torn", slices=3))
    sorted(instances, key=lambda one: one.sop_instance_uid)[-1].path.unlink()
    with pytest.raises(http.client.IncompleteRead):
        parts_of(served.get(path_of(instances[0], "series"), DICOM))


def test_many_large_instances_take_no_more_memory_than_one_piece(tmp_path: Path):
    files = small_ct(tmp_path / "large", seed="large", slices=6)
    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.add_new(0x00091010, "OB", bytes(8 << 20))
        dataset.private_block(0x0009, "radnode tests", create=True)
        dataset.save_as(file)
    with Served(tmp_path / "data") as served:
        first = served.hold(*files)[0]
        served.get("/studies")
        tracemalloc.start()
        size = 0
        for piece in served.stream(path_of(first, "series"), DICOM):
            size += len(piece)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size > 6 * (8 << 20)
        assert most < 6 << 20
