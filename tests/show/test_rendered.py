from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import EncapsulatedPDFStorage

import node.darkroom
from node.darkroom import DECODABLE, Darkroom
from tests.show.served import Answer, Served
from tests.toy_node import small_ct

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("rendered").resolve()
    room = Darkroom(folder / "dark", (folder,), "best")
    with Served(folder / "data", room.develop, DECODABLE) as running:
        running.room = room
        running.folder = folder
        running.files = small_ct(folder / "ct", slices=3)
        for file in running.files:
            ds = pydicom.dcmread(file)
            ramp = np.tile(np.arange(ds.Columns, dtype=np.int16) * 10, (ds.Rows, 1))
            ramp[: ds.Rows // 2] += 5  # so that up is not down
            ds.PixelData, ds.PixelRepresentation = ramp.tobytes(), 1
            ds.RescaleSlope, ds.RescaleIntercept = "1", "-100"
            ds.WindowCenter, ds.WindowWidth = "100", "200"
            ds.save_as(file)
        running.held = running.hold(*running.files)
        yield running
    room.close()


def ask(served: Served, more: str = "/rendered", accept: str | None = "image/png") -> Answer:
    one = served.held[0]
    path = f"/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_instance_uid}"
    return served.get(f"{path}{more}", accept)


def pixels(answer: Answer) -> np.ndarray:
    assert answer.status == 200, answer.body
    return np.asarray(Image.open(io.BytesIO(answer.body))).astype(float)


def linear(served: Served, centre: float, width: float) -> np.ndarray:
    """Return grey values as PS3.3 C.11.2.1.2.1 says."""
    values = pydicom.dcmread(served.files[0]).pixel_array.astype(float) - 100
    return np.clip(((values - (centre - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)


def test_a_picture_has_the_window_of_the_header_or_the_one_asked_for(served: Served):
    assert np.abs(pixels(ask(served)) - linear(served, 100, 200)).max() <= 0.51
    asked = ask(served, "/rendered?window=50,101,linear")
    assert np.abs(pixels(asked) - linear(served, 50, 101)).max() <= 0.51
    assert pixels(ask(served, "/rendered?window=50,101,sigmoid")).std() > 0


def test_jpeg_is_what_who_does_not_mind_gets(served: Served):
    for accept in (None, "*/*", "image/*", "image/jpeg"):
        answer = ask(served, accept=accept)
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.body)).format == "JPEG"
    assert np.abs(pixels(answer) - linear(served, 100, 200)).mean() < 3
    assert len(ask(served, "/rendered?quality=10", "image/jpeg").body) < len(answer.body)


def test_a_part_of_a_picture_is_fitted_into_the_viewport_and_mirrored(served: Served):
    whole = pixels(ask(served))
    assert pixels(ask(served, "/rendered?viewport=20,100")).shape == (24, 20)
    part = pixels(ask(served, "/rendered?viewport=10,12,5,6,10,12"))
    assert (part == whole[6:18, 5:15]).all()
    assert (pixels(ask(served, "/rendered?viewport=10,12,5,6,-10,12")) == part[:, ::-1]).all()
    assert (pixels(ask(served, "/rendered?viewport=10,12,5,6,10,-12")) == part[::-1]).all()


def test_frames_and_thumbnails_of_every_level(served: Served):
    assert (pixels(ask(served, "/frames/1/rendered")) == pixels(ask(served))).all()
    assert ask(served, "/frames/2/rendered").status == 404
    one = served.held[0]
    for path in (f"/studies/{one.study_uid}", f"/studies/{one.study_uid}/series/{one.series_uid}"):
        assert max(pixels(served.get(f"{path}/thumbnail", "image/png")).shape) == 200
    assert pixels(ask(served, "/thumbnail?viewport=16,16")).shape == (16, 13)
    assert ask(served, "/frames/1/thumbnail").status == 200


@pytest.mark.parametrize(
    "query",
    "window=a,b window=1 window=1,0 window=1,-5,linear window=1,2,cubic window=1,2,linear,3 window=1e99,1 "
    "viewport=0,1 viewport=1 viewport=9999,9999 viewport=1,2,3 viewport=10,10,-1,0,5,5 viewport=nan,1 "
    "quality=0 quality=101 quality=high annotation=everything".split(),
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(served: Served, query: str):
    answer = ask(served, f"/rendered?{query}")
    assert answer.status == 400 and answer.sentence.endswith(".")


def test_a_part_outside_of_the_image_is_not_there(served: Served):
    assert ask(served, "/rendered?viewport=10,10,500,0,5,5").status == 406
    assert ask(served, "/rendered", "image/gif").status == 406


def test_a_report_has_no_picture_and_a_document_is_given_as_it_is(served: Served, tmp_path: Path):
    ds = pydicom.dcmread(small_ct(tmp_path / "pdf", seed="pdf", slices=2)[0])
    del ds.PixelData
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    ds.EncapsulatedDocument = b"%PDF-1.4 %"
    ds.save_as(tmp_path / "pdf.dcm")
    (one,) = served.hold(tmp_path / "pdf.dcm")
    path = f"/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_instance_uid}"
    answer = served.get(f"{path}/rendered")
    assert (answer.headers["content-type"], answer.body) == ("application/pdf", b"%PDF-1.4 %")
    assert served.get(f"{path}/rendered", "image/png").status == 406
    assert served.get(f"{path}/thumbnail").status in (404, 406)


def test_a_worker_that_dies_costs_one_picture_at_most(served: Served, tmp_path: Path):
    assert ask(served).status == 200
    (worker,) = [one for one in served.room._idle if one is not None]
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.2)
    answers = [ask(served).status for _ in range(2)]
    assert answers[-1] == 200, answers


def test_a_picture_that_takes_too_long_is_given_up(served: Served, monkeypatch):
    monkeypatch.setattr(node.darkroom, "DEADLINE_S", 0.0)
    late = ask(served)
    assert late.status == 406 and "cannot be decoded here" in late.sentence
    monkeypatch.undo()
    assert ask(served).status == 200


def test_who_finds_all_workers_busy_is_told_to_come_again(served: Served, monkeypatch):
    monkeypatch.setattr(node.darkroom, "QUEUE_S", 0.1)
    taken, served.room._idle[:] = list(served.room._idle), []
    try:
        answer = ask(served)
        assert answer.status == 503 and answer.headers["retry-after"]
    finally:
        served.room._idle[:] = taken


def test_nothing_that_was_made_is_left(served: Served):
    assert ask(served).status == 200
    assert not list((served.folder / "dark").glob("made-*"))
