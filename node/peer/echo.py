"""Whether a peer is there, and what it would take or answer; nothing is stored, moved or found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import build_context

from node.config import DimseDestination, DimseSource, StowDestination, TlsTable, WebSource
from node.errors import SendError
from node.peer.association import associated
from node.peer.qido import refusal
from node.peer.tls import client_context
from node.peer.web import Web

VERIFICATION = "1.2.840.10008.1.1"
SUCCESS = 0x0000  # PS3.7 C
#: Results of presentation context negotiation (PS3.8 Table 9-18).
_ACCEPTED, _NO_SYNTAX = 0, 4

#: A store request without instances, to which a service says that it makes no sense, or nothing to do.
_NOTHING = "nothing"
_NO_ANSWER_READ = 0


class Answer(NamedTuple):
    """What a peer answered."""

    complaint: str  #: "" when all is well, else a sentence that says what went wrong
    taken: Mapping[str, bool]  #: SOP Class UID -> whether it takes it; of those that could be asked


def echo(
    entry: DimseDestination | DimseSource, classes: Iterable[str], ae_title: str, tls: TlsTable
) -> Answer:
    """Return what a peer answers to a C-ECHO (PS3.4 A) and to a proposal of these SOP Classes.

    Parameters
    ----------
    ae_title
        Ours.
    """
    syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    try:
        with associated(
            entry.host,
            entry.port,
            entry.ae_title,
            ae_title,
            [build_context(uid, syntaxes) for uid in (VERIFICATION, *classes)],
            timeout_s=entry.timeout_s,
            tls=client_context(tls) if entry.tls else None,
        ) as association:
            taken = taken_of(association)
            if not taken.pop(VERIFICATION, False):
                return Answer("", taken)  # it has no C-ECHO, but speaks with us: as good an answer
            answer = association.send_c_echo()
            well = answer and answer.get("Status") == SUCCESS
            return Answer("" if well else "it took the association but did not answer the C-ECHO", taken)
    except SendError as error:
        return Answer(str(error), {})


def taken_of(association: Any) -> dict[str, bool]:
    """Return SOP Class UID -> whether the peer takes it, of an established association.

    A class that it knows but in no transfer syntax that we offered is not taken, unless only such
    were offered as a peer may well lack.
    """
    taken: dict[str, bool] = {}
    contexts = [*association.accepted_contexts, *association.rejected_contexts]
    for context in contexts:
        uid = str(context.abstract_syntax)
        if context.result == _ACCEPTED:
            taken[uid] = True
        elif context.result != _NO_SYNTAX or ImplicitVRLittleEndian in context.transfer_syntax:
            taken.setdefault(uid, False)
    return taken


def try_query(entry: StowDestination | WebSource, tls: TlsTable) -> str:
    """Return a complaint about a QIDO-RS service, or ""; it is asked for one study, which is not read."""
    headers = {"Accept": "application/dicom+json"}
    try:
        with _web(entry, tls).stream(
            "GET", "/studies", query={"limit": "1"}, headers=headers, most_bytes=_NO_ANSWER_READ
        ) as answer:
            well = answer.status in (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT)
            return "" if well and not _is_page(answer.headers) else str(refusal(entry.url, answer.status))
    except SendError as error:
        return str(error)


def try_store(entry: StowDestination, tls: TlsTable) -> str:
    """Return a complaint about a STOW-RS service, or ""; it is given a request with no instance in it.

    That reads nobody's data and stores nothing, and asks for the same rights as the results will.
    """
    headers = {
        "Accept": "application/dicom+json",
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={_NOTHING}',
    }
    body = f"--{_NOTHING}--\r\n".encode()
    try:
        with _web(entry, tls).stream(
            "POST", "/studies", headers=headers, body=body, most_bytes=_NO_ANSWER_READ
        ) as answer:
            status = answer.status
            # 400 and the like: it looked for instances, so it is what it should be.
            well = status in (200, 202, 204, 400, 406, 409, 415, 422, 500) and not _is_page(answer.headers)
    except SendError as error:
        return str(error)
    if well:
        return ""
    if status in (401, 403, 407):
        return f"{entry.url} does not let us store (status {status}); see token_file and [tls]"
    if 300 <= status < 400:
        return f"{entry.url} sends us elsewhere (status {status}); write where it is in url"
    if status > 500 or status in (408, 425, 429):
        return f"{entry.url} cannot store just now (status {status})"
    return f"{entry.url} takes no store request (status {status}); is url its DICOMweb service?"


def _is_page(headers: Mapping[str, str]) -> bool:
    """Whether an answer is for people: a page to log in, or one of a server in general."""
    return headers.get("content-type", "").lower().startswith("text/html")


def _web(entry: StowDestination | WebSource, tls: TlsTable) -> Web:
    return Web(
        entry.url,
        timeout_s=entry.timeout_s,
        token_file=entry.token_file,
        tls=client_context(tls) if entry.url.startswith("https:") else None,
    )
