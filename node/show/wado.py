"""WADO-RS: instances, those of a series or those of a study (PS3.18 10.4.1.1.1).

Without a word on the transfer syntax they are given as they came; so with ``transfer-syntax=*``. Explicit VR
Little Endian is made of what can be decoded, elsewhere. What cannot be given as asked is left out with
206, or 406 where that is all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from node.journal import Holding
from node.show.media import DICOM, RELATED, Offer, liked, wanted
from node.show.multipart import Part, related
from node.show.origin import Lease, Origin, origin_of
from node.show.resource import DICOM_WEB, Problem, Resource, here

#: The one transfer syntax into which others are turned.
EXPLICIT: Final = "1.2.840.10008.1.2.1"
AS_STORED: Final = ("", "*")
CHUNK_BYTES: Final = 1 << 18

_PARTS: Final = Offer(RELATED, DICOM)
_ALONE: Final = Offer(DICOM)


def retrieve(request: Request) -> Response:
    """Answer ``/studies/{study}``, ``.../series/{series}`` and ``.../instances/{instance}``."""
    origin, path = origin_of(request), request.path_params
    lease = origin.lease(path["study"])
    holdings = origin.holdings(path["study"], path.get("series", ""), path.get("instance", ""))
    offers = (_PARTS, _ALONE) if "instance" in path else (_PARTS,)
    offer, syntax, fit = _chosen(request, offers, holdings, origin)
    if offer is _ALONE:
        return _alone(fit[0], syntax, origin, lease)
    status = 200 if len(fit) == len(holdings) else 206
    return related(_parts(fit, syntax, origin, lease, here(request, "")), DICOM, status=status)


def _chosen(
    request: Request, offers: Sequence[Offer], holdings: Sequence[Holding], origin: Origin
) -> tuple[Offer, str, list[Holding]]:
    """Return the media type, the transfer syntax and the instances that can be given so."""
    for offer, syntax in liked(wanted(request), offers):
        fit = [one for one in holdings if _can(one, syntax, origin)]
        if fit:
            return offer, syntax, fit
    stored = sorted({one.transfer_syntax_uid for one in holdings})
    raise Problem(
        406,
        f"These are given as {' or '.join(map(str, offers))}, in the transfer syntax in which they came "
        f"({', '.join(stored)}), or in {EXPLICIT} where the pixels can be decoded.",
    )


def _can(holding: Holding, syntax: str, origin: Origin) -> bool:
    stored = holding.transfer_syntax_uid
    return syntax in (*AS_STORED, stored) or (syntax == EXPLICIT and origin.can_decode(stored))


def _alone(holding: Holding, syntax: str, origin: Origin, lease: Lease) -> Response:
    first = _content(holding, syntax, origin, lease)
    begin = next(first, b"")  # what cannot be decoded is known before anything is said
    kind = f"{DICOM}; transfer-syntax={_given(holding, syntax)}"
    return StreamingResponse(_from(begin, first), media_type=kind)


def _parts(
    holdings: Sequence[Holding], syntax: str, origin: Origin, lease: Lease, base: str
) -> Iterator[Part]:
    for one in holdings:
        yield Part(
            media_type=DICOM,
            transfer_syntax=_given(one, syntax),
            body=_content(one, syntax, origin, lease),
            location=base + path_of(one),
        )


def _given(holding: Holding, syntax: str) -> str:
    return holding.transfer_syntax_uid if syntax in AS_STORED else syntax


def _content(holding: Holding, syntax: str, origin: Origin, _lease: Lease) -> Iterator[bytes]:
    """Yield the Part 10 file of an instance; in the end its study is still leased."""
    if _given(holding, syntax) == holding.transfer_syntax_uid:
        with holding.path.open("rb") as file:
            yield from chunks(file)
        return
    with origin.developed("dataset", holding) as made, made.file("object") as file:
        yield from chunks(file)


def chunks(file: BinaryIO, length: int | None = None) -> Iterator[bytes]:
    """Yield what is left of a file, or so many bytes of it.

    Raises
    ------
    EOFError
        It ends too early.
    """
    while length is None or length > 0:
        data = file.read(CHUNK_BYTES if length is None else min(CHUNK_BYTES, length))
        if not data:
            if length is None:
                return
            raise EOFError("the file ends too early")
        length = None if length is None else length - len(data)
        yield data


def _from(begin: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield begin
    yield from rest


def path_of(holding: Holding) -> str:
    """Return the path of an instance."""
    return (
        f"{DICOM_WEB}/studies/{holding.study_uid}/series/{holding.series_uid}"
        f"/instances/{holding.sop_instance_uid}"
    )


STUDY, SERIES = (
    f"{DICOM_WEB}/studies/{{study:uid}}",
    f"{DICOM_WEB}/studies/{{study:uid}}/series/{{series:uid}}",
)
INSTANCE: Final = f"{SERIES}/instances/{{instance:uid}}"

RESOURCES: Final = tuple(
    Resource(path=path, method="GET", name=f"Retrieve{name}", endpoint=retrieve, gives=gives)
    for path, name, gives in (
        (STUDY, "Study", (str(_PARTS),)),
        (SERIES, "Series", (str(_PARTS),)),
        (INSTANCE, "Instance", (str(_PARTS), str(_ALONE))),
    )
)
