"""Rows of an answer: studies, series and instances with what is known of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from node.journal import Holding
from node.show.asked import Place
from node.show.dicom_json import Model, as_model
from node.show.index import Entry
from node.show.kept import INSTANCE, SERIES, STUDY, Kept, keyword_of, one_text, tag_of, told
from pipelines.contract import InputRefused

_LEVELS = (STUDY, SERIES, INSTANCE)
_KEPT = {keyword: level for level, keywords in enumerate(_LEVELS) for keyword in keywords}


@dataclass(slots=True)
class Row:
    """What is known of one study, series or instance, and where to look for more."""

    kept: Sequence[Kept]  #: of the study, the series, the instance, as far as it is one
    file: Path | None  #: an instance of it
    read: Callable[[Path], Dataset]
    computed: dict[str, list[str]] = field(default_factory=dict)  #: what stands in no header
    _header: Dataset | None = None

    def values(self, place: Place) -> list[str]:
        """Return the values of an attribute as text."""
        keyword = keyword_or_none(place[0])
        if len(place) == 1 and keyword in self.computed:
            return self.computed[keyword]
        level = _KEPT.get(keyword or "", 3)
        if level < len(self.kept):
            text = self.kept[level].get(keyword or "", "")
            if dictionary_VR(place[0]) != "SQ":
                return text.split("\\") if text else []
            return _values(
                [{f"{place[0]:08X}": {"vr": "SQ", "Value": json.loads(text)}}] if text else [], place
            )
        return _values([as_model(self.header(), tags=[place[0]])], place)

    def model(self, keywords: Iterable[str], include: Iterable[Place] = ()) -> Model:
        """Return attributes, in the order of their tags, beside all that is included."""
        model: Model = {}
        for tag in sorted({*map(tag_of, keywords), *(place[0] for place in include)}):
            keyword = keyword_or_none(tag) or ""
            level = _KEPT.get(keyword, len(_LEVELS))
            if keyword in self.computed:
                model |= told({keyword: "\\".join(self.computed[keyword])}, [keyword])
            elif level < len(self.kept):
                model |= told(self.kept[level], [keyword])
            else:
                model |= as_model(self.header(), tags=[tag])
        return model

    def everything(self) -> Model:
        """Return what the whole header says but for long binary values."""
        return as_model(self.header())

    def forget(self) -> None:
        """Let go of the header, of which thousands would fill the memory."""
        self._header = None

    def header(self) -> Dataset:
        """Return the whole header; an empty one where it cannot be read."""
        if self._header is None:
            try:
                self._header = Dataset() if self.file is None else self.read(self.file)
            except InputRefused:
                self._header = Dataset()
        return self._header


def series_row(entry: Entry, read: Callable[[Path], Dataset]) -> Row:
    """Return the row of a series."""
    row = Row((entry.study or {}, entry.series or {}), entry.first, read)
    row.computed["NumberOfSeriesRelatedInstances"] = [str(entry.instances)]
    row.computed["InstanceAvailability"] = ["ONLINE"]
    return row


def study_row(entries: Sequence[Entry], read: Callable[[Path], Dataset]) -> Row:
    """Return the row of a study, as the series tells of it that came first."""
    first = min(entries, key=lambda one: (not one.came, one.came_at, one.series_uid))
    row = Row((first.study or {},), first.first, read)
    modalities = {(one.series or {}).get("Modality", "") for one in entries} - {""}
    row.computed |= {
        "ModalitiesInStudy": sorted(modalities),
        "NumberOfStudyRelatedSeries": [str(len(entries))],
        "NumberOfStudyRelatedInstances": [str(sum(one.instances for one in entries))],
        "InstanceAvailability": ["ONLINE"],
    }
    return row


def instance_row(holding: Holding, entry: Entry, kept: Kept, read: Callable[[Path], Dataset]) -> Row:
    """Return the row of an instance."""
    own = {**kept, "SOPClassUID": holding.sop_class_uid, "SOPInstanceUID": holding.sop_instance_uid}
    row = Row((entry.study or {}, entry.series or {}, own), holding.path, read)
    row.computed["InstanceAvailability"] = ["ONLINE"]
    row.computed["AvailableTransferSyntaxUID"] = [holding.transfer_syntax_uid]
    return row


def keyword_or_none(tag: int) -> str | None:
    """Return the keyword of a tag; None: the dictionary has none."""
    try:
        return keyword_of(tag)
    except KeyError:
        return None


def _values(models: Iterable[Model], place: Place) -> list[str]:
    """Return the values at the end of a path through the items of sequences."""
    found: list[str] = []
    name = f"{place[0]:08X}"
    for model in models:
        values = model.get(name, {}).get("Value") or []
        if len(place) > 1:
            found += _values([item for item in values if isinstance(item, dict)], place[1:])
        else:
            found += [one_text(value) for value in values]
    return found
