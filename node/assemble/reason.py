"""Why an input cannot be a faithful volume: the closed list of machine-readable reasons.

A reason is an interface: sites count and filter by it, so a value never changes its meaning.
"""

from __future__ import annotations

from enum import StrEnum

from pipelines.contract import InputRefused


class Reason(StrEnum):
    """Code of an `InputRefused` that this step raises."""

    # The objects
    INPUT_MISSING = "input-missing"  #: a role of the card has no instances
    UNREADABLE = "unreadable"  #: not DICOM, cut off, or broken beyond reading
    NO_PIXELS = "no-pixels"  #: an object that holds no image (report, plan, waveform ...)
    NOT_GREYSCALE = "not-greyscale"  #: colour, palette or inverted pixels
    COLOUR_UNKNOWN = "colour-unknown"  #: colours that cannot be told from what the object says
    NOT_DECODABLE = "not-decodable"  #: the pixel data cannot be decoded, or contradict the header
    PIXEL_BUDGET = "pixel-budget"  #: more pixels than we are willing to decode
    MODALITY_NOT_ACCEPTED = "modality-not-accepted"
    UNIT_UNKNOWN = "unit-unknown"  #: what the pixel values mean is not said
    UNIT_NOT_ACCEPTED = "unit-not-accepted"  #: known, but not what the card asks for

    # What belongs together
    SEVERAL_SERIES = "several-series"
    SEVERAL_PATIENTS = "several-patients"  #: one series, or the inputs, name more than one patient
    SEVERAL_STUDIES = "several-studies"  #: inputs of the current study are of different studies
    NO_PRIOR = "no-prior"  #: what was given as an earlier study is the current one
    CONFLICTING_INSTANCES = "conflicting-instances"  #: one SOP Instance UID, two contents
    LOCALIZER_ONLY = "localizer-only"  #: nothing but localizers and projections
    SEVERAL_VOLUMES = "several-volumes"  #: echoes, phases, b-values ... and no way to choose
    SEVERAL_SIZES = "several-sizes"  #: images that stand for themselves, of different rows x columns
    SEVERAL_WAVEFORMS = "several-waveforms"  #: several groups of channels are equally fit

    # Phases: the same slices over time
    TOO_FEW_PHASES = "too-few-phases"  #: every slice is there once
    PHASES_UNEQUAL = "phases-unequal"  #: slices with more phases than others, or with other ones
    PHASE_ORDER_UNKNOWN = "phase-order-unknown"  #: nothing tells the phases of a slice apart

    # Waveforms
    NO_WAVEFORM = "no-waveform"  #: an object without a group of channels
    TOO_FEW_CHANNELS = "too-few-channels"
    CHANNEL_SKEW = "channel-skew"  #: channels sampled at different moments

    # Geometry
    NO_GEOMETRY = "no-geometry"  #: position, orientation, spacing or frame of reference is missing
    TOO_FEW_SLICES = "too-few-slices"
    DUPLICATE_POSITION = "duplicate-position"
    SLICE_GAP = "slice-gap"
    VARIABLE_SPACING = "variable-spacing"
    GANTRY_TILT = "gantry-tilt"
    SHIFTED_SLICES = "shifted-slices"  #: slices displaced against each other within their plane
    SPACING_OUTSIDE_CARD = "spacing-outside-card"


def refused(reason: Reason, sentence: str) -> InputRefused:
    """Return the refusal to raise."""
    return InputRefused(reason.value, sentence)


def plain(value: float) -> str:
    """Return a number for a sentence: at most two decimals, no trailing zeros, no numpy types."""
    text = f"{float(value):.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def some(count: int, noun: str, *more: str) -> str:
    """Return ``"1 image"``, ``"2 images"``; what follows the noun comes after."""
    return " ".join((str(count), noun if count == 1 else f"{noun}s", *more))
