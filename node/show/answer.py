"""What is answered when something cannot be: a status and a sentence (RFC 9457), and never a trace."""

from __future__ import annotations

import errno
import http
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from node.errors import JournalUnavailable, NodeError
from node.log import describe, get_log
from node.show.media import DICOM_JSON
from node.show.resource import Problem

log = get_log("show")

_LATER = {"Retry-After": "5"}
_SENTENCES = {
    404: "There is no such resource.",
    405: "This resource does not do that; OPTIONS tells what it does.",
}
#: Troubles of the machine that may pass.
_FOR_NOW = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO})


def refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error for people and machines."""
    told = {"title": http.HTTPStatus(status).phrase, "status": status, "detail": sentence}
    return JSONResponse(
        told, status_code=status, headers=dict(headers or {}), media_type="application/problem+json"
    )


def dicom_json(
    data: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = DICOM_JSON,
) -> Response:
    """Return a DICOM JSON Model object, or an array of them (PS3.18 F)."""
    return JSONResponse(data, status_code=status, headers=dict(headers or {}), media_type=media_type)


def answer_error(_request: Request, error: Exception) -> Response:
    """Return what a caller hears of an error; a foreign one is told by its place alone, in our log."""
    if isinstance(error, Problem):
        return refusal(error.status, str(error), error.headers)
    if isinstance(error, HTTPException):
        sentence = _SENTENCES.get(error.status_code, "The request cannot be answered.")
        return refusal(error.status_code, sentence, error.headers)
    if isinstance(error, JournalUnavailable):
        return refusal(503, "The node cannot use its journal just now.", _LATER)
    log.error("request_failed", error=describe(error))
    if isinstance(error, OSError) and error.errno in _FOR_NOW:
        return refusal(503, "The node lacks disk space, memory or open files just now.", _LATER)
    return refusal(500, str(error) if isinstance(error, NodeError) else "The node stumbled.")
