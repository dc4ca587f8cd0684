"""One study open in OHIF: what a person would click, and what the viewer then holds and draws.

The viewer keeps its own books (``window.services``, ``cornerstone``, ``cornerstoneTools``); they
are read here, never written, except to turn to a slice. Positions in pixels of the viewport are
(x, y) from its top left corner.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # without the viewer extra, the tests here are still collected
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 90_000
FLAGS = (
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)

#: SOP Instance UID and frame (1 for a single-frame instance) of a source plane.
Plane = tuple[str, int]

_GRID = '[data-cy="viewport-grid"]'
_SERIES = "s => services.displaySetService.getActiveDisplaySets().find(d => d.SeriesInstanceUID === s)"
_VIEWPORT = (
    "services.cornerstoneViewportService.getCornerstoneViewport("
    "services.viewportGridService.getActiveViewportId())"
)
#: Every label map image of a Segmentation that has a voxel, each with the source image it lies on.
_LABELMAP = """id => {
  const found = [];
  const {representationData} = cornerstoneTools.segmentation.state.getSegmentation(id);
  for (const imageId of representationData.Labelmap.imageIds) {
    const image = cornerstone.cache.getImage(imageId);
    const values = Uint8Array.from(image.voxelManager.getScalarData());
    if (!values.some(v => v)) continue;
    let text = '';
    for (let i = 0; i < values.length; i += 8192)
      text += String.fromCharCode(...values.subarray(i, i + 8192));
    found.push({on: image.referencedImageId, rows: image.rows, columns: image.columns, values: btoa(text)});
  }
  return found;
}"""
#: Polylines and straight lines, each as "x,y x,y ...".
_LINES = """layers => layers.flatMap(layer => [
  ...[...layer.querySelectorAll('polyline')].map(p => p.getAttribute('points') ?? ''),
  ...[...layer.querySelectorAll('line')]
    .map(l => ['x1', 'y1', 'x2', 'y2'].map(a => l.getAttribute(a)).join(' ')),
])"""
_CONTOURS = """() => {
  const names = {};
  for (const s of services.segmentationService.getSegmentations())
    for (const one of Object.values(s.segments)) names[`${s.segmentationId} ${one.segmentIndex}`] = one.label;
  return cornerstoneTools.annotation.state.getAllAnnotations().filter(a => a.data?.contour).map(a => ({
    name: names[`${a.data.segmentation.segmentationId} ${a.data.segmentation.segmentIndex}`],
    on: a.metadata.referencedImageId,
    points: a.data.contour.polyline.map(p => [...p]),
  }));
}"""
_CANVAS = """grid => {
  const canvas = document.querySelector(grid + ' canvas');
  const {data, width, height} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let text = '';
  for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
  return {width, height, values: btoa(text)};
}"""


class Viewer:
    """A study in the viewer; close it when done."""

    def __init__(self, browser: Browser, url: str, study_uid: str) -> None:
        self.errors: list[str] = []  #: of the page's console
        context = browser.new_context(service_workers="block", viewport={"width": 1400, "height": 900})
        # The tour for newcomers would lie over the page and eat the clicks.
        context.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        context.route(lambda address: not address.startswith((url, "data:", "blob:")), lambda r: r.abort())
        self._context = context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.goto(f"{url}/viewer?StudyInstanceUIDs={study_uid}")
        self._until(f"() => window.services && document.querySelector('{_GRID} canvas')")
        self._until(f"() => {_VIEWPORT}?.getCurrentImageId?.()")

    def close(self) -> None:
        """Leave the study."""
        self._context.close()

    def screenshot(self, path: Path) -> None:
        """Keep the whole page as a picture."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=path)

    def series(self, uid: str, what: str) -> Any:
        """Return a JavaScript expression's value, of ``d``, the display set of a series."""
        return self.page.evaluate(f"s => {{ const d = ({_SERIES})(s); return {what}; }}", uid)

    def open(self, series_uid: str) -> None:
        """Double-click the series in the list and wait until the viewer has come to rest."""
        self.click(series_uid)
        self._until(f"s => {{ const d = ({_SERIES})(s); return d.isLoaded && !d.loading; }}", series_uid)
        self.rest()

    def click(self, series_uid: str) -> None:
        """Double-click the series in the list."""
        self._until(f"s => !!({_SERIES})(s)", series_uid)
        thumbnail = self.series(series_uid, "d.displaySetInstanceUID")
        self.page.locator(f'[id="thumbnail-{thumbnail}"]').dblclick()

    def rest(self) -> None:
        """Wait until what the viewport says and draws has not changed for two seconds."""
        seen, same = None, 0
        for _ in range(PATIENCE_MS // 500):
            now = self.page.evaluate(f"() => document.querySelector('{_GRID}').innerHTML.length"), self.text()
            seen, same = now, same + 1 if now == seen else 0
            if same >= 4:
                return
            self.page.wait_for_timeout(500)
        raise AssertionError("the viewer does not come to rest")

    def text(self) -> str:
        """Return all that can be read in the viewport."""
        return self.page.locator(_GRID).inner_text().replace("\xa0", " ")

    def overlay(self) -> list[str]:
        """Return the lines written beside drawn measurements."""
        return self.page.locator(f"{_GRID} svg.svg-layer tspan").all_text_contents()

    def wait_for_lines(self, within_s: int = 15) -> None:
        """Wait until lines are written beside measurements; a blank report never has any."""
        for _ in range(2 * within_s):
            if self.overlay():
                self.rest()
                return
            self.page.wait_for_timeout(500)

    def drawn(self) -> list[NDArray[np.float64]]:
        """Return the lines drawn over the image, each (points, 2): pixels of the viewport."""
        texts = self.page.locator(f"{_GRID} svg.svg-layer").evaluate_all(_LINES)
        return [np.array(t.replace(",", " ").split(), dtype=np.float64).reshape(-1, 2) for t in texts]

    def next_measurement(self) -> None:
        """Press the arrow that turns to the next measurement of the report."""
        self.page.locator('[data-cy="viewport-action-arrows-right"]').click()
        self.rest()

    def shown_plane(self) -> Plane | None:
        """Return the source plane that the viewport shows, None when it shows no image."""
        image_id = self.page.evaluate(f"() => {_VIEWPORT}?.getCurrentImageId?.()")
        return _plane(image_id) if image_id else None

    def turn_to(self, plane: Plane) -> None:
        """Show one plane of the stack."""
        ids = self.page.evaluate(f"() => {_VIEWPORT}.getImageIds()")
        index = [_plane(i) for i in ids].index(plane)
        self.page.evaluate(f"async i => {{ await {_VIEWPORT}.setImageIdIndex(i); }}", index)
        self.rest()
        assert self.shown_plane() == plane

    def to_pixels(self, world_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where points (n, 3), LPS millimetres, lie in the viewport: (n, 2) pixels."""
        js = f"points => {{ const v = {_VIEWPORT}; return points.map(p => [...v.worldToCanvas(p)]); }}"
        return np.array(self.page.evaluate(js, world_mm.tolist()))

    def canvas(self) -> NDArray[np.uint8]:
        """Return the picture in the viewport, without what is written over it: (y, x, RGB)."""
        got = self.page.evaluate(_CANVAS, _GRID)
        values = np.frombuffer(base64.b64decode(got["values"]), np.uint8)
        return values.reshape(got["height"], got["width"], 4)[..., :3]

    def segments(self, seg_series_uid: str) -> dict[int, dict[Plane, NDArray[np.bool_]]]:
        """Return the voxels of every segment of an opened Segmentation, as the viewer keeps them.

        Segment number -> plane of the source -> (rows, columns); only planes with a voxel. Segments
        that overlap lie in several layers over the same plane.
        """
        segmentation = self.series(seg_series_uid, "d.displaySetInstanceUID")
        found: dict[int, dict[Plane, NDArray[np.bool_]]] = {}
        for image in self.page.evaluate(_LABELMAP, segmentation):
            values = np.frombuffer(base64.b64decode(image["values"]), np.uint8)
            labels = values.reshape(image["rows"], image["columns"])
            plane = _plane(image["on"])
            for number in np.unique(labels[labels > 0]).tolist():
                planes = found.setdefault(number, {})
                planes[plane] = planes.get(plane, False) | (labels == number)
        return found

    def contours(self) -> list[tuple[str, Plane, NDArray[np.float64]]]:
        """Return every contour of an opened structure set: its name, its plane, (points, 3) LPS mm."""
        return [
            (c["name"], _plane(c["on"]), np.array(c["points"], dtype=np.float64))
            for c in self.page.evaluate(_CONTOURS)
        ]

    def paths(self) -> int:
        """Return how many contours are drawn over the image."""
        return self.page.locator(f"{_GRID} svg.svg-layer path").count()

    def _until(self, condition: str, argument: Any = None) -> None:
        from playwright.sync_api import TimeoutError as TooLong

        try:
            self.page.wait_for_function(condition, arg=argument, polling=200)
        except TooLong as error:
            told = "\n".join(self.errors[-5:])
            raise AssertionError(f"the viewer never came so far: {condition}\n{told}") from error


def _plane(image_id: str) -> Plane:
    """``wadors:/dicom-web/studies/A/series/B/instances/C/frames/1`` -> (C, 1)."""
    words = image_id.split("/")
    return words[words.index("instances") + 1], int(words[words.index("frames") + 1])
