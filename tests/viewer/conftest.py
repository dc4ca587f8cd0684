"""An archive, the viewer's site and a browser, each started once; tests open studies in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from tests import orthanc as archive
from tests.paths import REPOSITORY
from tests.viewer import dwv, npm, ohif
from tests.viewer.page import FLAGS, Viewer
from tests.viewer.studies import Study

#: Downloads are kept here; ignored by git.
CACHE = REPOSITORY / ".cache"


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[archive.Orthanc]:
    """An empty Orthanc with DICOMweb."""
    if package := archive.missing():
        pytest.skip(f"Debian package {package} is missing")
    with archive.Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="session")
def site(orthanc: archive.Orthanc) -> Iterator[ohif.Site]:
    """The OHIF viewer, reading from the archive."""
    try:
        dist = ohif.fetch(CACHE)
    except npm.NotFetched as error:
        pytest.skip(str(error))
    with ohif.Site(dist, orthanc.port) as served:
        yield served


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Debian's Chromium; no browser is downloaded."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'radnode[viewer]' is missing")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Debian package chromium is missing")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=list(FLAGS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def open_study(orthanc, site, browser) -> Iterator[Callable[[Study], Viewer]]:
    """Store a study in the archive and open it in the viewer."""
    opened: list[Viewer] = []

    def show(study: Study) -> Viewer:
        for viewer in opened:
            viewer.close()
        opened.clear()
        orthanc.store(*study.files)
        opened.append(Viewer(browser, site.url, study.study_uid))
        return opened[0]

    yield show
    for viewer in opened:
        viewer.close()


@pytest.fixture(scope="session")
def open_dwv(browser) -> Iterator[Callable[[], dwv.Dwv]]:
    """Open an empty page of the second viewer."""
    try:
        packages = dwv.fetch(CACHE)
    except npm.NotFetched as error:
        pytest.skip(str(error))
    opened: list[dwv.Dwv] = []

    def show() -> dwv.Dwv:
        for page in opened:
            page.close()
        opened[:] = [dwv.Dwv(browser, packages)]
        return opened[0]

    yield show
    for page in opened:
        page.close()
