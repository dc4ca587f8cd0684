"""One channel of a recording: what it is, and how its samples become values (PS3.3 C.10.9.1.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset

from node.header.value import items_of, number_of, text_of
from pipelines.contract import Code

MILLIVOLT: Final = Code("mV", "UCUM", "millivolt")
#: UCUM units of a voltage -> millivolts.
_VOLTS: Final = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "nV": 1e-6}
#: The last number of a lead's code, "2:61" of MDC and "5.6.3-9-61" of SCPECG -> what people call it.
_LEADS: Final = {
    1: "I",
    2: "II",
    61: "III",
    62: "aVR",
    63: "aVL",
    64: "aVF",
    **{number + 2: f"V{number}" for number in range(1, 7)},
}
_LEAD_SCHEMES: Final = frozenset({"MDC", "SCPECG"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """How the samples of one channel become values: ``sample * scale + offset``."""

    place: int  #: among all channels of its group, from 0
    name: str
    scale: float  #: in the unit that is wanted, as is ``offset``
    offset: float
    skew: float  #: how much later than the group it was sampled, in samples


def channel_of(place: int, definition: Dataset, unit: str, sampling_hz: float) -> Channel | None:
    """Return how a channel is scaled; None if it is in another unit than the card wants, or in none."""
    units = items_of(definition, "ChannelSensitivityUnitsSequence")
    said = text_of(units[0], "CodeValue") if units else ""
    scales = _VOLTS if unit == MILLIVOLT.value else {unit: 1.0}
    to_unit = scales.get(said)
    sensitivity = number_of(definition, "ChannelSensitivity")
    if to_unit is None or not sensitivity:
        return None
    correction = number_of(definition, "ChannelSensitivityCorrectionFactor")
    # How late it was sampled stands in seconds or in samples; how late its sensor is comes on top.
    late_s = [number_of(definition, keyword) or 0.0 for keyword in ("ChannelTimeSkew", "ChannelOffset")]
    return Channel(
        place=place,
        name=_name(definition, place),
        scale=sensitivity * (1.0 if correction is None else correction) * to_unit,
        offset=(number_of(definition, "ChannelBaseline") or 0.0) * to_unit,
        skew=sum(late_s) * sampling_hz + (number_of(definition, "ChannelSampleSkew") or 0.0),
    )


def _name(definition: Dataset, place: int) -> str:
    """Return what a channel is: a lead, the meaning of its code, or its number; no text typed by hand."""
    for source in items_of(definition, "ChannelSourceSequence")[:1]:
        scheme, value = text_of(source, "CodingSchemeDesignator"), text_of(source, "CodeValue")
        last = re.search(r"(?:^2:|^5\.6\.3-9-)(\d{1,3})$", value)
        if scheme in _LEAD_SCHEMES and last and int(last[1]) in _LEADS:
            return _LEADS[int(last[1])]
        if not scheme.startswith("99"):
            name = re.sub(r"[^A-Za-z0-9 +./()-]", "", text_of(source, "CodeMeaning"))
            if name.strip():
                return name.strip()
    return f"channel {place + 1}"
