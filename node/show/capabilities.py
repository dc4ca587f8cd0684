"""What is served, told by itself: WADL and JSON (PS3.18 8.9), generated from the table of resources."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from node import __version__
from node.errors import JournalUnavailable
from node.show.media import Offer, choose, wanted
from node.show.resource import Resource, here, shown_by

WADL = "application/vnd.sun.wadl+xml"
_WADL_NAMESPACE = "http://wadl.dev.java.net/2009/02"


def capabilities(request: Request, resources: Sequence[Resource]) -> Response:
    """Answer OPTIONS: Retrieve Capabilities (PS3.18 8.9), of these resources."""
    methods = sorted({"OPTIONS", *(method for one in resources for method in _methods(one))})
    headers = {"Allow": ", ".join(methods)} if len({one.path for one in resources}) == 1 else {}
    chosen = choose(wanted(request), [Offer(WADL), Offer("application/xml"), Offer("application/json")])
    if chosen.kind == "application/json":
        return JSONResponse(as_json(resources), headers=headers)
    return Response(as_wadl(resources, here(request, "/")), headers=headers, media_type=chosen.kind)


def as_wadl(resources: Sequence[Resource], base: str) -> bytes:
    """Return a WADL document (W3C submission of 2009) that lists exactly these resources."""
    ElementTree.register_namespace("", _WADL_NAMESPACE)
    root = _element(None, "application")
    within = _element(root, "resources", base=base)
    for path, methods in by_path(resources).items():
        resource = _element(within, "resource", path=methods[0].template.lstrip("/"))
        for name in _variables(methods[0].template):
            _element(resource, "param", name=name, style="template", required="true")
        for one in methods:
            for verb in _methods(one):
                _method(resource, one, verb)
        _element(_element(resource, "method", name="OPTIONS", id=f"RetrieveCapabilities {path}"), "response")
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def as_json(resources: Sequence[Resource]) -> dict[str, Any]:
    """Return the same for people who do not read WADL."""
    return {
        "resources": [
            {
                "path": one.template,
                "method": one.method,
                "transaction": one.name,
                "gives": list(one.gives),
                "takes": list(one.takes),
                "query": dict(one.query),
            }
            for one in resources
        ]
    }


def by_path(resources: Sequence[Resource]) -> Mapping[str, list[Resource]]:
    """Return the resources of each path, in the order of the table."""
    found: dict[str, list[Resource]] = {}
    for one in resources:
        found.setdefault(one.path, []).append(one)
    return found


def front_page(_request: Request) -> Response:
    """Say to people what this is."""
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>radnode</title>"
        f"<h1>radnode {html.escape(__version__)}</h1>"
        "<p>A DICOM analysis node. Research software: results are not for diagnosis.</p>"
        "<p>DICOMweb is at <code>/dicom-web</code>; OPTIONS tells what is served there. "
        "<a href=/healthz>/healthz</a> tells how the node is.</p></html>"
    )
    return HTMLResponse(text)


def health(request: Request) -> Response:
    """Say whether the node can take and give, without a word about patients; 503 when it cannot."""
    shown = shown_by(request)
    try:
        shown.journal.series("0")
        journal = True
    except JournalUnavailable:
        journal = False
    disk = shown.spare_bytes() > 0
    told = {"ready": journal and disk, "version": __version__, "journal": journal, "disk": disk}
    return JSONResponse(told, status_code=200 if told["ready"] else 503)


def _methods(one: Resource) -> tuple[str, ...]:
    return ("GET", "HEAD") if one.method == "GET" else (one.method,)


def _method(resource: ElementTree.Element, one: Resource, verb: str) -> None:
    method = _element(resource, "method", name=verb, id=f"{one.name} {verb} {one.template}")
    asked = _element(method, "request")
    for name, meaning in one.query:
        param = _element(asked, "param", name=name, style="query")
        _element(param, "doc").text = meaning
    for kind in one.takes:
        _element(asked, "representation", mediaType=kind)
    answered = _element(method, "response")
    for kind in one.gives:
        _element(answered, "representation", mediaType=kind)


def _variables(template: str) -> list[str]:
    return [piece[1:-1] for piece in template.split("/") if piece.startswith("{")]


def _element(parent: ElementTree.Element | None, tag: str, /, **attributes: str) -> ElementTree.Element:
    tag = f"{{{_WADL_NAMESPACE}}}{tag}"
    if parent is None:
        return ElementTree.Element(tag, attributes)
    return ElementTree.SubElement(parent, tag, attributes)
