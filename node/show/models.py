"""Data sets without their bulk, as they are given: DICOM JSON, or native XML in parts (PS3.18 8.7.3.2)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from starlette.responses import Response, StreamingResponse

from node.show.dicom_json import Model
from node.show.media import DICOM_JSON, DICOM_XML, RELATED, Offer
from node.show.multipart import Part, related
from node.show.native import native_model

_PIECE_BYTES: Final = 1 << 16

MODELS: Final = (Offer(DICOM_JSON), Offer("application/json"), Offer(RELATED, DICOM_XML))


def given(
    models: Iterable[Model], offer: Offer, headers: Mapping[str, str] = MappingProxyType({})
) -> Response:
    """Return an answer that is written while its models are made, one after another."""
    if offer.part:
        parts = (Part(media_type=DICOM_XML, body=native_model(model)) for model in models)
        answer = related(parts, DICOM_XML)
    else:
        answer = StreamingResponse(_array(models), media_type=offer.kind)
    answer.headers.update(headers)
    return answer


def _array(models: Iterable[Model]) -> Iterator[bytes]:
    """Yield a JSON array in pieces that are worth sending."""
    waiting = bytearray(b"[")
    for number, model in enumerate(models):
        text = json.dumps(model, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        waiting += b",\n" if number else b""
        waiting += text.encode("utf-8", "replace")
        if len(waiting) > _PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting) + b"]"
