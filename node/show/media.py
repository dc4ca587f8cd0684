"""Which media type is wanted: Accept, and what PS3.18 8.7 makes of it.

What a resource can give are `Offer`s, best first; `choose` picks the one that the caller likes best.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from starlette.requests import Request

from node.show.resource import Problem

DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
DICOM = "application/dicom"
OCTETS = "application/octet-stream"
RELATED = "multipart/related"

#: PS3.18 8.7.3: what is meant where no transfer syntax is asked for.
DEFAULT_SYNTAX = {
    DICOM: "1.2.840.10008.1.2.1",
    OCTETS: "1.2.840.10008.1.2.1",
    "image/jpeg": "1.2.840.10008.1.2.4.70",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
    "image/jls": "1.2.840.10008.1.2.4.80",
    "image/jp2": "1.2.840.10008.1.2.4.90",
    "image/jpx": "1.2.840.10008.1.2.4.92",
    "image/jphc": "1.2.840.10008.1.2.4.203",
}

_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_MAX_RANGES = 100
_MAX_CHARACTERS = 8192


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range with its parameters, names in lower case, values without quotes."""

    kind: str  #: "multipart/related", "*/*"
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """The media type of the parts; "" where none is told."""
        return self.parameters.get("type", "").lower()

    @property
    def transfer_syntax(self) -> str:
        """The transfer syntax asked for: a UID, "*", or ""."""
        return self.parameters.get("transfer-syntax", "")

    @property
    def quality(self) -> float:
        """How much it is liked, 0 to 1 (RFC 9110 12.4.2); what cannot be read is 1."""
        q = self.parameters.get("q", "")
        return float(q) if _QUALITY.fullmatch(q) else 1.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One way in which a resource can be given."""

    kind: str  #: "application/dicom+json", or "multipart/related"
    part: str = ""  #: media type of the parts of a multipart
    transfer_syntax: str = ""  #: UID, where pixels or data sets are given

    def __str__(self) -> str:
        text = self.kind
        if self.part:
            text += f'; type="{self.part}"'
        if self.transfer_syntax:
            text += f"; transfer-syntax={self.transfer_syntax}"
        return text


def parse(text: str) -> MediaType:
    """Take one media type apart (RFC 9110 8.3.1). What is no parameter is passed over."""
    kind, *pieces = _split(text, ";")
    parameters: dict[str, str] = {}
    for piece in pieces:
        name, _, value = piece.partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1].replace('\\"', '"')
        parameters.setdefault(name.strip().lower(), value)
    return MediaType(kind.strip().lower(), parameters)


def wanted(request: Request) -> list[MediaType]:
    """Return the media ranges that the caller likes, best first: those of ``?accept=``, then those of Accept.

    Raises
    ------
    Problem
        400: more than anybody needs.
    """
    lists = [*request.query_params.getlist("accept"), *request.headers.getlist("accept")]
    if sum(map(len, lists)) > _MAX_CHARACTERS:
        raise Problem(400, "Accept is too long.")
    ranges: list[MediaType] = []
    for text in lists:
        those = [parse(one) for one in _split(text, ",") if one.strip()]
        ranges += sorted(those, key=lambda one: (-one.quality, one.kind.count("*")))
    if len(ranges) > _MAX_RANGES:
        raise Problem(400, "Accept lists too many media types.")
    return ranges


def choose(ranges: Sequence[MediaType], offers: Sequence[Offer]) -> Offer:
    """Return the offer that is liked best; among equals, the first offer.

    Raises
    ------
    Problem
        406, with a list of what there is (PS3.18 8.7.8).
    """
    unwanted = [one for one in ranges if one.quality == 0]
    for one in ranges or [MediaType("*/*")]:
        for offer in offers:
            refused = any(_fits(no, offer) and "*" not in no.kind for no in unwanted)
            if one.quality > 0 and _fits(one, offer) and not refused:
                return offer
    there_is = ", ".join(dict.fromkeys(map(str, offers))) or "nothing"
    raise Problem(406, f"None of the media types asked for can be given; there is: {there_is}.")


def liked(ranges: Sequence[MediaType], offers: Sequence[Offer]) -> Iterator[tuple[Offer, str]]:
    """Yield the offers that lie in a range, best first, each with the transfer syntax asked for there.

    For resources whose transfer syntax follows from what is asked: the offers name none.
    """
    unwanted = {(one.kind, one.part) for one in ranges if one.quality == 0}
    for one in ranges or [MediaType("*/*")]:
        for offer in offers:
            if one.quality > 0 and _fits(one, offer) and (offer.kind, offer.part) not in unwanted:
                yield offer, one.transfer_syntax


def _fits(wanted: MediaType, offer: Offer) -> bool:
    """Say whether an offer lies in a range."""
    if wanted.kind == offer.kind:
        if offer.part and wanted.part and wanted.part not in (offer.part, "*/*"):
            return False
    elif not _within(offer.kind, wanted.kind):
        return False
    if not offer.transfer_syntax or "*" in (wanted.transfer_syntax, wanted.kind[:1]):
        return True
    if wanted.transfer_syntax:
        return wanted.transfer_syntax == offer.transfer_syntax
    return offer.transfer_syntax == DEFAULT_SYNTAX.get(offer.part or offer.kind, offer.transfer_syntax)


def _within(kind: str, wide: str) -> bool:
    return wide == "*/*" or (wide.endswith("/*") and kind.startswith(wide[:-1]))


def _split(text: str, mark: str) -> Iterator[str]:
    """Yield the pieces between marks that stand in no quotes."""
    begin, quoted = 0, False
    for at, letter in enumerate(text):
        if letter == '"':
            quoted = not quoted
        elif letter == mark and not quoted:
            yield text[begin:at]
            begin = at + 1
    yield text[begin:]
