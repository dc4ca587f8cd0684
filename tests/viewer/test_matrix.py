"""Who stores, reads and shows what: measured here, and kept in ``deploy/results.md``.

Run with ``deploy/test.sh -m viewer``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.orthanc import Orthanc, missing
from tests.paths import REPOSITORY
from tests.viewer import matrix, readers
from tests.viewer.page import Viewer
from tests.viewer.shown import in_dwv, in_ohif
from tests.viewer.studies import Study

pytestmark = [
    pytest.mark.viewer,
    pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="Debian package dicom3tools is missing"),
    pytest.mark.skipif(shutil.which("dsrdump") is None, reason="Debian package dcmtk is missing"),
]

COMMITTED = REPOSITORY / "deploy" / "results.md"
MEASURED = REPOSITORY / "test-artefacts" / "results.md"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, Orthanc]]:
    """Two archives of their own: one is sent to over DIMSE, one over DICOMweb."""
    if package := missing():
        pytest.skip(f"Debian package {package} is missing")
    with (
        Orthanc(tmp_path_factory.mktemp("dimse")) as dimse,
        Orthanc(tmp_path_factory.mktemp("stow")) as stow,
    ):
        yield dimse, stow


@pytest.mark.timeout(1500)
def test_the_result_matrix_is_what_it_was(
    tmp_path: Path, stores: tuple[Orthanc, Orthanc], orthanc: Orthanc, site, browser, open_dwv
) -> None:
    everything, labelmap = matrix.everything(tmp_path / "all"), matrix.labelmap(tmp_path / "labelmap")
    orthanc.store(*everything.files, *labelmap.files)
    cells: dict[str, list[str]] = {}
    for title, kind, is_labelmap in matrix.ROWS:
        study = labelmap if is_labelmap else everything
        file = study.results[kind][0]
        viewer = Viewer(browser, site.url, study.study_uid)
        dwv = open_dwv()
        dwv.load(study.images)
        columns: list[Callable[[], str]] = [
            lambda file=file: readers.dciodvfy(file),
            lambda file=file: _stored(stores[0].store_over_dimse(file)),
            lambda file=file: _stored(stores[1].store_over_stow(file)),
            lambda kind=kind, file=file, study=study: readers.dcmtk(kind, file, study, _scratch(tmp_path)),
            lambda kind=kind, file=file, study=study: readers.dcmqi(kind, file, study, _scratch(tmp_path)),
            lambda kind=kind, file=file, study=study: readers.highdicom_reads(kind, file, study),
            lambda kind=kind, study=study, viewer=viewer: in_ohif(viewer, kind, study),
            lambda kind=kind, study=study, dwv=dwv: in_dwv(dwv, kind, study),
        ]
        try:
            cells[title] = [_verdict(ask) for ask in columns]
        finally:
            viewer.close()
    MEASURED.parent.mkdir(exist_ok=True)
    MEASURED.write_text(matrix.page(cells), encoding="utf-8")
    committed = COMMITTED.read_text(encoding="utf-8") if COMMITTED.is_file() else ""
    assert matrix.table(committed) == matrix.table(MEASURED.read_text(encoding="utf-8")), (
        f"the programs answer otherwise than {COMMITTED.relative_to(REPOSITORY)} says; if that is right: "
        f"cp {MEASURED.relative_to(REPOSITORY)} {COMMITTED.relative_to(REPOSITORY)}"
    )


def _verdict(ask: Callable[[], str]) -> str:
    """A reader that raises has not read."""
    try:
        return ask()
    except Exception as error:  # noqa: BLE001 - whatever a strange program's reader does is its answer
        return f"no: {type(error).__name__}, {readers.plain(str(error))}"


def _stored(why_not: str) -> str:
    return f"no: {why_not}" if why_not else readers.YES


def _scratch(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def test_every_object_has_a_row(tmp_path: Path) -> None:
    made: Study = matrix.everything(tmp_path)
    assert set(made.results) == {kind for _, kind, _ in matrix.ROWS}
