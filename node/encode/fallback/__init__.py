"""Stand-ins: a finished object as another kind, for a destination that does not take its SOP Class.

    binary       a label map as a Segmentation of one bit per pixel
    reports      one class of structured report as another
    picture      a parametric map as a colour picture
    references   what refers to a replaced object refers to its stand-in

Whatever refers to a replaced object becomes a stand-in too, under a UID of its own: one UID never
has two contents. The same object gives the same stand-in, byte for byte, whenever it is made.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
    SegmentationStorage,
)

import node
from node.durable import sync_folder
from node.encode.common import save
from node.encode.fallback.binary import to_binary
from node.encode.fallback.picture import to_picture
from node.encode.fallback.references import point_at
from node.encode.fallback.reports import to_class
from node.encode.header import UNREADABLE
from node.encode.identity import derived_uid
from node.encode.lint.alone import lint_alone
from node.encode.material import NotApplicable
from node.errors import EncodeError
from node.model import ResultObject, StandIn
from node.profile import LABELMAP_CLASS

Convert = Callable[[Dataset, str], None]

#: SOP Class -> what can stand in for it, the best first.
LADDERS: Mapping[str, tuple[str, ...]] = {
    LABELMAP_CLASS: (SegmentationStorage,),
    Comprehensive3DSRStorage: (ComprehensiveSRStorage, EnhancedSRStorage, BasicTextSRStorage),
    ComprehensiveSRStorage: (Comprehensive3DSRStorage, EnhancedSRStorage, BasicTextSRStorage),
    EnhancedSRStorage: (ComprehensiveSRStorage, Comprehensive3DSRStorage, BasicTextSRStorage),
    ParametricMapStorage: (MultiFrameTrueColorSecondaryCaptureImageStorage,),
}
_CONVERT: Mapping[str, Convert] = {LABELMAP_CLASS: to_binary, ParametricMapStorage: to_picture}


def stand_ins(
    objects: Sequence[ResultObject], earlier: Mapping[str, ResultObject], taken: Mapping[str, bool]
) -> dict[str, StandIn]:
    """Return what goes in place of each object that cannot go to a destination as it is.

    Stand-ins are files beside the objects, synced, and stay there as long as these do.

    Parameters
    ----------
    objects
        What the destination is owed, each after those that it refers to.
    earlier
        SOP Instance UID of a sibling -> the stand-in that the destination took for it before.
    taken
        SOP Class UID -> whether the destination takes it; one that is not in it counts as taken.

    Returns
    -------
    dict
        SOP Instance UID -> its stand-in, or why there is none.
    """
    found: dict[str, StandIn] = {}
    replaced = dict(earlier)
    for thing in objects:
        swaps = {uid: replaced[uid] for uid in thing.refers_to if uid in replaced}
        if taken.get(thing.sop_class_uid, True) and not swaps:
            continue
        one = _stand_in(thing, swaps, taken)
        found[thing.sop_instance_uid] = one
        if one.thing is not None:
            replaced[thing.sop_instance_uid] = one.thing
    return found


def _stand_in(thing: ResultObject, swaps: Mapping[str, ResultObject], taken: Mapping[str, bool]) -> StandIn:
    refused = not taken.get(thing.sop_class_uid, True)
    ladder = [c for c in LADDERS.get(thing.sop_class_uid, ()) if taken.get(c)] if refused else [None]
    why = f"it takes no {_name(thing.sop_class_uid)}"
    if not ladder:
        return StandIn(thing=None, sentence=f"I{why[1:]}, nor anything that could stand in for it.")
    obstacles = []
    for target in ladder:
        try:
            made = _made(thing, target or thing.sop_class_uid, swaps)
        except NotApplicable as error:
            obstacles.append(str(error))
            continue
        except EncodeError as error:
            obstacles.append(f"It cannot be converted: {error}.")
            continue
        except UNREADABLE as error:
            obstacles.append(f"It cannot be converted ({type(error).__name__}).")
            continue
        why = why if refused else "it refers to an object that went as another kind"
        sentence = f"Sent as {_name(made.sop_class_uid)} {made.sop_instance_uid}, because {why}."
        return StandIn(thing=made, sentence=sentence)
    told = f"I{why[1:]}. " if refused else ""
    return StandIn(thing=None, sentence=told + " ".join(dict.fromkeys(obstacles)))


def _made(thing: ResultObject, target: str, swaps: Mapping[str, ResultObject]) -> ResultObject:
    """Make a stand-in, or find the one that was made before."""
    seeds = [
        node.__version__,
        target,
        *(f"{old} {new.sop_instance_uid}" for old, new in sorted(swaps.items())),
    ]
    uid = derived_uid("stand-in", thing.sop_instance_uid, *seeds)
    path = thing.path.with_name(f"{uid}.dcm")
    if not path.exists():
        dataset = pydicom.dcmread(thing.path)
        dataset.SOPInstanceUID = uid
        dataset.SeriesInstanceUID = derived_uid("stand-in series", thing.series_uid, *seeds)
        if target != thing.sop_class_uid:
            dataset.SOPClassUID = target
            _CONVERT.get(thing.sop_class_uid, to_class)(dataset, target)
        point_at(dataset, swaps)
        _write(dataset, path, thing.kind)
    return _described(thing, path, swaps)


def _write(dataset: Dataset, path: Path, kind: str) -> None:
    """Write a file that appears whole or not at all; two senders may be at the same one."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        lint_alone(save(dataset, part, kind=kind))
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _described(thing: ResultObject, path: Path, swaps: Mapping[str, ResultObject]) -> ResultObject:
    header = pydicom.dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return replace(
        thing,
        sop_instance_uid=str(header.SOPInstanceUID),
        sop_class_uid=str(header.SOPClassUID),
        series_uid=str(header.SeriesInstanceUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        path=path,
        sha256=digest,
        refers_to=tuple(swaps[u].sop_instance_uid if u in swaps else u for u in thing.refers_to),
    )


def _name(sop_class_uid: str) -> str:
    return "Label Map Segmentation Storage" if sop_class_uid == LABELMAP_CLASS else UID(sop_class_uid).name
