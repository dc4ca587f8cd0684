"""One study in dwv, a viewer with parsers of its own: what it makes of images and of results.

dwv is a library from npm; the page that loads it is here. Nothing listens on the network: the
browser's requests are answered from files. dwv is under the GPL: it is run, never distributed.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from tests.viewer import npm

if TYPE_CHECKING:  # without the viewer extra, the tests here are still collected
    from playwright.sync_api import Browser, Route

VERSION = "0.36.4"
#: npm package -> version, SHA-256 of its tarball, the folder or file of it that a page asks for.
PACKAGES: Mapping[str, tuple[str, str, str]] = {
    "dwv": (VERSION, "d0cd4812de511001e3687d5b76a378feaaf1924d1da9a58933f54d96cfb21506", "dist"),
    "jszip": (
        "3.10.1",
        "5117f4a2a645aeb307bf3b829c575ad58135cc97e75291e594532ab5b5b21b23",
        "dist/jszip.min.js",
    ),
    "konva": (
        "10.2.0",
        "b4d427671daa8e285d69424c9ea4e48dcce1dac2fc94c31fc48ab22547a56322",
        "konva.min.js",
    ),
    "magic-wand-tool": (
        "1.1.7",
        "b599d24442710a866fbc3ff563e7c59f3e8ba3e944bfac8e5520565c411e1741",
        "dist/magic-wand.min.js",
    ),
}
PATIENCE_MS = 60_000
#: Never resolved, because every request is answered here; a secure context, as a browser calls it.
_ORIGIN = "https://dwv.invalid"
_PAGE = """<!doctype html><meta charset="utf-8"><title>dwv</title>
<style>body { margin: 0; background: #000 } #here { position: relative; width: 900px; height: 900px }
.layer { position: absolute }</style>
<script src="/jszip.js"></script><script src="/konva.js"></script><script src="/magic-wand-tool.js"></script>
<script type="importmap">{"imports": {
  "jszip": "data:text/javascript,export default window.JSZip",
  "konva": "data:text/javascript,export default window.Konva",
  "magic-wand-tool": "data:text/javascript,export default window.MagicWand"}}</script>
<div id="here"></div>
<script type="module">
import * as dwv from '/dwv/dwv.min.js';
const app = new dwv.App();
const options = new dwv.AppOptions({'*': [new dwv.ViewConfig('here')]});
app.init(options);
const told = {};  // data id -> complaints
const ended = {};  // data id -> what to call when its loading has ended
for (const kind of ['error', 'abort', 'timeout'])
  app.addEventListener(kind, e => (told[e.dataid] ??= []).push(String(e.error?.message ?? kind)));
app.addEventListener('loadend', e => ended[e.dataid]?.(e.dataid));
window.app = app;
window.dwv = dwv;
window.load = urls => new Promise(done => {
  const id = app.loadURLs(urls);
  ended[id] = done;
  setTimeout(() => { (told[id] ??= []).push('it never ends loading'); done(id); }, 10000);
});
window.told = id => [...(told[id] ?? [])];
window.ready = true;
</script>"""
_MASK = """id => {
  const image = app.getData(id)?.image;
  if (!image) return null;
  const size = image.getGeometry().getSize();
  const buffer = Uint8Array.from(image.getBuffer());
  let text = '';
  for (let i = 0; i < buffer.length; i += 8192) text += String.fromCharCode(...buffer.subarray(i, i + 8192));
  return {
    shape: [size.get(2), size.get(1), size.get(0)],
    origins: image.getGeometry().getOrigins().map(p => [p.getX(), p.getY(), p.getZ()]),
    values: btoa(text),
  };
}"""
_VALUES = """id => {
  const buffer = app.getData(id)?.image?.getBuffer();
  if (!buffer) return '';
  const bytes = new Uint8Array(Float32Array.from(buffer).buffer);
  let text = '';
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}"""
_ANNOTATIONS = """id => (app.getData(id)?.annotationGroup?.getList() ?? []).map(a => ({
  tracking: a.trackingUid,
  label: a.trackingId,
  instance: a.referencedSopInstanceUID,
  frame: a.referencedFrameNumber ?? 1,
  numbers: a.quantification ?? {},
  centre: (c => c && [c.getX(), c.getY()])(a.mathShape?.getCentroid?.()),
  points: (m => m.getPoints?.() ?? m.getPointArray?.() ?? (m.getBegin ? [m.getBegin(), m.getEnd()] : []))(
    a.mathShape ?? {}).map(p => [p.getX(), p.getY()]),
}))"""

_SHOW = """([id, position]) => {
  const config = new dwv.ViewConfig('here');
  config.opacity = 0.5;
  if (!app.getViewConfig(id, 'here', true)) app.addDataViewConfig(id, config);
  const group = app.getActiveLayerGroup();
  group.getBaseViewLayer().getViewController().setCurrentPosition(new dwv.Point(position));
  return group.getNumberOfLayers();
}"""
_DRAWS = """id => app.getDrawLayersByDataId(id).flatMap(layer => {
  const shown = layer.getKonvaLayer().getChildren(g => g.isVisible());
  return shown.flatMap(g => g.getChildren?.(c => c.isVisible()) ?? []);
}).length"""


def fetch(cache: Path) -> dict[str, Path]:
    """Return what the page asks for: name -> folder or file, downloaded the first time.

    Raises
    ------
    npm.NotFetched
        npm is missing or cannot reach its registry.
    """
    return {
        name: npm.fetch(cache, name, version, digest, wanted=lambda file: not file.endswith(".map")) / inside
        for name, (version, digest, inside) in PACKAGES.items()
    }


class Dwv:
    """An empty page of dwv; close it when done."""

    def __init__(self, browser: Browser, packages: Mapping[str, Path]) -> None:
        self.errors: list[str] = []  #: of the page's console
        self._packages, self._files = packages, dict[str, Path]()
        self._context = browser.new_context(service_workers="block", viewport={"width": 900, "height": 900})
        self._context.route("**", self._answer)
        self.page = self._context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.errors.append(m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.goto(f"{_ORIGIN}/")
        self.page.wait_for_function("() => window.ready")

    def close(self) -> None:
        self._context.close()

    def load(self, files: Sequence[Path]) -> tuple[str, list[str]]:
        """Load the files of one series; return what dwv calls the data, and what it complained of."""
        urls = [f"{_ORIGIN}/dicom/{len(self._files) + n}.dcm" for n in range(len(files))]
        self._files.update({urlsplit(url).path: file for url, file in zip(urls, files, strict=True)})
        before = len(self.errors)
        data = self.page.evaluate("urls => window.load(urls)", urls)
        told = self.page.evaluate("id => window.told(id)", data)
        return data, [*told, *self.errors[before:]]

    def mask(self, data: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]] | None:
        """Return the values of loaded pixels, and where their planes lie.

        (planes, rows, columns) uint8, and (planes, 3) LPS mm of the first pixel of each; None where
        there are none.
        """
        got: dict[str, Any] | None = self.page.evaluate(_MASK, data)
        if got is None:
            return None
        values = np.frombuffer(base64.b64decode(got["values"]), np.uint8)
        return values.reshape(got["shape"]), np.array(got["origins"], dtype=np.float64)

    def values(self, data: str) -> NDArray[np.float32]:
        """Return all values of loaded pixels as they lie in memory; none where there are none."""
        return np.frombuffer(base64.b64decode(self.page.evaluate(_VALUES, data)), np.float32)

    def annotations(self, data: str) -> list[dict[str, Any]]:
        """Return every annotation of loaded data; its points are (column, row) in pixels of DICOM."""
        return list(self.page.evaluate(_ANNOTATIONS, data))

    def show(self, data: str, at_mm: NDArray[np.float64]) -> int:
        """Draw loaded data over the image, turn to a position, and return how many layers there are."""
        return int(self.page.evaluate(_SHOW, [data, at_mm.tolist()]))

    def draws(self, data: str) -> int:
        """Return how many annotations of shown data are on the plane that is shown."""
        return int(self.page.evaluate(_DRAWS, data))

    def screenshot(self, path: Path) -> None:
        """Keep what is seen as a picture."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(500)  # two frames of a browser that draws without a graphics card
        self.page.screenshot(path=path)

    def _answer(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        name, _, rest = path.strip("/").partition("/")
        if path == "/":
            route.fulfill(content_type="text/html", body=_PAGE)
        elif path in self._files:
            route.fulfill(content_type="application/dicom", body=self._files[path].read_bytes())
        elif (package := name.removesuffix(".js")) in self._packages:
            file = self._packages[package] / rest if rest else self._packages[package]
            kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
            route.fulfill(content_type=kind, body=file.read_bytes())
        else:
            route.abort()
