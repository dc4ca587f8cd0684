"""WADO-RS: pixel data, frame by frame (PS3.18 10.4.1.1.6).

Compressed frames are given as they came, each in its own media type, or decoded, which is done elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydicom.encaps import generate_frames
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from node.header import Parsed, PixelElement, parse
from node.header.value import PARSE_ERRORS, integer_of, text_of
from node.journal import Holding
from node.show.media import OCTETS, RELATED, Offer, liked, wanted
from node.show.multipart import Part, related
from node.show.origin import Lease, Origin, origin_of
from node.show.resource import Problem, Resource, here
from node.show.wado import AS_STORED, EXPLICIT, INSTANCE, chunks, path_of
from pipelines.contract import InputRefused

#: Transfer syntax -> media type of its frames (PS3.18 Tables 8.7.3-4 and 8.7.3-5).
MEDIA_TYPES: Final = {
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 53, 55, 57, 70)), "image/jpeg"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (80, 81)), "image/jls"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (90, 91)), "image/jp2"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (92, 93)), "image/jpx"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (201, 202, 203)), "image/jphc"),
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_MOST_FRAMES: Final = 10_000
_MOST_AT_ONCE: Final = 64  #: frames that are decoded by one call


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Where the frames of an instance are, and how long."""

    element: PixelElement
    frames: int
    frame_bits: int  #: of a native frame
    is_plain: bool  #: native, little endian, not deflated: bytes of the file are bytes of the answer

    @property
    def is_compressed(self) -> bool:
        """Whether frames are encapsulated (PS3.5 A.4)."""
        return self.element.length is None


def format_of(parsed: Parsed, holding: Holding) -> Format:
    """Return where the frames of an instance are.

    Raises
    ------
    Problem
        404: it has none.
    """
    ds, element = parsed.dataset, parsed.pixels
    if element is None:
        raise Problem(404, "This instance has no pixel data.")
    samples = integer_of(ds, "SamplesPerPixel") or 1
    if text_of(ds, "PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2 if element.length is not None else samples
    pixels = (integer_of(ds, "Rows") or 0) * (integer_of(ds, "Columns") or 0)
    return Format(
        element=element,
        frames=max(1, integer_of(ds, "NumberOfFrames") or 1),
        frame_bits=pixels * samples * (integer_of(ds, "BitsAllocated") or 0),
        is_plain=element.length is not None
        and element.deflated_at is None
        and holding.transfer_syntax_uid != _BIG_ENDIAN,
    )


def retrieve_frames(request: Request) -> Response:
    """Answer ``.../frames/{list}``."""
    origin, path = origin_of(request), request.path_params
    if not re.fullmatch(r"[0-9]{1,9}(,[0-9]{1,9})*", path["frames"]):
        raise Problem(400, "Frames are asked for by their numbers, with commas between them.")
    numbers = [int(one) for one in path["frames"].split(",")]
    if len(numbers) > _MOST_FRAMES:
        raise Problem(413, f"At most {_MOST_FRAMES} frames are given at once.")
    lease = origin.lease(path["study"])
    (holding, *_) = origin.holdings(path["study"], path["series"], path["instance"])
    try:
        format_ = format_of(parse(holding.path), holding)
    except InputRefused as refusal:
        raise Problem(406, refusal.sentence) from refusal
    if not all(1 <= number <= format_.frames for number in numbers):
        raise Problem(404, f"This instance has the frames 1 to {format_.frames}.")
    return _answer(request, holding, format_, [number - 1 for number in numbers], origin, lease)


def all_frames(request: Request, holding: Holding, format_: Format, origin: Origin, lease: Lease) -> Response:
    """Return the pixel data of an instance as bulk data: native in one part, else a part per frame."""
    if not format_.is_plain:
        return _answer(request, holding, format_, range(format_.frames), origin, lease)
    offers = (Offer(RELATED, OCTETS), Offer(OCTETS))
    offer = next(
        (o for o, syntax in liked(wanted(request), offers) if syntax in (*AS_STORED, EXPLICIT)), None
    )
    if offer is None:
        raise Problem(406, "The pixel data of this instance are given as application/octet-stream.")
    body = _whole(holding, format_.element, lease)
    if offer.kind == OCTETS:
        return StreamingResponse(body, media_type=OCTETS)
    return related([Part(media_type=OCTETS, transfer_syntax=EXPLICIT, body=body)], OCTETS)


def _whole(holding: Holding, element: PixelElement, _lease: Lease) -> Iterator[bytes]:
    with holding.path.open("rb") as file:
        file.seek(element.offset)
        yield from chunks(file, element.length)


def _answer(
    request: Request, holding: Holding, format_: Format, indices: Sequence[int], origin: Origin, lease: Lease
) -> Response:
    stored = holding.transfer_syntax_uid
    image = MEDIA_TYPES.get(stored, OCTETS) if format_.is_compressed else OCTETS
    offers = [Offer(RELATED, image), Offer(RELATED, OCTETS)]
    if len(indices) == 1:
        offers += [Offer(image), Offer(OCTETS)]
    for offer, syntax in liked(wanted(request), list(dict.fromkeys(offers))):
        kind = offer.part or offer.kind
        as_stored = format_.is_compressed and (
            syntax in ("*", stored) or (kind == image != OCTETS and syntax == "")
        )
        if as_stored:
            frames, given = _encapsulated(holding, format_, indices, lease), (image, stored)
        elif syntax in (*AS_STORED, EXPLICIT) and kind == OCTETS:
            if not format_.is_plain and not origin.can_decode(stored):
                continue
            frames, given = _decoded(holding, format_, indices, origin, lease), (OCTETS, EXPLICIT)
        else:
            continue
        first = next(frames)  # what cannot be decoded is known before anything is said
        if offer.kind == RELATED:
            return related(_parts(first, frames, given, indices, here(request, path_of(holding))), given[0])
        return Response(first, media_type="; transfer-syntax=".join(given))
    decoded = f", or decoded as {OCTETS}" if origin.can_decode(stored) else ""
    raise Problem(406, f"These frames are given as {image} in the transfer syntax {stored}{decoded}.")


def _parts(
    first: bytes, rest: Iterator[bytes], given: tuple[str, str], indices: Sequence[int], at: str
) -> Iterator[Part]:
    for number, index in enumerate(indices):
        yield Part(
            media_type=given[0],
            transfer_syntax=given[1],
            body=next(rest) if number else first,
            location=f"{at}/frames/{index + 1}",
        )


def _encapsulated(
    holding: Holding, format_: Format, indices: Sequence[int], _lease: Lease
) -> Iterator[bytes]:
    """Yield compressed frames, in the order asked for; one is in memory at a time."""
    with holding.path.open("rb") as file:
        at, frames = 0, _from_first(file, format_)
        for index in indices:
            if index < at:
                at, frames = 0, _from_first(file, format_)
            try:
                while at < index:
                    next(frames)
                    at += 1
                data = next(frames)
            except (*PARSE_ERRORS, StopIteration) as error:
                raise Problem(406, "The compressed frames of this instance cannot be told apart.") from error
            at += 1
            yield data


def _from_first(file: BinaryIO, format_: Format) -> Iterator[bytes]:
    file.seek(format_.element.offset)
    return generate_frames(file, number_of_frames=format_.frames)


def _decoded(
    holding: Holding, format_: Format, indices: Sequence[int], origin: Origin, _lease: Lease
) -> Iterator[bytes]:
    """Yield native little endian frames, in the order asked for."""
    if format_.is_plain:
        with holding.path.open("rb") as file:
            for index in indices:
                yield _native(file.fileno(), format_, index)
        return
    for start in range(0, len(indices), _MOST_AT_ONCE):
        some = list(indices[start : start + _MOST_AT_ONCE])
        with origin.developed("frames", holding, frames=some) as made:
            for index in some:
                with made.file(str(index)) as file:
                    yield b"".join(chunks(file))


def _native(descriptor: int, format_: Format, index: int) -> bytes:
    """Return a frame; where pixels are single bits it may begin within a byte (PS3.5 8.1.1)."""
    begin, end = index * format_.frame_bits, (index + 1) * format_.frame_bits
    length = -(-end // 8) - begin // 8
    if not length or (format_.element.length or 0) < -(-end // 8):
        raise Problem(406, "The pixel data of this instance are shorter than its header announces.")
    data = os.pread(descriptor, length, format_.element.offset + begin // 8)
    if len(data) != length:
        raise Problem(406, "The file of this instance ends too early.")
    if begin % 8 or end % 8:
        bits = int.from_bytes(data, "little") >> begin % 8 & ((1 << format_.frame_bits) - 1)
        data = bits.to_bytes(-(-format_.frame_bits // 8), "little")
    return data


RESOURCES: Final = (
    Resource(
        path=f"{INSTANCE}/frames/{{frames}}",
        method="GET",
        name="RetrieveFrames",
        endpoint=retrieve_frames,
        gives=(
            f'{RELATED}; type="{OCTETS}"',
            *(f'{RELATED}; type="{kind}"' for kind in dict.fromkeys(MEDIA_TYPES.values())),
            OCTETS,
        ),
    ),
)
