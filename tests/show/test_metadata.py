from __future__ import annotations

import base64
from collections.abc import Iterator

import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.show.served import Served, parts_of
from tests.toy_node import small_ct

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

LONG = bytes(range(256)) * 16


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("metadata")
    files = small_ct(folder / "ct", slices=3, patient_name="Müller^Jörg", character_set="ISO_IR 100")
    for file in files:
        ds = pydicom.dcmread(file)
        block = ds.private_block(0x0009, "radnode tests", create=True)
        block.add_new(0x01, "LO", "private words")
        block.add_new(0x02, "OB", LONG)
        item = Dataset()
        item.add_new(0x54001010, "OW", LONG)
        ds.WaveformSequence = [item]
        ds.save_as(file)
    with Served(folder / "data") as running:
        running.files = files
        running.held = running.hold(*files)
        yield running


def path_of(served: Served) -> str:
    first = served.held[0]
    return f"/studies/{first.study_uid}/series/{first.series_uid}/instances/{first.sop_instance_uid}"


def test_metadata_of_every_level_are_read_by_dicomweb_client(served: Served):
    first, client = served.held[0], served.client
    for told, count in (
        (client.retrieve_study_metadata(first.study_uid), 3),
        (client.retrieve_series_metadata(first.study_uid, first.series_uid), 3),
        ([client.retrieve_instance_metadata(first.study_uid, first.series_uid, first.sop_instance_uid)], 1),
    ):
        assert len(told) == count
        theirs = {one["00080018"]["Value"][0]: Dataset.from_json(one, lambda *_: b"") for one in told}
        for file in served.files[:count]:
            sent = pydicom.dcmread(file, stop_before_pixels=True)
            one = theirs[sent.SOPInstanceUID]
            assert one.PatientName == "Müller^Jörg"
            assert one.SpecificCharacterSet == "ISO_IR 192"
            assert [float(v) for v in one.ImagePositionPatient] == [
                float(v) for v in sent.ImagePositionPatient
            ]
            assert one[0x00091001].value == "private words"


def test_long_values_are_elsewhere_and_there(served: Served):
    (told,) = served.get(f"{path_of(served)}/metadata").json
    pixels, private = told["7FE00010"]["BulkDataURI"], told["00091002"]["BulkDataURI"]
    nested = told["54000100"]["Value"][0]["54001010"]["BulkDataURI"]
    assert private == f"{served.url}{path_of(served)}/bulkdata/00091002"
    sent = pydicom.dcmread(served.files[0])
    for where, wanted in ((pixels, sent.PixelData), (private, LONG), (nested, LONG)):
        path = where.removeprefix(served.url)
        (part,) = parts_of(served.get(path))
        assert part[1] == wanted
        assert served.get(path, "application/octet-stream").body == wanted
        assert b"".join(served.client.retrieve_bulkdata(where)) == wanted


def test_metadata_come_as_xml_for_who_wants_it(served: Served):
    answer = served.get(f"{path_of(served)}/metadata", 'multipart/related; type="application/dicom+xml"')
    assert b'keyword="PatientName"' in answer.body
    assert served.get(f"{path_of(served)}/metadata", "text/plain").status == 406


@pytest.mark.parametrize(
    "place", ["00100010", "00091001", "00091002/0/00091002", "54000100/7/54001010", "x", "7FE00008", "../.."]
)
def test_there_is_no_other_bulk_data(served: Served, place: str):
    assert served.get(f"{path_of(served)}/bulkdata/{place}").status == 404


def test_of_a_header_that_cannot_be_read_it_is_told_who_it_is(served: Served, tmp_path):
    (one, _) = served.hold(*small_ct(tmp_path / "bad", seed="bad", slices=2))
    one.path.write_bytes(b"no DICOM any more")
    told = served.get(f"/studies/{one.study_uid}/metadata").json
    assert len(told) == 2
    assert one.sop_instance_uid in [about["00080018"]["Value"][0] for about in told]


def test_small_binary_values_are_in_the_text(served: Served, tmp_path):
    (file, *_) = small_ct(tmp_path / "small", seed="small", slices=2)
    ds = pydicom.dcmread(file)
    ds.add_new(0x00091010, "OB", b"\1\2\3\4")
    ds.private_block(0x0009, "radnode tests", create=True)
    ds.save_as(file)
    (one,) = served.hold(file)
    (told,) = served.get(f"/studies/{one.study_uid}/metadata").json
    assert base64.b64decode(told["00091010"]["InlineBinary"]) == b"\1\2\3\4"
