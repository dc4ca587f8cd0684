"""STOW-RS: what is brought over HTTP (PS3.18 10.5). The work is `node.accept.stow`'s, which is handed in.

A body is taken part by part, as it comes; nothing of it is held in memory but what a part begins with.
While a thread works on what came, no more is read, so that a sender feels how fast our disk is. What was
stored stays stored, whatever becomes of the rest of the body, and is told whenever there is somebody to
tell.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from node.log import get_log
from node.multipart import Begun, Ended, MultipartError, Reader
from node.show.answer import dicom_json, refusal
from node.show.media import DICOM, DICOM_JSON, DICOM_XML, RELATED, Offer, choose, parse, wanted
from node.show.native import native_model
from node.show.resource import DICOM_WEB, Problem, Resource, Threads, here, shown_by, threads_of

log = get_log("show")

_MOST_OBJECTS = 100_000  #: in one request; what became of each is kept until the answer
_AT_ONCE = 4  #: of one request
_MOST_SENTENCES = 20
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
_TAKES = 'multipart/related; type="application/dicom", or application/dicom for a single object'


class Taken(Protocol):
    """What became of one object; see `node.accept.stow.Taken`."""

    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def series_uid(self) -> str: ...
    @property
    def study_uid(self) -> str: ...
    @property
    def failure(self) -> int: ...
    @property
    def sentence(self) -> str: ...


class Arriving(Protocol):
    """One object on its way in; see `node.accept.stow.Arriving`. No method raises."""

    def write(self, data: bytes) -> None: ...
    def fail(self, sentence: str) -> None: ...
    def end(self) -> Taken: ...
    def discard(self) -> None: ...


class Bring(Protocol):
    """Takes in what is brought; see `node.accept.stow.StowDoor`."""

    def policy_of(self, host: str, fingerprint: str) -> str | None: ...
    def arriving(self, study_uid: str = "", policy: str = "") -> Arriving: ...
    def delay_s(self, policy: str) -> float: ...


class _Body:
    """Takes apart what comes of one request. Its methods wait for the disk."""

    def __init__(self, bring: Bring, study_uid: str, policy: str, boundary: str | None) -> None:
        self.whole: list[Arriving] = []  #: what has come to its end since this was emptied
        self._count = 0
        self._bring, self._study_uid, self._policy = bring, study_uid, policy
        self._reader = None if boundary is None else Reader(boundary)
        self._object = bring.arriving(study_uid, policy) if self._reader is None else None

    def feed(self, data: bytes) -> None:
        """Take the next octets of the body."""
        if self._reader is None:
            self._write(data)
            return
        for event in self._reader.feed(data):
            if isinstance(event, Begun):
                self._begin(event)
            elif isinstance(event, Ended):
                self._end()
            else:
                self._write(event)

    def finish(self) -> None:
        """Take note that the body has come to its end.

        Raises
        ------
        MultipartError
            It was cut off.
        """
        if self._reader is None:
            self._end()
        elif not self._reader.is_whole:
            raise MultipartError("The body ends without its closing boundary.")

    def discard(self) -> None:
        """Leave nothing behind of an object that did not come to its end."""
        if self._object is not None:
            self._object.discard()
            self._object = None

    def _begin(self, part: Begun) -> None:
        self._count += 1
        if self._count > _MOST_OBJECTS:
            raise Problem(413, f"One request may bring {_MOST_OBJECTS} objects; send more in another.")
        self._object = self._bring.arriving(self._study_uid, self._policy)
        kind = parse(part.headers.get("content-type", DICOM)).kind
        encoding = part.headers.get("content-transfer-encoding", "binary").lower()
        if kind != DICOM:
            self._object.fail("A part is of another media type than application/dicom.")
        elif encoding not in ("binary", "8bit", "7bit"):
            self._object.fail("A part has a Content-Transfer-Encoding, which HTTP does not know.")

    def _write(self, data: bytes) -> None:
        if self._object is not None:
            self._object.write(data)

    def _end(self) -> None:
        if self._object is not None:
            self.whole.append(self._object)
            self._object = None


class _Taking:
    """Takes custody of several objects of a request at once: most of that is waiting for the disk."""

    def __init__(self, bring: Bring, policy: str, threads: Threads) -> None:
        self.taken: list[Taken] = []
        self._bring, self._policy, self._threads = bring, policy, threads
        self._under_way: deque[asyncio.Task[Taken]] = deque()

    async def take(self, whole: list[Arriving]) -> None:
        """Begin with some objects, and empty the list; wait when too much is under way."""
        for one in whole:
            self._under_way.append(asyncio.create_task(self._threads.run("take", one.end)))
            await self._settle(_AT_ONCE - 1)
        whole.clear()

    async def end(self) -> None:
        """Wait until it is known what became of all."""
        await self._settle(0)

    async def _settle(self, most: int) -> None:
        while len(self._under_way) > most:
            self.taken.append(await self._under_way.popleft())
            await asyncio.sleep(self._bring.delay_s(self._policy))


async def store(request: Request) -> Response:
    """Store instances, and tell what became of each (PS3.18 10.5.3)."""
    kind = choose(wanted(request), [Offer(DICOM_JSON), Offer(DICOM_XML), Offer("application/json")]).kind
    bring = shown_by(request).bring
    policy = bring.policy_of(request.client.host if request.client else "", request.state.certificate)
    if policy is None:
        raise Problem(403, "No policy of this node lets you bring it anything.")
    body = _Body(bring, request.path_params.get("study", ""), policy, _boundary(request))
    threads = threads_of(request)
    taking = _Taking(bring, policy, threads)
    status, sentence = 0, ""
    try:
        async for data in request.stream():
            if data:
                await threads.run("take", partial(body.feed, data))
                await taking.take(body.whole)
        await threads.run("take", body.finish)
    except MultipartError as error:
        status, sentence = 400, str(error)
    except Problem as error:
        status, sentence = error.status, str(error)
    except ClientDisconnect:
        log.warning("sender_left")
        raise
    finally:
        body.discard()
        await taking.take(body.whole)  # of what came before it went wrong
        await taking.end()
        taken = taking.taken
        log.info("instances_kept", instances=sum(not one.failure for one in taken), via="STOW")
    if not taken:
        return refusal(status or 400, sentence or "The request brings nothing.")
    sentences = [sentence, *(one.sentence for one in taken)]
    headers = {"Warning": ", ".join(_warnings(sentences))} if any(sentences) else {}
    status = status or _status(taken)
    if status == 503:
        headers["Retry-After"] = "30"
    told = _told(taken, request)
    if kind == DICOM_XML:
        return Response(native_model(told), status_code=status, headers=headers, media_type=kind)
    return dicom_json(told, status=status, headers=headers, media_type=kind)


def _boundary(request: Request) -> str | None:
    """Return the boundary between the objects of a request; None: it is one object.

    Raises
    ------
    Problem
        415: something else is brought than objects of DICOM, or in an encoding. 400: no boundary.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "The node takes no Content-Encoding.", {"Accept-Encoding": "identity"})
    said = parse(request.headers.get("content-type", ""))
    if said.kind == DICOM:
        return None
    if said.kind != RELATED or said.part not in ("", DICOM):
        raise Problem(415, f"The node takes {_TAKES}; metadata apart from bulk data it does not take.")
    try:
        Reader(boundary := said.parameters.get("boundary", ""))
    except MultipartError as error:
        raise Problem(400, str(error)) from error
    return boundary


def _status(taken: Sequence[Taken]) -> int:
    """Return the status of the whole (PS3.18 table 10.5.3-1)."""
    failures = [one.failure for one in taken if one.failure]
    if not failures:
        return 200
    if len(failures) < len(taken):
        return 202
    return 503 if all(one in _OUT_OF_RESOURCES for one in failures) else 409


def _told(taken: Sequence[Taken], request: Request) -> dict[str, Any]:
    """Return the Store Instances Response Module (PS3.18 I.2) in the DICOM JSON Model."""
    stored = [one for one in taken if not one.failure]
    failed = [one for one in taken if one.failure]
    told: dict[str, Any] = {}
    studies = {one.study_uid for one in stored}
    if len(studies) == 1:
        told["00081190"] = _element("UR", here(request, f"{DICOM_WEB}/studies/{studies.pop()}"))
    if stored:
        told["00081199"] = _element("SQ", *(_reference(one, request) for one in stored))
    if known := [one for one in failed if one.sop_instance_uid]:
        told["00081198"] = _element("SQ", *(_named(one) | _reason(one) for one in known))
    if others := [one for one in failed if not one.sop_instance_uid]:
        told["0008119A"] = _element("SQ", *map(_reason, others))
    return told


def _reference(one: Taken, request: Request) -> dict[str, Any]:
    path = f"{DICOM_WEB}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_instance_uid}"
    return _named(one) | {"00081190": _element("UR", here(request, path))}


def _named(one: Taken) -> dict[str, Any]:
    return {"00081150": _element("UI", one.sop_class_uid), "00081155": _element("UI", one.sop_instance_uid)}


def _reason(one: Taken) -> dict[str, Any]:
    return {"00081197": _element("US", one.failure)}


def _element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def _warnings(sentences: Sequence[str]) -> list[str]:
    """Return our sentences as values of Warning (RFC 7234 5.5), each once."""
    different = list(dict.fromkeys(one for one in sentences if one))[:_MOST_SENTENCES]
    return [f'299 radnode "{_plain(one)}"' for one in different]


def _plain(sentence: str) -> str:
    return "".join(c for c in sentence if " " <= c <= "~" and c not in '"\\')


_OBJECTS = (f'{RELATED}; type="{DICOM}"', DICOM)
_ANSWERS = (DICOM_JSON, DICOM_XML, "application/json")
RESOURCES: tuple[Resource, ...] = tuple(
    Resource(path=path, method="POST", name="StoreInstances", endpoint=store, takes=_OBJECTS, gives=_ANSWERS)
    for path in (f"{DICOM_WEB}/studies", f"{DICOM_WEB}/studies/{{study:uid}}")
)
