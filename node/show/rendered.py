"""WADO-RS: pictures that any browser shows (PS3.18 10.4.1.1.3 and .4).

They are made elsewhere, from what the header says of grey values and colours. A document (PDF) is given as
it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isfinite
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from node.header import parse
from node.header.value import integer_of, value_of
from node.journal import Holding
from node.show.frames import format_of
from node.show.media import Offer, choose, wanted
from node.show.origin import Origin, origin_of
from node.show.resource import Problem, Resource
from node.show.wado import INSTANCE, SERIES, STUDY
from pipelines.contract import InputRefused

_KINDS: Final = {"image/jpeg": "JPEG", "image/png": "PNG"}
_PDF: Final = "application/pdf"
_ENCAPSULATED_PDF: Final = "1.2.840.10008.5.1.4.1.1.104.1"
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_LARGEST_PX: Final = 8192
_FARTHEST: Final = 1e9  #: no centre and no width of a window is larger
_THUMBNAIL_PX: Final = 200
_QUALITY: Final = 90
_ANNOTATIONS: Final = frozenset({"patient", "technique"})
_WHOLE_NUMBER: Final = re.compile("[0-9]{1,5}")


def rendered(request: Request) -> Response:
    """Answer ``.../rendered`` of an instance or of one of its frames."""
    origin, path = origin_of(request), request.path_params
    _lease = origin.lease(path["study"])
    (holding, *_) = origin.holdings(path["study"], path["series"], path["instance"])
    if holding.sop_class_uid == _ENCAPSULATED_PDF and "frame" not in path:
        choose(wanted(request), [Offer(_PDF)])
        return Response(_document(holding), media_type=_PDF)
    return _picture(request, origin, holding, _viewport(request.query_params.get("viewport", "")))


def thumbnail(request: Request) -> Response:
    """Answer ``.../thumbnail`` of a study, a series, an instance or a frame."""
    origin, path = origin_of(request), request.path_params
    _lease = origin.lease(path["study"])
    holdings = origin.holdings(path["study"], path.get("series", ""), path.get("instance", ""))
    viewport = _viewport(request.query_params.get("viewport", ""))
    viewport = viewport or (_THUMBNAIL_PX, _THUMBNAIL_PX, 0, 0, 0, 0)
    trouble = Problem(406, "There is no image among these.")
    for holding in _likely(holdings):
        try:
            return _picture(request, origin, holding, viewport)
        except Problem as problem:
            if problem.status not in (404, 406):
                raise
            trouble = problem
    raise trouble


def _likely(holdings: list[Holding]) -> Iterator[Holding]:
    """Yield what is worth trying: the middle of each series, what came before what was made."""
    by_series: dict[str, list[Holding]] = {}
    for one in holdings:
        by_series.setdefault(one.series_uid, []).append(one)
    for members in list(by_series.values())[:8]:
        yield members[len(members) // 2]


def _picture(
    request: Request, origin: Origin, holding: Holding, viewport: tuple[float, ...] | None
) -> Response:
    offer = choose(wanted(request), [Offer(kind) for kind in _KINDS])
    query = request.query_params
    unknown = set(filter(None, query.get("annotation", "").split(","))) - _ANNOTATIONS
    if unknown:
        raise Problem(400, "annotation is to be patient, technique, or both with a comma between them.")
    try:
        parsed = parse(holding.path)
    except InputRefused as refusal:
        raise Problem(406, refusal.sentence) from refusal
    frames = format_of(parsed, holding).frames
    number = request.path_params.get("frame")
    if number is None:
        number = integer_of(parsed.dataset, "RepresentativeFrameNumber") or 1
    elif not 1 <= number <= frames:
        raise Problem(404, f"This instance has the frames 1 to {frames}.")
    payload = {
        "frame": min(number, frames) - 1,
        "kind": _KINDS[offer.kind],
        "quality": _quality(query.get("quality", "")),
        "window": _window(query.get("window", "")),
        "viewport": viewport,
    }
    with origin.developed("picture", holding, **payload) as made, made.file("picture") as file:
        return Response(file.read(), media_type=offer.kind)


def _document(holding: Holding) -> bytes:
    try:
        value = value_of(parse(holding.path).dataset, "EncapsulatedDocument")
    except InputRefused as refusal:
        raise Problem(406, refusal.sentence) from refusal
    if not isinstance(value, bytes):
        raise Problem(406, "This instance holds no document.")
    return value


def _quality(text: str) -> int:
    if not text:
        return _QUALITY
    if not _WHOLE_NUMBER.fullmatch(text) or not 1 <= int(text) <= 100:
        raise Problem(400, "quality is to be a whole number from 1 to 100.")
    return int(text)


def _window(text: str) -> tuple[float, float, str] | None:
    """Return centre, width and function; None: as the header says (PS3.18 8.3.5.1.4)."""
    if not text:
        return None
    centre, width, function, *more = [*text.split(","), "linear", ""][: max(3, text.count(",") + 1)]
    numbers = _number(centre), _number(width)
    known = _FUNCTIONS.get(function.lower())
    if more or known is None or None in numbers:
        raise Problem(400, "window is to be centre, width and linear, linear-exact or sigmoid.")
    at, wide = numbers[0] or 0.0, numbers[1] or 0.0
    if abs(at) > _FARTHEST or not (1 if known == "LINEAR" else 1 / _FARTHEST) <= wide <= _FARTHEST:
        raise Problem(400, "No image has such a window; a linear one is at least 1 wide.")
    return at, wide, known


def _viewport(text: str) -> tuple[float, ...] | None:
    """Return width and height, and the part that is wanted of the image; None: as it is (8.3.5.1.3)."""
    if not text:
        return None
    pieces = text.split(",")
    numbers = [_number(one or "0") for one in pieces] + [0.0] * (6 - len(pieces))
    whole = [number for number in numbers if number is not None and abs(number) <= 1e6]
    is_good = len(pieces) in (2, 6) and len(whole) == 6 and min(whole[2:4]) >= 0
    if not is_good or not all(1 <= size <= _LARGEST_PX for size in whole[:2]):
        raise Problem(
            400,
            f"viewport is to be a width and a height of 1 to {_LARGEST_PX} pixels; four numbers may follow: "
            "left, top, width and height of the part that is wanted.",
        )
    return tuple(whole)


def _number(text: str) -> float | None:
    if len(text) > 32 or not re.fullmatch(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]{1,3})?", text):
        return None
    return float(text) if isfinite(float(text)) else None


_QUERY: Final = (
    ("window", "centre, width and function"),
    ("viewport", "width and height to fit in, and the part that is wanted"),
    ("quality", "of a JPEG, 1 to 100"),
    ("annotation", "is not burnt in"),
)
_FRAME: Final = f"{INSTANCE}/frames/{{frame:number}}"

RESOURCES: Final = (
    *(
        Resource(
            path=f"{path}/rendered",
            method="GET",
            name=f"RetrieveRendered{name}",
            endpoint=rendered,
            gives=(*_KINDS, *more),
            query=_QUERY,
        )
        for path, name, more in ((INSTANCE, "Instance", (_PDF,)), (_FRAME, "Frames", ()))
    ),
    *(
        Resource(
            path=f"{path}/thumbnail",
            method="GET",
            name=f"Retrieve{name}Thumbnail",
            endpoint=thumbnail,
            gives=tuple(_KINDS),
            query=_QUERY[1:2],
        )
        for path, name in ((STUDY, "Study"), (SERIES, "Series"), (INSTANCE, "Instance"), (_FRAME, "Frames"))
    ),
)
