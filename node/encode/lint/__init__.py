"""The last word before anything is sent: objects as they lie on disk, against every rule we know.

    whole    every object, and the set of them
    codes    every code and text of an object
    seg      Segmentations
    sr       reports

The judges of the field (dciodvfy, DCMTK, dcmqi) miss a report that a viewer shows blank, a
missing tracking identifier, a segmentation in a foreign study (viewers.md section 7); this lint
does not. It runs in production (standards R-49): an object with a fault is not sent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import pydicom
from pydicom.dataset import Dataset

from node.encode.header import UNREADABLE
from node.encode.lint.codes import code_faults
from node.encode.lint.key_objects import key_objects_faults
from node.encode.lint.parametric_map import parametric_map_faults
from node.encode.lint.presentation_state import presentation_state_faults
from node.encode.lint.render import pdf_faults, secondary_capture_faults
from node.encode.lint.rtstruct import rtstruct_faults
from node.encode.lint.seg import fractional_faults, seg_faults
from node.encode.lint.sr import air_faults, measurement_faults, segments_faults, text_faults
from node.encode.lint.whole import SHARED, object_faults, set_faults
from node.encode.material import Material, NotApplicable
from node.errors import EncodeError
from node.model import ResultObject

Judge = Callable[[Dataset, ResultObject, Material], Iterator[str]]

#: Kind of object -> who looks for the faults that only this kind can have.
JUDGES: Mapping[str, Judge] = {
    "seg": seg_faults,
    "fractional": fractional_faults,
    "parametric-map": parametric_map_faults,
    "rtstruct": rtstruct_faults,
    "presentation-state": presentation_state_faults,
    "secondary-capture": secondary_capture_faults,
    "pdf": pdf_faults,
    "key-objects": key_objects_faults,
    "sr-measurements": measurement_faults,
    "sr-text": text_faults,
    "sr-air": air_faults,
    "sr-segments": segments_faults,
}


def lint(objects: Sequence[ResultObject], material: Material, *, judged: set[str]) -> None:
    """Judge the objects of one profile.

    Parameters
    ----------
    material
        As it was when the last object was made.
    judged
        SOP Instance UIDs of objects that were found in order before; grows.

    Raises
    ------
    EncodeError
        Something is wrong; the sentence lists every fault.
    """
    found = list(faults(objects, material, judged=judged))
    if found:
        raise EncodeError("the result is not fit to be sent: " + "; ".join(found))


def faults(
    objects: Sequence[ResultObject], material: Material, *, judged: set[str] | None = None
) -> Iterator[str]:
    """Yield every fault as a sentence without patient data; parameters as in `lint`."""
    judged = set() if judged is None else judged
    headers: list[Dataset] = []  # what is compared between objects: the rest of one may be a gigabyte
    for result in objects:
        found = [] if result.sop_instance_uid in judged else list(faults_of(result, material))
        yield from (f"{result.kind}: {fault}" for fault in found)
        judged |= {result.sop_instance_uid} if not found else set()
        with contextlib.suppress(*UNREADABLE):  # which was said above
            headers.append(pydicom.dcmread(result.path, specific_tags=list(SHARED)))
    yield from set_faults(objects, headers)


def faults_of(result: ResultObject, material: Material) -> Iterator[str]:
    """Yield every fault of one object by itself."""
    try:
        dataset = pydicom.dcmread(result.path, defer_size="1 MB")
        yield from object_faults(dataset, result, material)
        yield from code_faults(dataset, material)
        yield from JUDGES[result.kind](dataset, result, material)
    except (EncodeError, NotApplicable) as error:
        yield str(error)
    except UNREADABLE as error:  # a damaged object: some attribute is absent or malformed
        told = f": {error}" if isinstance(error, AttributeError) else ""  # others may quote values
        yield f"cannot be judged, {type(error).__name__}{told}"
