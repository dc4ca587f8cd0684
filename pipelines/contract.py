"""What a pipeline is given and what it gives back.

The border between the DICOM side (`node`) and the science (`pipelines`): plain records and
numpy arrays, nothing else. A model author needs to read only this file.

Frame of reference: every affine here takes a (slice, row, column) index to millimetres in
the DICOM patient frame, which is LPS (x to the Left, y to Posterior, z to the head,
PS3.3 C.7.6.2.1.1). Pipelines that think in RAS convert with `pipelines.geometry`.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pipelines.concept import Code as Code
from pipelines.structures import structure
from pipelines.typed import made_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One input volume, ready for a model."""

    array: NDArray[np.float32]  #: (slices, rows, columns), float32, in ``unit``
    affine: NDArray[np.float64]  #: (4, 4) float64: (slice, row, column) index -> LPS millimetres
    unit: Code  #: UCUM, e.g. Code("[hnsf'U]", "UCUM", "Hounsfield unit")
    modality: str  #: "CT", "MR", "PT", "DX", "US" ...
    #: Acquisition facts a model may ask for (e.g. "SliceThickness"); never identity.
    facts: Mapping[str, float | str] = field(default_factory=dict)
    #: False: where it lies in the patient is not known (a radiograph, an ultrasound cine); each
    #: slice is then one image, and ``affine`` holds nothing but the distances of pixels.
    is_spatial: bool = True
    is_calibrated: bool = True  #: False: the distance of pixels is not known and stands as 1 mm
    #: (slices, rows, columns, 3) uint8 RGB, where the source is in colour; ``array`` is its grey.
    colour: NDArray[np.uint8] | None = None
    #: How often the same slices were taken, e.g. over a heartbeat. ``array`` then holds all slices of
    #: the first phase, all of the second ...; ``affine`` is that of one phase.
    phases: int = 1
    #: Images of one case with the same word lie in one DICOM Frame of Reference; "": not known.
    frame_of_reference: str = ""

    @property
    def slices(self) -> int:
        """Slices of one phase; index ``i`` of ``array`` is slice ``i % slices`` of phase ``i // slices``."""
        return int(self.array.shape[0]) // self.phases

    @property
    def is_waveform(self) -> bool:
        """Whether ``array`` is (channels, 1, samples) over time, so that nothing in it is a place."""
        return "sampling_hz" in self.facts

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbours along (slice, row, column), in millimetres."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0


#: The inputs of a case: role -> image. A pipeline with one input has one role.
Case = Mapping[str, Image]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One structure that a pipeline outlines."""

    number: int  #: 1, 2, 3 ... without gaps, in the order of ``Findings.segments``
    label: str  #: for people, at most 64 characters
    category: Code  #: CID 7150, e.g. Anatomical Structure
    kind: Code  #: segmented property type, e.g. Lung
    laterality: Code | None = None  #: modifier, CID 244: Right, Left, Both
    #: Where the structure lies, when ``kind`` is not itself an anatomical structure.
    anatomic_region: Code | None = None
    colour_rgb: tuple[int, int, int] = (200, 200, 200)  #: recommended display colour, 0..255


#: "point": 1 point. "line": 2 or more, open. "box": 2 opposite corners. "contour": 3 or more on
#: one slice, closed without repeating the first.
Shape = Literal["point", "line", "box", "contour"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One thing that a pipeline points at without outlining every voxel of it."""

    number: int  #: 1, 2, 3 ... without gaps, in the order of ``Findings.detections``
    label: str  #: for people, at most 64 characters
    category: Code  #: CID 7150, e.g. Morphologically Abnormal Structure
    kind: Code  #: what was found, e.g. Nodule
    shape: Shape
    #: (points, 3) float64: (slice, row, column) index; whole numbers lie at voxel centres.
    points: NDArray[np.float64]
    confidence: float | None = None  #: 0..1, as the model says it
    laterality: Code | None = None  #: CID 244
    anatomic_region: Code | None = None  #: where it lies
    colour_rgb: tuple[int, int, int] = (255, 200, 0)  #: recommended display colour, 0..255


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """One number for every voxel: a heat map, a parameter, a probability."""

    label: str  #: for people, at most 64 characters
    quantity: Code  #: what the values are, e.g. Probability, Apparent Diffusion Coefficient
    unit: Code  #: UCUM
    array: NDArray[np.float32]  #: (slices, rows, columns) float32 on the grid of the outlines
    #: Values are the probability, 0..1, that a voxel belongs to this `Segment.number`.
    segment: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number with its unit and how it was found."""

    name: Code
    value: float  #: not a number means "could not be measured"; it is reported as such
    unit: Code  #: UCUM
    segment: int | None = None  #: `Segment.number`; with no ``detection`` either: the whole image
    detection: int | None = None  #: `Detection.number`
    method: Code | None = None  #: how it was measured (concept 370129005, SCT)
    derivation: Code | None = None  #: e.g. Mean, Percentile (CID 7464)
    #: What the node can verify for itself: a key of `pipelines.measure.MEASURES`, recomputed from
    #: the encoded segment (or ``union``) and the image; None is taken as said.
    check: str | None = None
    #: With ``check`` but no ``segment``: measured over the union of these segments, e.g. both lungs.
    union: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One coded answer to one coded question (a qualitative evaluation)."""

    name: Code
    value: Code
    segment: int | None = None  #: `Segment.number`
    detection: int | None = None  #: `Detection.number`
    probability: float | None = None  #: that ``value`` is so, 0..1


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a pipeline says about a case: pixels, numbers and codes; no DICOM.

    Outlines come either as an exclusive ``labelmap`` or, where segments overlap, as ``masks``.
    """

    #: (slices, rows, columns), unsigned integer; 0 is background, n is segment number n.
    labelmap: NDArray[np.unsignedinteger] | None = None
    #: (segments, slices, rows, columns), bool; index n - 1 is segment number n.
    masks: NDArray[np.bool_] | None = None
    affine: NDArray[np.float64] | None = None  #: of the outlines; must equal the image's own
    role: str | None = None  #: whose grid all of this is on; None: the card's first role
    segments: tuple[Segment, ...] = ()
    detections: tuple[Detection, ...] = ()
    maps: tuple[Map, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    cautions: tuple[str, ...] = ()  #: sentences told to the reader of the report

    def mask(self, number: int) -> NDArray[np.bool_]:
        """Return the outline of one segment: (slices, rows, columns), bool.

        Raises
        ------
        ValueError
            There are no outlines at all.
        """
        if self.masks is not None:
            chosen: NDArray[np.bool_] = self.masks[number - 1]
            return chosen
        if self.labelmap is not None:
            equal: NDArray[np.bool_] = self.labelmap == number
            return equal
        raise ValueError("these findings carry no outlines")


class InputRefused(Exception):
    """The input is not fit for this pipeline; a person reads why.

    Parameters
    ----------
    code
        Machine-readable reason in kebab-case, stable over versions, e.g. ``"slice-gap"``.
    sentence
        For a radiographer: what was seen, what is needed, what to do.
    """

    then: ClassVar[str] = "refuse"

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{sentence} [{code}]")
        self.code = code
        self.sentence = sentence


InputKind = Literal["volume", "planes", "cine", "waveform"]
Study = Literal["current", "prior"]
GridRule = Literal["same", "resample", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What a card accepts for one role; the node refuses everything else before any model runs."""

    modality: tuple[str, ...]
    unit: str  #: UCUM code value that ``Image.unit`` must have, e.g. "[hnsf'U]"
    #: "volume": slices of one body in order; "planes": images that stand for themselves, such as
    #: radiographs, mammograms and the frames of an ultrasound cine (unit "1": display values 0..1);
    #: "cine": the same slices over several phases (`Image.phases`); "waveform": channels of samples
    #: over time, ``array`` (channels, 1, samples), with ``sampling_hz`` and ``channels`` in its facts.
    kind: InputKind = "volume"
    slices_min: int = 2
    slices_max: int | None = None
    spacing_mm: Mapping[str, tuple[float, float]] = field(default_factory=dict)  #: axis -> min, max
    age_years: tuple[float, float] | None = None  #: of the patient, min and max; others are refused
    needs_age: bool = False  #: with ``age_years``: refused as well where the age is not known
    #: Which series of a study this role wants, in the match language of rules (`node.assign.rule`);
    #: a rule's own words on a role replace it.
    select: Mapping[str, Any] = field(default_factory=dict)
    study: Study = "current"  #: "prior": of an earlier study of the patient
    #: The pipeline can do without: the role is then not in the `Case`, and the report says so. Only where
    #: a rule asks for it (``incomplete = "proceed"``), and never the first role.
    optional: bool = False
    #: The grid of the first role: "same" is needed, a different one is refused; "resample": taken to
    #: it, and told; "any": this role has its own.
    grid: GridRule = "same"
    #: Name of the pipeline whose outlines on the first role's series are this input: 0 is outside,
    #: 1, 2, 3 ... are the ``segments`` in this order (unit "1", modality "SEG"). Where several lie over
    #: each other, the last of them counts.
    result: str = ""
    segments: tuple[str, ...] = ()  #: labels of that pipeline's segments; none: all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The declaration of a pipeline, read from its ``card.toml`` without importing its code."""

    name: str  #: kebab-case, unique on a node
    version: str
    title: str  #: one line for people
    maker: str  #: who answers for the algorithm; becomes its Manufacturer
    intended_use: str
    use: str  #: "package.module:Class" of the `Pipeline`
    inputs: Mapping[str, InputSpec]  #: role -> what is accepted
    segments: tuple[Segment, ...] = ()
    detects: tuple[Code, ...] = ()  #: every `Detection.kind` that it may give
    warning: str = ""  #: told wherever a result appears, e.g. "Trained on simulated phantoms"
    measure: tuple[str, ...] = ()  #: names of `pipelines.measure` to take of every segment
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: given to the pipeline, recorded
    bundle: Mapping[str, Any] = field(default_factory=dict)  #: how to run a MONAI bundle
    folder: Path = Path()  #: where ``card.toml`` lies
    digest: str = ""  #: SHA-256 over the folder; changes when any of its files changes

    @property
    def series_inputs(self) -> Mapping[str, InputSpec]:
        """The roles that take a series; the others are results of other pipelines."""
        return {role: spec for role, spec in self.inputs.items() if not spec.result}


class CardError(Exception):
    """A card cannot be used; the sentence names the file and the key."""


def folder_digest(folder: Path) -> str:
    """Return one SHA-256 over the names and bytes of all files of a pipeline folder.

    Compiled Python files are left out: they are made by running, not by the author.
    """
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()


def read_card(path: Path) -> Card:
    """Read and check a ``card.toml``.

    Raises
    ------
    CardError
        Unreadable, a key is missing, unknown or of the wrong type, or segments are not
        numbered 1, 2, 3 ...
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        if own := raw.keys() & {"folder", "digest"}:
            raise ValueError(f"{min(own)} is found by the node, never said by a card")
        card = made_of(
            Card, _table(raw) | {"folder": path.parent.resolve(), "digest": folder_digest(path.parent)}, ""
        )
    except FileNotFoundError as error:
        raise CardError(f"There is no file {error.filename or path}") from error
    except OSError as error:
        raise CardError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOML's own errors and those of its encoding are such, too
        raise CardError(f"{path}: {error}") from error
    except RecursionError as error:
        raise CardError(f"{path}: its tables are nested too deep") from error
    if not card.inputs:
        raise CardError(f"{path}: [inputs] names no role")
    for index, (role, spec) in enumerate(card.inputs.items()):
        if spec.optional and (index == 0 or spec.result or card.bundle):
            why = (
                "the first role, which results are filed with"
                if index == 0
                else "a result of another pipeline"
                if spec.result
                else "a channel of a MONAI bundle, which takes all of them"
            )
            raise CardError(f"{path}: [inputs.{role}] cannot be optional: it is {why}")
    if [s.number for s in card.segments] != list(range(1, len(card.segments) + 1)):
        raise CardError(f"{path}: segments must be numbered 1, 2, 3 ... in this order")
    if card.use.count(":") != 1:
        raise CardError(f"{path}: use must be 'package.module:Class', not {card.use!r}")
    return card


def _table(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a card's table with its inputs and segments made; what cannot be one is left for `made_of`."""
    table = dict(raw)
    if isinstance(inputs := raw.get("inputs"), dict):
        table["inputs"] = {role: _input(role, given) for role, given in inputs.items()}
    if isinstance(segments := raw.get("segments"), list):
        table["segments"] = [_segment(given) for given in segments]
    return table


def _input(role: str, table: Any) -> InputSpec:
    """Make an input, with the defaults that rest on its other keys."""
    if isinstance(table, dict):
        if table.get("result"):
            table = {"modality": ["SEG"], "unit": "1", "slices_min": 1, **table}
        if table.get("kind", "volume") != "volume":
            table = {"slices_min": 1, **table}
    spec = made_of(InputSpec, table, f"[inputs.{role}]")
    if unknown := spec.spacing_mm.keys() - {"slice", "row", "column"}:
        raise ValueError(f"spacing_mm has no axis {sorted(unknown)[0]!r}; use slice, row, column")
    return spec


def _segment(table: Any) -> Segment:
    """Make a segment; what its ``structure`` says, its other keys replace."""
    if isinstance(table, dict) and "structure" in table:
        if not isinstance(table["structure"], str):
            raise ValueError("[[segments]] structure is a name of pipelines/structures.csv in quotes")
        row = structure(table["structure"])
        named = {f.name: getattr(row, f.name) for f in fields(row)}
        table = {key: value for key, value in {**named, **table}.items() if key not in ("name", "structure")}
    return made_of(Segment, table, "[[segments]]")


@runtime_checkable
class Pipeline(Protocol):
    """The four moments of a pipeline; its card is the first and is a file."""

    def __init__(self, card: Card) -> None: ...

    def load(self, device: str) -> None:
        """Get ready once per process: read weights onto ``device`` ("cpu", "cuda:0")."""

    def check(self, case: Case) -> None:
        """Raise `InputRefused` when the case is not what the pipeline was made for."""

    def analyze(self, case: Case) -> Findings:
        """Say what is seen. May raise `InputRefused` for what only the analysis can see."""
