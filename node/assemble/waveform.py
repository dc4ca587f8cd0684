"""An electrocardiogram, or another recording over time, becomes an array of channels (PS3.3 C.10.9).

An instance holds groups of channels that were sampled together, for instance ten seconds of rhythm
and the median beat that was computed from them. One group is taken as it is: nothing is
filtered, resampled or shifted in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from node.assemble.channel import MILLIVOLT, Channel, channel_of
from node.assemble.facts import facts_of
from node.assemble.frames import Facts, accepted_modality, patient_of
from node.assemble.reason import Reason, plain, refused, some
from node.header.read import parse
from node.header.value import integer_of, items_of, number_of, text_of, value_of
from node.model import Instance, Slice, Volume
from pipelines.contract import Code, Image, InputRefused, InputSpec

#: Channels of one group; each has a record. A scalp recording has some hundreds.
MAX_CHANNELS: Final = 1024
#: Waveform Bits Allocated and Sample Interpretation (PS3.3 C.10.9.1.5) -> numpy.
_SAMPLES: Final = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (16, "SS"): "i2",
    (16, "US"): "u2",
    (32, "SL"): "i4",
    (32, "UL"): "u4",
}
_COMPANDED: Final = {"MB": "mu-law", "AB": "A-law"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Channels of one instance that were sampled together (a multiplex group)."""

    instance: Instance
    number: int  #: counted from 1
    item: Dataset
    little: bool
    is_original: bool  #: recorded, not computed from another group
    samples: int
    sampling_hz: float
    channels: tuple[Channel, ...]  #: those in the unit that is wanted
    left_out: int  #: channels in other units

    @property
    def label(self) -> str:
        told = "recorded" if self.is_original else "derived"
        return f"{some(len(self.channels), 'channel')} of {plain(self.samples / self.sampling_hz)} s, {told}"


def load_waveform(instances: Sequence[Instance], spec: InputSpec) -> Volume:
    """Return the recording of one series.

    Parameters
    ----------
    instances
        Of one series, each once; what is no waveform is left out.
    spec
        What the card accepts: ``slices_min`` channels in ``unit``.

    Returns
    -------
    Volume
        ``image.array`` is (channels, 1, samples) float32, by "mV" in millivolts whatever voltage
        the instance is in; ``sampling_hz`` and ``channels`` stand in ``image.facts``. There is one
        `Slice` for each channel, all of one instance.

    Raises
    ------
    InputRefused
        With a code of `Reason`.
    """
    groups: list[_Group] = []
    refusals: list[InputRefused] = []
    patients, modalities = set(), set()
    facts: dict[str, Facts] = {}
    others = 0
    for instance in instances:
        ds = parse(instance.path).dataset
        patients.add(patient_of(ds))
        items = items_of(ds, "WaveformSequence")
        others += not items
        if items:
            modalities.add(accepted_modality(ds, spec.modality))
            facts[instance.sop_instance_uid] = facts_of(ds)
        for number, item in enumerate(items, start=1):
            try:
                groups.append(
                    _read(instance, number, item, spec, little=ds.original_encoding[1] is not False)
                )
            except InputRefused as refusal:
                refusals.append(refusal)
    if len(patients) > 1:
        raise refused(
            Reason.SEVERAL_PATIENTS,
            f"The recordings of this series name {len(patients)} different patients. Nothing was computed; "
            "correct the series at its source.",
        )
    if len(modalities) > 1:
        raise refused(
            Reason.MODALITY_NOT_ACCEPTED,
            f"The recordings are of several modalities: {', '.join(sorted(modalities))}.",
        )
    group = _choose(groups, refusals)
    array, padded = _decode(group)
    notes = [f"{some(others, 'object')} without a waveform left out"] * (others > 0)
    return Volume(
        image=Image(
            array=array,
            affine=np.eye(4),
            unit=_unit(spec),
            modality=modalities.pop(),
            facts={**facts[group.instance.sop_instance_uid], **_facts(group)},
            is_spatial=False,
            is_calibrated=False,
        ),
        slices=tuple(_slice(group.instance) for _ in group.channels),
        series_uid=group.instance.series_uid,
        study_uid=group.instance.study_uid,
        frame_of_reference_uid="",
        notes=(*notes, *_notes(group, len(groups) + len(refusals), padded)),
    )


def _read(instance: Instance, number: int, item: Dataset, spec: InputSpec, *, little: bool) -> _Group:
    """Return a group that the card accepts; nothing is decoded yet."""
    definitions = items_of(item, "ChannelDefinitionSequence")
    count, samples = (integer_of(item, f"NumberOfWaveform{what}") or 0 for what in ("Channels", "Samples"))
    sampling_hz = number_of(item, "SamplingFrequency") or 0.0
    if not (0 < count == len(definitions) <= MAX_CHANNELS and samples > 0 and sampling_hz > 0):
        raise refused(
            Reason.NOT_DECODABLE,
            f"A waveform announces {count} channels of {samples} samples at {plain(sampling_hz)} Hz and "
            f"describes {some(len(definitions), 'channel')}.",
        )
    channels = [channel_of(place, one, spec.unit, sampling_hz) for place, one in enumerate(definitions)]
    there = tuple(channel for channel in channels if channel is not None)
    if not there:
        raise refused(
            Reason.UNIT_NOT_ACCEPTED,
            f"No channel of the waveform is in {spec.unit}, which this pipeline needs.",
        )
    if len(there) < spec.slices_min:
        raise refused(
            Reason.TOO_FEW_CHANNELS,
            f"The waveform has {some(len(there), 'channel')} in {spec.unit}; {spec.slices_min} are needed.",
        )
    skews = [channel.skew for channel in there]
    if max(skews) - min(skews) >= 0.5:
        raise refused(
            Reason.CHANNEL_SKEW,
            f"The channels were not sampled at the same moments, but up to {plain(max(skews) - min(skews))} "
            "samples apart. This node does not resample.",
        )
    return _Group(
        instance=instance,
        number=number,
        item=item,
        little=little,
        is_original=text_of(item, "WaveformOriginality").upper() != "DERIVED",
        samples=samples,
        sampling_hz=sampling_hz,
        channels=there,
        left_out=count - len(there),
    )


def _choose(groups: Sequence[_Group], refusals: Sequence[InputRefused]) -> _Group:
    """Return the longest recorded group; one that was computed only where none was recorded."""
    if not groups:
        if refusals:
            raise refusals[0]
        raise refused(Reason.NO_WAVEFORM, "The series holds no waveform.")

    def worth(group: _Group) -> tuple[bool, int, int]:
        return group.is_original, group.samples, len(group.channels)

    best = max(groups, key=worth)
    equal = [group for group in groups if worth(group) == worth(best)]
    if len(equal) > 1:
        listed = "; ".join(group.label for group in equal[:4]) + (" ..." if len(equal) > 4 else "")
        raise refused(
            Reason.SEVERAL_WAVEFORMS,
            f"The series holds {len(equal)} waveforms and this pipeline takes one: {listed}. Send the wanted "
            "one as a series of its own.",
        )
    return best


def _decode(group: _Group) -> tuple[NDArray[np.float32], int]:
    """Return the values, (channels, 1, samples) float32, and how many samples hold no measurement."""
    item = group.item
    bits, interpretation = (
        integer_of(item, "WaveformBitsAllocated"),
        text_of(item, "WaveformSampleInterpretation"),
    )
    if interpretation in _COMPANDED:
        raise refused(
            Reason.NOT_DECODABLE,
            f"The waveform is compressed by {_COMPANDED[interpretation]}, which is for voices.",
        )
    kind = _SAMPLES.get((bits or 0, interpretation))
    data = value_of(item, "WaveformData")
    count = integer_of(item, "NumberOfWaveformChannels") or 0
    # Of big endian, bytes may stand in words or alone; nobody sends them, so nobody would notice.
    if kind is None or not isinstance(data, bytes) or (bits == 8 and not group.little):
        raise refused(
            Reason.NOT_DECODABLE,
            f"The waveform has samples of {bits} bits ({interpretation or 'unnamed'}), which this node does "
            "not know.",
        )
    dtype = np.dtype(kind).newbyteorder("<" if group.little else ">")
    if len(data) < count * group.samples * dtype.itemsize:
        raise refused(
            Reason.NOT_DECODABLE,
            f"The waveform holds {len(data)} bytes, its {count} channels of {group.samples} samples need "
            f"{count * group.samples * dtype.itemsize}.",
        )
    # (samples, channels), as stored: one sample of every channel, then the next (C.10.9.1.7)
    stored = np.frombuffer(data, dtype, count * group.samples).reshape(group.samples, count)
    padding = value_of(item, "WaveformPaddingValue")
    is_padded = isinstance(padding, bytes) and len(padding) >= dtype.itemsize
    array = np.empty((len(group.channels), 1, group.samples), dtype=np.float32)
    padded = 0
    for out, channel in zip(array, group.channels, strict=True):
        samples: NDArray[Any] = stored[:, channel.place]
        with np.errstate(over="ignore", invalid="ignore"):  # judged below
            out[0] = samples * channel.scale + channel.offset
        if is_padded:
            empty = samples == np.frombuffer(padding, dtype, 1)[0]
            out[0, empty] = 0.0
            padded += int(np.count_nonzero(empty))
    if not np.isfinite(array).all():
        raise refused(Reason.NOT_DECODABLE, "Scaling the waveform gives values that are not finite numbers.")
    return array, padded


def _unit(spec: InputSpec) -> Code:
    return MILLIVOLT if spec.unit == MILLIVOLT.value else Code(spec.unit, "UCUM", spec.unit)


def _facts(group: _Group) -> dict[str, float | str]:
    return {
        "sampling_hz": group.sampling_hz,
        "channels": ",".join(channel.name for channel in group.channels),
        "multiplex_group": float(group.number),
    }


def _notes(group: _Group, count: int, padded: int) -> list[str]:
    notes = []
    if count > 1:
        notes.append(
            f"Of {count} groups of channels the longest recorded one was taken, number {group.number}"
        )
    if not group.is_original:
        notes.append("The waveform was derived from others, not recorded")
    if group.left_out:
        notes.append(f"{some(group.left_out, 'channel')} in other units left out")
    if any(channel.skew for channel in group.channels):
        notes.append("The channels were sampled less than half a sample apart, which was not corrected")
    if padded:
        notes.append(f"{some(padded, 'sample')} without a measurement stand as 0")
    return notes


def _slice(instance: Instance) -> Slice:
    return Slice(
        sop_class_uid=instance.sop_class_uid,
        sop_instance_uid=instance.sop_instance_uid,
        frame=None,
        path=instance.path,
        position_mm=None,
    )
