"""Of which kind a bundle's inputs and results are: what may be concluded, and by what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pipelines.codes import BACKGROUND
from pipelines.draft.said import Said, Tensor

#: What bundles call a modality, in DICOM's terms.
_MODALITIES: Final = {
    "ct": "CT", "mr": "MR", "mri": "MR", "pet": "PT", "pt": "PT", "us": "US", "ultrasound": "US",
    "mammogram": "MG", "mammography": "MG", "mg": "MG", "x-ray": "DX", "xray": "DX", "cxr": "DX", "dx": "DX",
    "cr": "CR", "ecg": "ECG", "ekg": "ECG", "endoscopy": "ES",
}  # fmt: skip
#: The unit of values as the node gives them, by modality.
UNITS: Final = {"CT": "[hnsf'U]", "PT": "g/ml", "ECG": "mV"}
#: What else a unit could have been, where a modality has several.
_OTHER_UNITS: Final = {"PT": "CONFIRM: UCUM; that of standardized uptake values (SUV), Bq/ml for activity"}
_PROJECTIONS: Final = frozenset({"MG", "DX", "CR", "ES", "XC", "SM"})
_COLOURS: Final = ({"r", "g", "b"}, {"red", "green", "blue"})


@dataclass(frozen=True, slots=True)
class Guess:
    """A word for a card, and how it came about."""

    word: str
    #: "": the bundle says so; "MISSING: ..." or "CONFIRM: ..." otherwise.
    note: str = ""


def modality_of(image: Tensor) -> Guess:
    """Return the modality of an input."""
    known = _MODALITIES.get(image.modality, "")
    if known:
        return Guess(known)
    said = f"the bundle says {image.modality!r}" if image.modality else "the bundle does not say it"
    return Guess("", f"MISSING: the DICOM Modality, such as CT, MR, DX, ES; {said}")


def modalities_of(image: Tensor, count: int) -> tuple[Guess, ...]:
    """Return the modality of each of ``count`` roles; "CT, PT" is one for each, in this order."""
    known = [_MODALITIES.get(one.strip(), "") for one in image.modality.split(",")]
    if count < 2 or len(known) != count or not all(known):
        return (modality_of(image),) * count
    note = f"CONFIRM: in the order of the channels; the bundle says {image.modality!r}"
    return tuple(Guess(one, note) for one in known)


def unit_of(modality: str) -> Guess:
    """Return the unit of the values of a modality."""
    if not modality:
        return Guess("1", "CONFIRM: UCUM; '1' where the values have none")
    return Guess(UNITS.get(modality, "1"), _OTHER_UNITS.get(modality, ""))


def is_colour(image: Tensor) -> bool:
    """Say whether the channels of an input are those of a coloured picture."""
    names = {name.lower() for name in image.names.values()}
    return image.format == "rgb" or any(colours <= names for colours in _COLOURS)


def kind_of(image: Tensor, modality: str, config: str) -> Guess:
    """Return the kind of an input, as cards say it."""
    if modality in _PROJECTIONS or is_colour(image):
        return Guess("planes")
    if modality == "ECG":
        return Guess("waveform")
    if image.axes == 2 and "SliceInferer" in config:
        return Guess("volume", "CONFIRM: the network sees slice by slice; 'cine' for slices over a heartbeat")
    if image.axes == 2:
        return Guess("volume", "CONFIRM: the network sees pictures: volume, cine or planes")
    return Guess("volume")


def output_of(said: Said) -> Guess:
    """Return the kind of the result, as `pipelines.bundle.terms.Output` names it, and why."""
    config = said.config_text
    if not said.outputs:
        return Guess("", "MISSING: what comes out; the metadata say nothing of it")
    if any(word in {t.type, t.format} for t in said.inputs for word in ("noise", "latent")):
        return Guess("", "MISSING: an output; it makes images out of noise, and so analyses none")
    if {"moving image", "fixed image"} & {n.lower() for t in said.inputs for n in t.names.values()}:
        return Guess("", "MISSING: an output; it registers two images, which is no finding")
    pred = said.outputs[0]
    if "horizontal_vertical" in {t.name for t in said.outputs} or "instance_map" in config:
        return Guess("instances", "CONFIRM: the configuration speaks of a map of instances")
    if pred.format == "dict" or pred.type == "object" or "ConvertBoxMode" in config:
        return Guess("boxes", "CONFIRM: the results are objects with boxes")
    if pred.format in ("points", "normals"):
        return Guess("points")
    if _scores(pred, said):
        return Guess("scores", "CONFIRM: one number for each class, since nothing is saved as an image")
    if pred.format in ("magnitude", "image", "hounsfield", "raw"):
        return Guess("image", f"CONFIRM: the format of the result is {pred.format!r}")
    return _outline(pred, config)


def frame_of(config: str) -> Guess:
    """Return in which coordinates boxes or points come out, as `pipelines.bundle.terms.Frame` names it."""
    if "BoxToWorldCoordinate" not in config:
        said = "nothing takes them out of the image that the network saw"
        word = "network"
    elif _is_set("affine_lps_to_ras", config):
        word, said = "lps-mm", "the configuration takes boxes to the world, and the world to LPS"
    else:
        word, said = "ras-mm", "the configuration takes boxes to the world"
    return Guess(word, f"CONFIRM: {said}; ras-mm, lps-mm, source or network")


def box_mode_of(image: Tensor, config: str) -> Guess:
    """Return how boxes come out, as `pipelines.bundle.terms.BOX_MODES` names it."""
    converted = re.findall(r"dst_mode\W+([xyzcwhd]{4,6})\b", config)
    word = converted[-1] if converted else "xyxy" if image.axes == 2 else "xyzxyz"
    said = "the configuration converts to it" if converted else "nothing is said of it"
    return Guess(word, f"CONFIRM: the order of a box's values, as MONAI names it; {said}")


def _scores(pred: Tensor, said: Said) -> bool:
    if pred.format in ("classes", "classification"):
        return True
    writes = re.search(r"SaveImage|Invertd", said.config_text) is not None
    return pred.format == "labels" and not writes and bool(said.inputs) and said.inputs[0].axes == 2


def _outline(pred: Tensor, config: str) -> Guess:
    names = {number: name.lower() in BACKGROUND for number, name in pred.names.items()}
    count = pred.channels or 1
    argmax, onehot, above = _is_set("argmax", config), "to_onehot" in config, "threshold" in config
    if argmax:
        word = "one-hot" if re.search(r"to_onehot\W+[1-9]", config) else "labels"
        return Guess(
            word, f"CONFIRM: the configuration has argmax {'and' if onehot else 'without'} to_onehot"
        )
    if above and names == {0: True, 1: False}:
        claim = f"; the metadata claim {count} channels: 'one-hot' if there are" if count > 1 else ""
        return Guess("labels", f"CONFIRM: a threshold on one channel gives 0, background, and 1{claim}")
    if above and count > 1 and names.get(0):
        return Guess("one-hot", "CONFIRM: the configuration has a threshold, and channel 0 is background")
    if above and count > 1:
        return Guess("channels", "CONFIRM: the configuration has a threshold and no argmax")
    flat = pred.format in ("segmentation", "labels") and count == 1
    if (above or flat) and names == {0: False}:
        return Guess("channels", "CONFIRM: the network gives one channel, and channel 0 is a structure")
    if above or flat:
        return Guess("labels", "CONFIRM: the network gives one channel")
    if "igmoid" in config or "oftmax" in config:
        return Guess("probabilities", "CONFIRM: the configuration has neither argmax nor threshold")
    return Guess("", f"MISSING: what comes out; its format is {pred.format!r}")


def _is_set(key: str, config: str) -> bool:
    """Say whether a key is true somewhere in a configuration, JSON or YAML."""
    return re.search(rf"{key}['\"]?\s*:\s*\[?\s*['\"$]*[Tt]rue", config) is not None
