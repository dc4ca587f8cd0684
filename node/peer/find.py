"""C-FIND, Study Root (PS3.4 C.4.1 and C.6.2): what a DICOM archive has."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

from node.config import Config, DimseDestination, DimseSource
from node.errors import PeerBusy, PeerRefused, PeerUnreachable
from node.log import get_log
from node.peer.association import associated, finish_within
from node.peer.query import LONGEST_VALUE, RETURN_KEYS, Archive, Found, Level, checked
from node.peer.tls import client_context

log = get_log("peer")

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
LONGEST_S: Final = 300.0  #: for all answers to one question
MOST_BYTES: Final = 256 << 20  #: of them
CANCEL_S: Final = 3.0  #: how long an archive may go on after C-CANCEL

_MESSAGE_ID = 1  #: one question per association
_PENDING = (0xFF00, 0xFF01)  #: PS3.4 C.4.1.1.4


class DimseArchive(Archive):
    """An archive that is asked by C-FIND."""

    def __init__(self, entry: DimseSource | DimseDestination, config: Config) -> None:
        self.place = f"{entry.ae_title} at {entry.host}:{entry.port}"
        self._entry = entry
        self._calling_ae = config.node.ae_title
        self._tls = client_context(config.tls) if entry.tls else None

    def find(self, level: Level, keys: Mapping[str, str], most: int) -> list[Found]:
        """Ask one question over an association of its own; see `Archive.find`."""
        entry = self._entry
        with associated(
            entry.host,
            entry.port,
            entry.ae_title,
            self._calling_ae,
            [build_context(STUDY_ROOT_FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])],
            timeout_s=entry.timeout_s,
            tls=self._tls,
            most_bytes=MOST_BYTES,
        ) as association:
            association.dimse_timeout = entry.timeout_s
            finish_within(association, LONGEST_S, stall_s=entry.timeout_s)
            return checked(level, keys, list(self._matches(association, level, keys, most)), most)

    def _matches(
        self, association: Association, level: Level, keys: Mapping[str, str], most: int
    ) -> Iterator[Mapping[str, tuple[str, ...]]]:
        """Yield every match as keyword -> values; the archive is told to stop after the last one wanted."""
        told, is_cancelled, end = 0, False, time.monotonic() + LONGEST_S
        for status, match in self._answers(association, identifier(level, keys)):
            if status == 0 or (is_cancelled and status not in _PENDING):
                return  # who was told to stop may say anything
            if status not in _PENDING:
                raise self._refusal(status)
            if time.monotonic() > end:
                association.abort()
                if is_cancelled:
                    return
                raise PeerBusy(f"{self.place} did not come to the end of its answers in {LONGEST_S:g} s.")
            if match is not None and not is_cancelled:
                told += 1
                yield plain(match, RETURN_KEYS[level])
            if told >= most and not is_cancelled:
                association.send_c_cancel(_MESSAGE_ID, query_model=STUDY_ROOT_FIND)
                is_cancelled, end = True, time.monotonic() + CANCEL_S

    def _answers(self, association: Association, question: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        try:
            answers = association.send_c_find(question, STUDY_ROOT_FIND, msg_id=_MESSAGE_ID)
        except ValueError as error:
            raise PeerRefused(f"{self.place} takes no queries (C-FIND, Study Root).") from error
        except RuntimeError as error:
            raise PeerUnreachable(f"{self.place} ended the association.") from error
        for status, match in answers:
            if "Status" not in status:
                raise PeerUnreachable(
                    f"{self.place} did not answer a query within {self._entry.timeout_s:g} s, or broke the "
                    "association."
                )
            yield status.Status, match

    def _refusal(self, status: int) -> PeerBusy | PeerRefused:
        """Say what a final status means (PS3.4 C.4.1.1.4); unknown ones are tried again."""
        code = f"status {status:04X}"
        if status == 0xA900 or 0xC000 <= status <= 0xCFFF:
            return PeerRefused(f"{self.place} cannot process our query ({code}).")
        if status in (0x0122, 0x0124):
            return PeerRefused(f"{self.place} does not let us query ({code}).")
        return PeerBusy(f"{self.place} is out of resources for our query ({code}).")


def identifier(level: Level, keys: Mapping[str, str]) -> Dataset:
    """Return the Identifier of a C-FIND request (PS3.4 C.4.1.1.3.1): what must match, and what is asked."""
    question = Dataset()
    question.QueryRetrieveLevel = level
    if any(not value.isascii() for value in keys.values()):
        question.SpecificCharacterSet = "ISO_IR 192"
    for keyword in dict.fromkeys((*RETURN_KEYS[level], *keys)):
        tag = tag_for_keyword(keyword)
        if tag is not None:
            # Matching has values of its own (ranges, wildcards), which no validator of values knows.
            value = keys.get(keyword, "")
            question.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=0))
    return question


def plain(answer: Dataset, keywords: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the values of some attributes as text, decoded by the character set of the answer.

    What cannot be decoded is left out, like what was not answered.
    """
    found = {}
    for keyword in keywords:
        try:
            value = answer.get(keyword)
            values = value if isinstance(value, list | MultiValue) else [value]
            texts = tuple(str(one).strip(" \0") for one in values if one is not None)
        except (ValueError, TypeError, LookupError, NotImplementedError):  # whatever a foreign value provokes
            continue
        if any(texts) and all(len(text) <= LONGEST_VALUE for text in texts):
            found[keyword] = texts
    return found
