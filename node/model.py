"""The records that travel between the steps. Nouns only; no behaviour, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pipelines.contract import Case, Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One SOP Instance in our custody, encoded exactly as the sender sent it."""

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    transfer_syntax_uid: str
    path: Path  #: Part 10 file with our own zero preamble and meta; synced before Success
    sha256: str  #: of the encoded data set, hexadecimal; tells a re-send from a conflict
    size_bytes: int  #: of the encoded data set
    arrived_at: datetime  #: aware, UTC
    sender: str  #: calling AE title, "folder", ...
    policy: str = ""  #: name in [accept.policies] of what let it in; "": no policy
    prior: bool = False  #: fetched as a prior of something else: it starts nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The instances of one Series Instance UID as they stood when it settled."""

    uid: str
    study_uid: str
    revision: int  #: 1 the first time it settled, one more whenever instances came later
    instances: tuple[Instance, ...]
    settling: Settling | None = None  #: how it settled; None: it still arrives, or nobody decided that

    @property
    def is_prior(self) -> bool:
        """Whether all of it was fetched as an earlier study of something else: it starts nothing."""
        return bool(self.instances) and all(one.prior for one in self.instances)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many instances an archive says that a series has."""

    source: str  #: name of [sources.*]
    instances: int | None  #: 0: it has no such series, or not yet; None: it cannot say
    since: datetime  #: aware, UTC; when it was first asked and said this
    asked_at: datetime  #: aware, UTC; when it was last asked, and still said this


#: What decided: "quiet": nothing new for long enough; "count": all that an archive counts are here;
#: "patience": some never came; "operator": a person said so.
SettledBy = Literal["quiet", "count", "patience", "operator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Why a series was taken to be whole, or was no longer waited for."""

    by: SettledBy
    sentence: str  #: for people
    held: int  #: instances
    silent_s: float  #: since the newest of them
    associations: int = 0  #: that brought some and were open
    #: Name of [sources.*] -> `Count.instances`.
    counts: Mapping[str, int | None] = field(default_factory=dict)
    #: What results must say of the series: that some of it is missing, or that nobody could tell; or "".
    caution: str = ""
    is_refused: bool = False  #: nothing is computed on it, since it is not whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Why a case is not complete."""

    #: kebab-case: "input-missing", "several-candidates", "prior-unclear", "series-incomplete"
    code: str
    sentence: str  #: names the role and what the rule wanted
    roles: tuple[str, ...] = ()  #: that are bound to nothing, or not to one series alone
    wait_s: float = 0.0  #: how long it may still become complete
    #: After that time; "proceed": only optional roles are lacking, and it goes on without them.
    then: Literal["refuse", "skip", "proceed"] = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What one rule asks for: a pipeline, its inputs by role, and where results go."""

    rule: str
    pipeline: str
    #: role -> the instances of the series which the rule selected
    inputs: Mapping[str, tuple[Instance, ...]]
    send_to: tuple[str, ...]  #: names of [destinations.*]
    #: The rules that bind several series of a study, which this is the newest word of; else ().
    case: tuple[str, ...] = ()
    lack: Lack | None = None  #: ``inputs`` are not all, and some of them only one choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Where one plane of an image came from."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None  #: 1-based frame of a multi-frame instance; None for single-frame
    path: Path
    #: Image Position (Patient) of this plane, LPS; None where the image has none (a radiograph).
    position_mm: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """One input image together with the DICOM it was made from."""

    image: Image
    slices: tuple[Slice, ...]  #: one per ``image.array`` index, in the same order
    series_uid: str
    study_uid: str
    frame_of_reference_uid: str
    #: What was noticed and is tolerable, told in the report (e.g. "localizer left out").
    notes: tuple[str, ...] = ()


#: The volumes of a case: role -> volume. `images_of` gives what a pipeline sees.
Volumes = Mapping[str, Volume]


def images_of(volumes: Volumes) -> Case:
    """Return the images alone: what a pipeline is given."""
    return {role: volume.image for role, volume in volumes.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultObject:
    """One DICOM object we made, on disk, frozen."""

    kind: str  #: a key of `node.encode.kinds.KINDS`
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    transfer_syntax_uid: str
    path: Path
    sha256: str  #: of the whole file
    #: SOP Instance UIDs of sibling objects that it refers to; those are sent before it.
    refers_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What one destination answered for one object."""

    sop_instance_uid: str
    destination: str
    status: int  #: DIMSE status; 0 for a folder
    sentence: str  #: for people; "" for plain success
    at: datetime  #: aware, UTC
    #: SOP Instance UID under which it went, where the destination takes only another kind; or "".
    sent_as: str = ""
    via: str = ""  #: the alternate that took it in place of the destination, or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """What a destination is given in place of an object that it does not take as it is."""

    thing: ResultObject | None  #: None: nothing can stand in
    sentence: str  #: what it is and why; or why there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """An object of an earlier run on the same series, which the results of this one supersede."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What another pipeline outlined on the first series of a job, where that is an input of it."""

    pipeline: str
    version: str
    path: Path  #: as `node.compute.exchange.outlines` writes it
    sha256: str  #: of that file


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a worker reports of one job. The objects lie in the job's staging folder."""

    objects: tuple[ResultObject, ...]
    #: `node.profile.Profile.key` -> SOP Instance UIDs of the objects for destinations of that profile.
    profiles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    summary: tuple[Mapping[str, Any], ...] = ()  #: measurements as {"name", "value", "unit", "segment"}
    #: Answers as {"name", "value", "segment", "probability"}.
    evaluations: tuple[Mapping[str, Any], ...] = ()
    detections: tuple[Mapping[str, Any], ...] = ()  #: as {"label", "confidence"}
    segments: tuple[Mapping[str, Any], ...] = ()  #: as {"label", "voxels"}
    notes: tuple[str, ...] = ()  #: header repairs, cautions; no patient data
    outlines: str = ""  #: SHA-256 of what is kept beside the objects for other pipelines; "": nothing
    seconds: Mapping[str, float] = field(default_factory=dict)  #: per step: load, compute, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a pipeline on a series: results, or a refusal."""

    job_id: int
    outcome: Outcome  #: without objects; empty where there is a refusal
    refused: str = ""  #: its code
