"""The node as an origin server: every transfer syntax as it came and as a picture; Orthanc as a client."""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.uid import UID

from node.darkroom import DECODABLE, Darkroom
from node.jpeg import SYNTAXES
from node.model import Instance
from tests import orthanc
from tests.harness import program
from tests.paths import SHARED, needs_shared
from tests.phantoms import uid_of
from tests.show.served import Served
from tests.toy_node import small_ct

EXPLICIT = "1.2.840.10008.1.2.1"

#: What cannot be shown as a picture: file or transfer syntax -> what the node says of it.
NOT_RENDERED = {
    "1.2.840.10008.1.2.8.1": "masks are compressed",
    "liver_j2k.dcm": "masks are compressed",
    "liver_nonbyte_aligned_rle.dcm": "masks are compressed",
    "SC_rgb_rle_32bit.dcm": "not whole numbers of 8 or 16 bits",
    "parametric_map_float.dcm": "not made of 8, 16 or 32 bit whole numbers",
    "JPEG2000-embedded-sequence-delimiter.dcm": "the compressed frame is",
}
#: Shown otherwise than pydicom shows it, for a reason.
OTHERWISE = {
    "eCT_Supplemental.dcm": "values that its supplemental palette colours are white here",
    "CT1_J2KR": "padding sets no limits here",
}


@pytest.fixture(scope="module")
def darkroom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Darkroom]]:
    folder = tmp_path_factory.mktemp("origin").resolve()
    room = Darkroom(folder / "dark", (folder,), "best")
    yield folder, room
    room.close()


_UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_KINDS = ("SOPClassUID", "PhotometricInterpretation", "BitsAllocated")


def different_files(keywords: Sequence[str], folder: Path) -> list[Path]:
    """Return one real file of each transfer syntax and of each combination of some attributes.

    Some that are samples of pixels alone lack UIDs; a copy in the folder has them.
    """
    chosen: dict[tuple[object, ...], Path] = {}
    for file in sorted(SHARED.rglob("*")):
        with suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*_UIDS, *_KINDS])
            kind = header.file_meta.TransferSyntaxUID, *(header.get(keyword) for keyword in keywords)
            if kind in chosen:
                continue
            if all(UID(header.get(keyword, "")).is_valid for keyword in _UIDS):
                chosen[kind] = file
            elif "SOPInstanceUID" in header:
                whole = pydicom.dcmread(file)
                for keyword in _UIDS:
                    setattr(whole, keyword, uid_of("origin", file.name, keyword))
                whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
                whole.save_as(folder / file.name)
                chosen[kind] = folder / file.name
    return list(chosen.values())


def in_rounds(files: list[Path]) -> list[list[Path]]:
    """Return groups of files in which no SOP Instance UID comes twice."""
    rounds: list[dict[str, Path]] = []
    for file in files:
        uid = str(
            pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        )
        free = next((one for one in rounds if uid not in one), None)
        if free is None:
            rounds.append({})
            free = rounds[-1]
        free[uid] = file
    return [list(one.values()) for one in rounds]


def encoded(part10: bytes) -> bytes:
    """Return the data set of one of our files: its meta tells its own length truly."""
    return part10[144 + int.from_bytes(part10[140:144], "little") :]


def read_by_others(file: Path) -> pydicom.FileDataset:
    """Return a file as pydicom can decode it; what it cannot, DCMTK decodes first."""
    ds = pydicom.dcmread(file)
    if ds.file_meta.TransferSyntaxUID not in SYNTAXES or "PixelData" not in ds:
        return ds
    dcmdjpeg = program("dcmdjpeg")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([dcmdjpeg, file, f"{folder}/plain.dcm"], check=True, capture_output=True)
        return pydicom.dcmread(io.BytesIO(Path(folder, "plain.dcm").read_bytes()))


def reference(file: Path) -> Any:
    """Return what pydicom makes of the frame that is shown: values in proportion to what is seen."""
    ds = read_by_others(file)
    array = ds.pixel_array
    if int(ds.get("NumberOfFrames", 1) or 1) > 1:
        array = array[int(ds.get("RepresentativeFrameNumber", 1) or 1) - 1]
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return apply_color_lut(array, ds)
    if ds.SamplesPerPixel == 1:
        array = apply_voi_lut(apply_modality_lut(array, ds), ds)
    return -array.astype(float) if ds.PhotometricInterpretation == "MONOCHROME1" else array


def check_as_sent(served: Served, file: Path, instance: Instance, path: str) -> None:
    answer = served.get(path, "application/dicom; transfer-syntax=*")
    assert answer.status == 200, file.name
    data = encoded(answer.body)
    raw = file.read_bytes()
    assert raw.endswith(data) and 0 < len(raw) - len(data) < 4096, f"{file.name} is not given as it came"
    assert (
        answer.headers["content-type"] == f"application/dicom; transfer-syntax={instance.transfer_syntax_uid}"
    )


def check_picture(served: Served, file: Path, instance: Instance, path: str) -> str:
    """Check the picture of an instance; return how it came out, for the table."""
    answer = served.get(f"{path}/rendered", "image/png")
    said = NOT_RENDERED.get(file.name) or NOT_RENDERED.get(instance.transfer_syntax_uid)
    if answer.status == 404:
        assert "no pixel data" in answer.sentence, file.name
        return "no image"
    if said is not None:
        assert answer.status == 406 and said in answer.sentence, f"{file.name}: {answer.body[:300]!r}"
        return answer.sentence
    assert answer.status == 200, f"{file.name}: {answer.sentence}"
    shown = np.asarray(Image.open(io.BytesIO(answer.body))).astype(float)
    with warnings.catch_warnings(), suppress(ValueError):  # some headers are beyond pydicom
        warnings.simplefilter("ignore")
        wanted = np.asarray(reference(file), dtype=float)
        assert shown.shape == wanted.shape, file.name
        if shown.std() and wanted.std():
            alike = np.corrcoef(shown.ravel(), wanted.ravel())[0, 1]
            assert alike > (0.8 if file.name in OTHERWISE else 0.99), f"{file.name}: {alike:.3f}"
    return "shown"


def check_transcoded(served: Served, file: Path, instance: Instance, path: str) -> None:
    answer = served.get(path, f"application/dicom; transfer-syntax={EXPLICIT}")
    if answer.status == 406:
        compressed = instance.transfer_syntax_uid.startswith(("1.2.840.10008.1.2.4", "1.2.840.10008.1.2.5"))
        assert compressed or instance.transfer_syntax_uid == "1.2.840.10008.1.2.8.1", file.name
        assert answer.sentence.endswith(".")
        return
    assert answer.status == 200, file.name
    ours = pydicom.dcmread(io.BytesIO(answer.body))
    assert ours.file_meta.TransferSyntaxUID == EXPLICIT
    with warnings.catch_warnings(), suppress(ValueError):
        warnings.simplefilter("ignore")
        theirs = read_by_others(file)
        if "PixelData" in theirs:
            # two implementations of one cosine transform may round otherwise
            most = 2 if instance.transfer_syntax_uid in SYNTAXES else 0
            off = np.abs(ours.pixel_array.astype(int) - theirs.pixel_array.astype(int)).max()
            assert off <= most, f"{file.name} has other pixels"


@needs_shared
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kinds", [(), pytest.param(_KINDS, marks=pytest.mark.slow)], ids=["syntax", "kind"])
def test_every_transfer_syntax_is_received_given_as_it_came_and_shown(darkroom, kinds):
    folder, room = darkroom
    folder = Path(tempfile.mkdtemp(dir=folder))
    table: dict[str, set[str]] = {}
    for number, files in enumerate(in_rounds(different_files(kinds, folder))):
        with Served(folder / str(number), room.develop, DECODABLE) as served:
            for file in files:
                (instance,) = served.hold(file)
                path = (
                    f"/studies/{instance.study_uid}/series/{instance.series_uid}"
                    f"/instances/{instance.sop_instance_uid}"
                )
                check_as_sent(served, file, instance, path)
                assert served.get(f"{path}/metadata").json[0]["00080018"]["Value"] == [
                    instance.sop_instance_uid
                ]
                how = check_picture(served, file, instance, path)
                table.setdefault(UID(instance.transfer_syntax_uid).name, set()).add(how)
                check_transcoded(served, file, instance, path)
    for syntax, outcomes in sorted(table.items()):
        print(f"{syntax}: {'; '.join(sorted(outcomes))}")
    assert len(table) >= 16, sorted(table)
    shown = {syntax for syntax, outcomes in table.items() if "shown" in outcomes}
    assert len(shown) >= 12, sorted(shown)


def test_orthanc_as_a_client_finds_and_fetches_what_the_node_holds(tmp_path: Path):
    if package := orthanc.missing():
        pytest.skip(f"Debian package {package} is missing")
    with Served(tmp_path / "data") as served:
        held = served.hold(*small_ct(tmp_path / "ct", slices=5))
        (tmp_path / "orthanc").mkdir()
        with orthanc.Orthanc(tmp_path / "orthanc", {"node": f"{served.url}/"}) as archive:

            def ask(what: str, **about: object) -> Any:
                path = f"/dicom-web/servers/node/{what}"
                status, answer = archive.ask("POST", path, json.dumps(about).encode())
                assert status == 200, answer
                return json.loads(answer)

            (study,) = ask("qido", Uri="/studies", Arguments={})
            told = {tag.upper(): about["Value"] for tag, about in study.items() if "Value" in about}
            assert told["0020000D"] == held[0].study_uid
            assert ask("qido", Uri="/studies", Arguments={"PatientID": "nobody"}) == []
            fetched = ask("retrieve", Resources=[{"Study": held[0].study_uid}], Synchronous=True)
            assert fetched["ReceivedInstancesCount"] == "5"
            assert all(archive.holds(instance.path) for instance in held)


def test_what_is_downloaded_does_not_age_out_under_it(tmp_path: Path):
    with Served(tmp_path / "data") as served:
        (first, *_) = served.hold(*small_ct(tmp_path / "ct", slices=4))
        lease = served.origin.lease(first.study_uid)
        with served.store.leases.ending(first.study_uid) as free:
            assert not free
        del lease
        with served.store.leases.ending(first.study_uid) as free:
            assert free
            answer = served.get(f"/studies/{first.study_uid}")
            assert answer.status == 410 and "not any more" in answer.sentence
        assert served.get(f"/studies/{first.study_uid}").status == 200


def test_a_client_that_goes_away_leaves_nothing_leased(tmp_path: Path):
    with Served(tmp_path / "data") as served:
        (first, *_) = served.hold(*small_ct(tmp_path / "ct", slices=4))
        for _ in range(3):
            served.hang_up(f"/studies/{first.study_uid}")
        served.get("/studies")
        with served.store.leases.ending(first.study_uid) as free:
            assert free
