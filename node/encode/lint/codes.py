"""Every code and every text of an object: known, consistent, and such that it can be written (C-08).

What was copied from the source is not judged here: it is the hospital's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr._concepts_dict import concepts

from node.encode import repair
from node.encode.items import code_of
from node.encode.material import Material
from pipelines.contract import Code

#: Coding schemes of PS3.16 Table 8-1 that were retired; SCT took the place of the first three.
RETIRED_SCHEMES = frozenset({"SRT", "SNM3", "99SDM", "SNOMED-RT", "NCDR [2.0b]", "NYUMCCG", "I9"})
#: Concepts that are told under a caption of ours beside the number, see `node.encode.numbers`.
CAPTIONED = frozenset({("112031", "DCM")})
#: VR -> most characters of one value, of a person's name of one component group (PS3.5 6.2).
LONGEST = {**repair.LONGEST, "DS": 16, "IS": 12}
TEXT_VRS = frozenset({"SH", "LO", "ST", "LT", "UT", "UC", "PN"})
JUDGED_VRS = TEXT_VRS | LONGEST.keys() | {None}  #: None: pydicom has yet to find out
#: Pixels, contours and documents hold neither codes nor text.
BULK = frozenset(
    tag_for_keyword(k) for k in ("PixelData", "FloatPixelData", "ContourData", "EncapsulatedDocument")
)
#: Frames, contours and drawings repeat the same codes and texts by the thousand; so many are looked at.
LOOKED_AT = 2
REPETITIVE = frozenset({"PerFrameFunctionalGroupsSequence", "ContourSequence", "GraphicObjectSequence"})


def code_faults(dataset: Dataset, material: Material) -> Iterator[str]:
    """Yield a sentence for every code or text that is not fit to be read by others."""
    copied = _codes(material.header.dataset) | {c for r in material.header.requests for c in _codes(r)}
    declared = {
        str(scheme.get("CodingSchemeDesignator"))
        for scheme in dataset.get("CodingSchemeIdentificationSequence") or ()
    }
    codes: dict[Code, None] = {}
    texts: dict[str, None] = {}
    for item in _everything(dataset):
        if "CodeMeaning" in item:
            codes[code_of(item)] = None
        else:
            texts |= dict.fromkeys(_text_faults(item))
    for code in codes:
        if code[:2] not in copied:
            yield from _faults_of(code, declared)
    yield from texts


def written_faults(dataset: Dataset) -> Iterator[str]:
    """Yield a sentence for every text that cannot be written as its value representation asks."""
    yield from dict.fromkeys(fault for item in _everything(dataset) for fault in _text_faults(item))


def _faults_of(code: Code, declared: Collection[str]) -> Iterator[str]:
    what = f"the code {code.value} {code.scheme}"
    if not all(code):
        yield f"{what} lacks a value, a scheme or a meaning"
    elif code.scheme in RETIRED_SCHEMES:
        yield f"{what} is of a retired scheme"
    elif code.scheme.startswith("99") and code.scheme not in declared:
        yield f"{what} is private, but its scheme is not declared"
    elif code[:2] not in CAPTIONED and not _agrees_with_standard(code):
        yield f"{what} does not mean {code.meaning!r}"


def _text_faults(dataset: Dataset) -> Iterator[str]:
    """Look at the text in one data set or item, not in the items below it."""
    for tag in dataset.keys() - BULK:
        if dataset.get_item(tag).VR not in JUDGED_VRS:  # not decoded for nothing
            continue
        element = dataset[tag]
        values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
        for value in values:
            text = "" if value is None else str(value)
            yield from (f"{element.keyword} {fault}" for fault in _text_fault(text, element.VR))


def _text_fault(text: str, vr: str) -> Iterator[str]:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        yield "cannot be written in UTF-8"
        return
    if not text.isprintable():
        allowed = "\r\n\t\f\x1b" if vr in repair.RUNNING_TEXT else "\x1b"
        if any(ord(c) < 32 and c not in allowed for c in text):
            yield "holds a control character"
    parts = text.split("=") if vr == "PN" else [text]
    if any(len(part) > LONGEST.get(vr, len(part)) for part in parts):
        yield "is longer than its value representation allows"


@cache
def _meanings(scheme: str) -> dict[str, frozenset[str]]:
    """Return what PS3.16 has each code of a scheme mean: value -> meanings."""
    found: dict[str, set[str]] = {}
    entries: Mapping[str, Mapping[str, tuple[str, list[int]]]] = concepts.get(scheme, {})  # type: ignore[assignment]
    for codes in entries.values():
        for value, (meaning, _) in codes.items():
            found.setdefault(value, set()).add(meaning)
    return {value: frozenset(meanings) for value, meanings in found.items()}


def _agrees_with_standard(code: Code) -> bool:
    if code.scheme == "UCUM":  # a unit is its own meaning; in words it is said in many ways
        return True
    known = _meanings(code.scheme).get(code.value)
    return known is None or any(_agree(code.meaning, meaning) for meaning in known)


def _agree(said: str, known: str) -> bool:
    """Whether two meanings differ in wording alone: one has all the words of the other.

    "Lung" and "Lung structure" agree, "Gluteus minimus" and "Gluteus medius" do not.
    """
    one, other = (
        frozenset(word.removesuffix("s") for word in re.findall(r"[^\W_]+", text.lower()))
        for text in (said, known.rsplit(" (", 1)[0])  # SNOMED names the hierarchy in parentheses
    )
    return bool(one and other) and (one <= other or other <= one)


def _codes(dataset: Dataset) -> set[tuple[str, str]]:
    return {code_of(item)[:2] for item in _everything(dataset) if "CodeMeaning" in item}


def _everything(dataset: Dataset) -> Iterator[Dataset]:
    """Yield a data set and every item below it; of those that are all alike, the first ones."""
    yield dataset
    for tag in sorted(dataset.keys() - BULK):
        if dataset.get_item(tag).VR in ("SQ", None, "UN"):
            element = dataset[tag]
            if element.VR == "SQ":
                many = element.keyword in REPETITIVE
                for item in element.value[:LOOKED_AT] if many else element.value:
                    yield from _everything(item)
