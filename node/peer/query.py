"""What an archive has: asked by C-FIND (`node.peer.find`) or QIDO-RS (`node.peer.qido`), answered alike.

An archive is another program on the network: how much it may answer is bounded, what is no UID where a
UID must stand is dropped, and what it leaves out is simply not known.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from node.config import Config, DimseDestination, DimseSource, StowDestination, WebSource
from node.config.matching import misfits
from node.errors import ConfigError, PeerRefused
from node.log import get_log
from node.uid import is_harmless

log = get_log("peer")

Level = Literal["STUDY", "SERIES", "IMAGE"]  #: PS3.4 C.6.2.1: Query/Retrieve Level of the Study Root

MOST_SERIES: Final = 2_000  #: of one study
MOST_INSTANCES: Final = 100_000  #: of one series
LONGEST_VALUE: Final = 1024  #: characters of an answer; a longer one says nothing that is asked here

#: The UID that tells one answer of a level from another.
UNIQUE_KEY: Final[Mapping[Level, str]] = {
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
#: What is asked back at each level (PS3.4 C.6.2.1.2 to C.6.2.1.4). Never a name, a birth date or the like.
RETURN_KEYS: Final[Mapping[Level, tuple[str, ...]]] = {
    "STUDY": (
        "StudyInstanceUID",
        "StudyDate",
        "PatientID",  # so that an answer can be held against what was asked for
        "IssuerOfPatientID",
        "ModalitiesInStudy",
        "StudyDescription",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    ),
    "SERIES": (
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "BodyPartExamined",
        "NumberOfSeriesRelatedInstances",
    ),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What an archive says of one study, series or instance."""

    level: Level
    #: Keyword -> values as text; what is empty or was not answered is not in it.
    values: Mapping[str, tuple[str, ...]]

    def one(self, keyword: str) -> str:
        """Return the single value of an attribute; "" where there is none, or several."""
        values = self.values.get(keyword, ())
        return values[0] if len(values) == 1 else ""

    @property
    def uid(self) -> str:
        """The UID of what was found, at its level."""
        return self.one(UNIQUE_KEY[self.level])

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return self.one("StudyInstanceUID")

    @property
    def instances(self) -> int | None:
        """How many instances the study or series has; None where the archive does not say."""
        said = self.one(f"NumberOf{self.level.capitalize()}RelatedInstances")
        return int(said) if said.isascii() and said.isdecimal() and len(said) < 10 else None


class Archive(ABC):
    """What can be asked of an archive.

    Every method raises `PeerUnreachable` (no answer in time), `PeerBusy` (not now) or `PeerRefused` (it
    cannot, or will not have us ask), each with a sentence.
    """

    place: str  #: for sentences: who and where it is

    @abstractmethod
    def find(self, level: Level, keys: Mapping[str, str], most: int) -> list[Found]:
        """Return at most so many matches; those whose UID is none, or was not asked for, are left out.

        Parameters
        ----------
        keys
            Keyword -> what it must match (PS3.4 C.2.2.2), UIDs of the levels above among them.
        """

    def studies(self, match: Mapping[str, str], *, most: int) -> list[Found]:
        """Return the studies that match, at most so many, in the order of the archive.

        Raises
        ------
        ConfigError
            ``match`` names something that cannot be asked for.
        """
        check_match(match)
        return self.find("STUDY", match, most)

    def series(self, study_uid: str) -> list[Found]:
        """Return the series of a study; none where the archive has no such study."""
        return self.find("SERIES", {"StudyInstanceUID": study_uid}, MOST_SERIES)

    def images(self, study_uid: str, series_uid: str) -> list[Found]:
        """Return the instances of a series, each with its SOP Class.

        Raises
        ------
        PeerRefused
            There are more than anybody has made.
        """
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        found = self.find("IMAGE", keys, MOST_INSTANCES + 1)
        if len(found) > MOST_INSTANCES:
            raise PeerRefused(f"{self.place} lists more than {MOST_INSTANCES} instances of one series.")
        return found

    def instances(self, study_uid: str, series_uid: str) -> frozenset[str]:
        """Return the SOP Instance UIDs of a series; none where the archive has no such series."""
        return frozenset(one.uid for one in self.images(study_uid, series_uid))

    def count(self, study_uid: str, series_uid: str) -> int | None:
        """Return how many instances a series has.

        Returns
        -------
        int or None
            0: the archive has no such series, or not yet. None: it cannot say.
        """
        keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid}
        found = self.find("SERIES", keys, 1)
        if not found:
            return 0
        if found[0].instances is not None:
            return found[0].instances
        try:
            return len(self.images(study_uid, series_uid))
        except PeerRefused as error:
            log.info("count_not_known", series_uid=series_uid, reason=str(error))
            return None


def archive_of(
    entry: DimseSource | WebSource | DimseDestination | StowDestination, config: Config
) -> Archive:
    """Return whom [sources] or [destinations] names, to be asked what it has.

    Raises
    ------
    ConfigError
        [tls] names files that cannot be used.
    """
    from node.peer.find import DimseArchive
    from node.peer.qido import WebArchive

    if isinstance(entry, DimseSource | DimseDestination):
        return DimseArchive(entry, config)
    return WebArchive(entry, config)


def check_match(match: Mapping[str, str]) -> None:
    """Refuse what cannot be asked for.

    Raises
    ------
    ConfigError
        A keyword that DICOM does not know, or one that is a sequence or bulk data; a value that would be
        taken for another one.
    """
    for misfit in misfits(match):
        raise ConfigError(f"{misfit[0].upper()}{misfit[1:]}{'' if misfit.endswith('?') else '.'}")


def checked(
    level: Level, keys: Mapping[str, str], said: Iterable[Mapping[str, tuple[str, ...]]], most: int
) -> list[Found]:
    """Return what was answered without what cannot be true, each once, at most so many.

    An archive that leaves out the UIDs of the levels above, which it was given, means those.
    """
    found: dict[str, Found] = {}
    dropped = 0
    for values in said:
        if len(found) >= most:
            break
        above = {key: (keys[key],) for key in UNIQUE_KEY.values() if key in keys}
        one = Found(level=level, values={**above, **values})
        uids = {key: one.values[key] for key in UNIQUE_KEY.values() if key in one.values}
        wrong = any(len(values) != 1 or not is_harmless(values[0]) for values in uids.values())
        others = any(uids[key] != value for key, value in above.items() if "\\" not in value[0])
        if wrong or others or not one.uid:
            dropped += 1
            continue
        found.setdefault(one.uid, one)
    if dropped:
        log.warning("answers_dropped", count=dropped, reason="UIDs that are none, or were not asked for")
    return list(found.values())
