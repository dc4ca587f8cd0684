"""What the pixel values mean, and what a model may know of the acquisition. Never identity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset

from node.assemble.frames import Frame
from node.assemble.reason import Reason, refused
from node.header.value import items_of, number_of, text_of, texts_of
from pipelines.contract import Code

HOUNSFIELD: Final = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
NO_UNITS: Final = Code("1", "UCUM", "no units")
#: Ways in which real scanners and archives write Rescale Type HU (PS3.3 C.11.1.1.2).
_HOUNSFIELD_WORDS: Final = frozenset(
    {"", "HU", "HOUNSFIELD", "HOUNSFIELD UNIT", "HOUNSFIELD UNITS", "HOUNDSFIELD UNIT"}
)
#: Units (0054,1001) of a PET series (PS3.3 C.8.9.1.1.3) -> UCUM.
PET_UNITS: Final = {
    "BQML": Code("Bq/ml", "UCUM", "Becquerels per milliliter"),
    "GML": Code("g/ml", "UCUM", "grams per milliliter"),
    "CNTS": Code("{counts}", "UCUM", "Counts"),
}

#: Copied as they are. No free text that a person types: it may name the patient.
_NUMBERS: Final = (
    "SliceThickness",
    "SpacingBetweenSlices",
    "KVP",
    "ReconstructionDiameter",
    "GantryDetectorTilt",
    "EchoTime",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "MagneticFieldStrength",
    "HeartRate",
    "FrameTime",  # ms from frame to frame of a cine of images that stand for themselves
)
_TEXTS: Final = (
    "Manufacturer",
    "ManufacturerModelName",
    "ConvolutionKernel",
    "BodyPartExamined",
    "PatientPosition",
    "PatientSex",
    "ScanningSequence",
    "MRAcquisitionType",
    "LossyImageCompression",
)
#: Where enhanced objects keep the same facts: functional group -> keyword -> our name.
_GROUPS: Final = {
    "PixelMeasuresSequence": {
        "SliceThickness": "SliceThickness",
        "SpacingBetweenSlices": "SpacingBetweenSlices",
    },
    "CTXRayDetailsSequence": {"KVP": "KVP"},
    "CTReconstructionSequence": {
        "ConvolutionKernel": "ConvolutionKernel",
        "ReconstructionDiameter": "ReconstructionDiameter",
    },
    "MREchoSequence": {"EffectiveEchoTime": "EchoTime"},
    "MRTimingAndRelatedParametersSequence": {"RepetitionTime": "RepetitionTime", "FlipAngle": "FlipAngle"},
}
_YEARS: Final = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def unit_of(frames: Sequence[Frame]) -> Code:
    """Return the unit of the rescaled values of a stack.

    A CT image that names no Rescale Type is in Hounsfield units: the attribute is required
    whenever the unit is another one (PS3.3 C.8.2.1). The rescale itself must be there.

    Raises
    ------
    InputRefused
        ``unit-unknown``.
    """
    first = frames[0]
    said = first.rescale_type
    if first.modality == "MR":
        return NO_UNITS
    if any(frame.slope is None or frame.intercept is None or frame.slope == 0 for frame in frames):
        raise refused(
            Reason.UNIT_UNKNOWN,
            "The images do not say how stored values become measured ones (Rescale Slope and Intercept).",
        )
    if first.modality == "CT" and said in _HOUNSFIELD_WORDS:
        return HOUNSFIELD
    if first.modality == "PT" and said in PET_UNITS:
        return PET_UNITS[said]
    if said == "US":  # PS3.3 C.11.1.1.2: unspecified
        raise refused(
            Reason.UNIT_UNKNOWN,
            f"The pixel values of this {first.modality or 'unknown'} series are in an unspecified unit "
            "(Rescale Type US).",
        )
    raise refused(
        Reason.UNIT_UNKNOWN,
        f"The pixel values of this {first.modality or 'unknown'} series are in {said or 'an unnamed unit'}, "
        "which this node does not know.",
    )


def facts_of(ds: Dataset) -> dict[str, float | str]:
    """Return the acquisition facts of one header: a closed list, no identity, no free text."""
    facts: dict[str, float | str] = {}
    for name in _NUMBERS:
        if (number := number_of(ds, name)) is not None:
            facts[name] = number
    for name in _TEXTS:
        if text := text_of(ds, name):
            facts[name] = text
    for holder in _first_groups(ds):
        for sequence, names in _GROUPS.items():
            for item in items_of(holder, sequence)[:1]:
                for keyword, name in names.items():
                    value = number_of(item, keyword)
                    said = value if value is not None else text_of(item, keyword)
                    if said != "":
                        facts.setdefault(name, said)
    if image_type := texts_of(ds, "ImageType"):
        facts["ImageType"] = "\\".join(image_type[:4])
    # Presence only: the agent itself is typed by hand.
    contrast = text_of(ds, "ContrastBolusAgent") or items_of(ds, "ContrastBolusAgentSequence")
    facts["ContrastBolus"] = "YES" if contrast else "NO"
    age = text_of(ds, "PatientAge")
    if re.fullmatch(r"[0-9]{3}[DWMY]", age):
        facts["PatientAgeYears"] = round(int(age[:3]) * _YEARS[age[3]], 2)
    return facts


def _first_groups(ds: Dataset) -> list[Dataset]:
    """Return the functional groups of the first frame: its own, then the shared ones."""
    holders = []
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        holders += items_of(ds, keyword)[:1]
    return holders
