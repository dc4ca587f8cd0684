"""QIDO-RS (PS3.18 10.6): what a DICOMweb archive has."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydicom.datadict import tag_for_keyword

from node.config import Config, StowDestination, WebSource
from node.errors import ConfigError, PeerBusy, PeerRefused
from node.log import get_log
from node.peer.query import LONGEST_VALUE, RETURN_KEYS, UNIQUE_KEY, Archive, Found, Level, checked
from node.peer.tls import client_context
from node.peer.web import Web, WebAnswer
from node.uid import is_harmless

log = get_log("peer")

PAGE: Final = 200  #: answers that are asked for at once (``limit``, PS3.18 8.3.4.4)
MOST_PAGE_BYTES: Final = 32 << 20
LONGEST_S: Final = 300.0  #: for all pages of one question


class WebArchive(Archive):
    """An archive that is asked by QIDO-RS."""

    def __init__(self, entry: WebSource | StowDestination, config: Config) -> None:
        self.place = entry.url
        self._web = Web(
            entry.url,
            timeout_s=entry.timeout_s,
            token_file=entry.token_file,
            tls=client_context(config.tls) if entry.url.startswith("https:") else None,
        )

    def find(self, level: Level, keys: Mapping[str, str], most: int) -> list[Found]:
        """Ask page after page; see `Archive.find`."""
        path, rest = resource(level, keys)
        return checked(level, keys, self._matches(level, path, rest, most), most)

    def _matches(
        self, level: Level, path: str, keys: Mapping[str, str], most: int
    ) -> Iterator[Mapping[str, tuple[str, ...]]]:
        """Yield every match as keyword -> values.

        A server may give fewer than it was asked for at once, with or without saying so (Warning 299),
        so the next page is asked for until one has nothing new: that ends with those which know no
        ``offset`` as well, and give the same page for ever.
        """
        unique, seen, end = UNIQUE_KEY[level], set[str](), time.monotonic() + LONGEST_S
        while len(seen) < most:
            if time.monotonic() > end:
                raise PeerBusy(f"{self.place} did not come to the end of its answers in {LONGEST_S:g} s.")
            # Some refuse an offset of 0, and a question for one UID has one page.
            query = {**keys, "includefield": ",".join(RETURN_KEYS[level]), "limit": str(min(PAGE, most))}
            if seen:
                query["offset"] = str(len(seen))
            fresh = 0
            for match in self._page(path, query):
                uid = match.get(unique, ("",))[0]
                if uid not in seen:
                    seen.add(uid)
                    fresh += 1
                    yield match
            if not fresh or is_harmless(keys.get(unique, "")):
                return

    def _page(self, path: str, query: Mapping[str, str]) -> list[dict[str, tuple[str, ...]]]:
        answer = self._web.ask(
            "GET",
            path,
            query=query,
            headers={"Accept": "application/dicom+json"},
            body=None,
            most_bytes=MOST_PAGE_BYTES,
        )
        if answer.status == 204 or (answer.status == 404 and path != "/studies"):
            return []  # PS3.18 10.6.3.1: nothing matches; the study itself is not there
        if answer.status not in (200, 206):
            raise refusal(self.place, answer.status)
        return [plain(one) for one in self._objects(answer)]

    def _objects(self, answer: WebAnswer) -> list[Mapping[str, Any]]:
        """Return the DICOM JSON objects of a body (PS3.18 F.2)."""
        if not answer.body.strip():
            return []
        try:
            said = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise PeerRefused(f"{self.place} answers a query with something that is no JSON.") from error
        if not isinstance(said, list):
            raise PeerRefused(f"{self.place} answers a query with JSON that is no list of matches.")
        return [one for one in said if isinstance(one, dict)]


def resource(level: Level, keys: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the path of what is searched (PS3.18 Table 10.6.1-1), and the keys that are not in it.

    Raises
    ------
    ConfigError
        A UID of the path is none.
    """
    rest, path = dict(keys), "/studies"
    for key in UNIQUE_KEY.values():
        if key in keys and level != "STUDY" and not is_harmless(keys[key]):
            raise ConfigError(f"This is no {key}: digits and dots, at most 64 characters.")
    if level != "STUDY":
        path += f"/{rest.pop('StudyInstanceUID')}/series"
    if level == "IMAGE":
        path += f"/{rest.pop('SeriesInstanceUID')}/instances"
    return path, rest


def plain(match: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the values of the attributes that are asked for as text; what is malformed is left out."""
    found = {}
    for keyword, tag in _TAGS.items():
        element = match.get(tag)
        values = element.get("Value") if isinstance(element, dict) else None
        if not isinstance(values, list):
            continue
        texts = tuple(str(one).strip(" \0") for one in values if isinstance(one, str | int))
        if any(texts) and all(len(text) <= LONGEST_VALUE for text in texts):
            found[keyword] = texts
    return found


_TAGS: Final = {
    keyword: f"{tag_for_keyword(keyword) or 0:08X}" for keys in RETURN_KEYS.values() for keyword in keys
}


def refusal(place: str, status: int) -> PeerBusy | PeerRefused:
    """Say what an HTTP status means for a question (PS3.18 8.5): not now, or never."""
    if status in (401, 403):
        return PeerRefused(f"{place} does not let us ask (status {status}); see token_file and [tls].")
    if status in (408, 425, 429) or status >= 500:
        return PeerBusy(f"{place} cannot answer just now (status {status}).")
    if 300 <= status < 400:
        return PeerRefused(f"{place} sends us elsewhere (status {status}); write where it is in url.")
    return PeerRefused(f"{place} does not answer our query (status {status}); is url its DICOMweb service?")
