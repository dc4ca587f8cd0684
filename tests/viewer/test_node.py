"""OHIF on the node itself: its study list, a CT, and what the node found in it; no archive anywhere.

Run with ``deploy/test.sh -m viewer``; screenshots are kept in ``test-artefacts/viewer``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pydicom
import pytest

import simulate
from tests.harness import NodeProcess
from tests.toy_node import send
from tests.viewer import npm, ohif
from tests.viewer.checks import check_colours, check_measurements, check_segments, check_text, picture
from tests.viewer.conftest import CACHE
from tests.viewer.page import Viewer
from tests.viewer.studies import Study, read_study

pytestmark = pytest.mark.viewer

CONFIG = """\
[accept]
reserve_gb = 0.01
[accept.dimse]
port = 0
[assemble]
quiet_s = 0.5
[compute]
devices = ["cpu"]
[show]
enabled = true
port = 0
[destinations.out]
transport = "folder"
path = "out"
[[rules]]
name = "lungs"
pipeline = "lung-density"
send_to = ["out"]
[rules.match]
Modality = "CT"
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node with a CT of a simulated chest and what it found in it."""
    folder = tmp_path_factory.mktemp("node")
    running = NodeProcess(folder, CONFIG)
    running.start()
    try:
        made = simulate.chest((50, 128, 128))
        files = simulate.write_ct_series(folder / "ct", made)
        assert len(send(files, running.port)) == len(files)
        assert running.wait_idle()["jobs"]["done"] == 1
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def study(node: NodeProcess) -> Study:
    """What is true of it, from the files that the node keeps."""
    images = sorted((node.folder / "ct").rglob("*.dcm"))
    return read_study("node", images, sorted((node.folder / "out").rglob("*.dcm")))


@pytest.fixture(scope="module")
def url(node: NodeProcess) -> Iterator[str]:
    """OHIF, reading from the node."""
    try:
        dist = ohif.fetch(CACHE)
    except npm.NotFetched as error:
        pytest.skip(str(error))
    with ohif.Site(dist, node.web, study_list=True) as site:
        yield site.url


@pytest.fixture(scope="module")
def viewer(browser: object, url: str, study: Study) -> Iterator[Viewer]:
    """The study, open in OHIF."""
    opened = Viewer(browser, url, study.study_uid)
    yield opened
    opened.close()


def test_the_study_list_of_ohif_is_that_of_the_node(browser, url: str, study: Study) -> None:
    header = pydicom.dcmread(study.images[0])
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    try:
        page = context.new_page()
        page.goto(url)
        row = page.locator("tr", has_text=str(header.AccessionNumber)).first
        row.wait_for(timeout=60_000)
        told = row.inner_text()
        assert "CT\\SEG\\SR" in told and str(header.StudyDescription) in told, told
        assert str(len(study.files)) in told.split(), "it counts other instances than there are"
        row.click()
        page.get_by_text("Segmentation").first.wait_for(timeout=60_000)
        shown = picture(study, "study-list")
        shown.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=shown)
    finally:
        context.close()


def test_every_segment_is_shown_voxel_by_voxel(viewer: Viewer, study: Study) -> None:
    check_segments(viewer, study)


def test_a_segment_has_its_colour_where_it_lies_in_the_patient(viewer: Viewer, study: Study) -> None:
    check_colours(viewer, study)


def test_every_measurement_is_drawn_on_its_slice_with_our_numbers(viewer: Viewer, study: Study) -> None:
    check_measurements(viewer, study)


def test_the_text_report_can_be_read(viewer: Viewer, study: Study) -> None:
    check_text(viewer, study)
