"""What a card says about a MONAI bundle; whether the bundle's files agree is `pipelines.bundle.files`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pipelines.bundle.expect import Expectation, read_expectation
from pipelines.concept import Code
from pipelines.contract import Card, CardError
from pipelines.measure import MEASURES
from pipelines.pins import refuse_pin
from pipelines.typed import made_of

#: What comes out after post-processing:
#:
#: "labels"         one channel of label values
#: "one-hot"        one exclusive channel per class, 0 or 1 everywhere
#: "channels"       one channel per segment, 0 or 1 everywhere; they may overlap
#: "probabilities"  one channel per segment, 0..1: a map each, and an outline above ``threshold``
#: "scores"         one number per answer: a class, or several where each has its own question
#: "boxes"          boxes with labels and scores
#: "points"         landmarks, in a fixed order
#: "image"          a generated or restored image: one map
#: "instances"      a map of instances, and beside it a map of their types (`Terms.type_key`)
Output = Literal[
    "labels", "one-hot", "channels", "probabilities", "scores", "boxes", "points", "image", "instances"
]
#: What some bundles give and no card can make a finding of, and why.
REFUSED_OUTPUTS = {
    "latent": "a latent has no meaning to a reader; use a bundle that decodes it",
    "registration": "a transformation is no finding; register before the node, or outline afterwards",
}
#: Outputs of which each segment of the card is one.
OUTLINES = ("labels", "one-hot", "channels", "probabilities")
#: In which coordinates a bundle says boxes and points: millimetres of the patient, or indices of the
#: axes (column, row, slice) of the source or of the prepared image that the network saw.
Frame = Literal["ras-mm", "lps-mm", "source", "network"]
Explain = Literal["occlusion", "gradient", "gradcam"]
#: What goes through the bundle at once: everything; each slice as a picture without depth; each phase
#: of a cine as a volume.
Each = Literal["case", "slice", "phase"]
#: How the author's reader gave pictures: one channel of display values 0..1, or of bytes 0..255; red,
#: green and blue as bytes 0..255, or 0..1. Grey pictures become three equal channels, coloured ones
#: their luminance.
Colour = Literal["grey", "grey255", "rgb255", "rgb1"]

#: `Terms.each` where a card says nothing, by the kind of its first input.
EACH_OF_KIND: dict[str, Each] = {"volume": "case", "planes": "slice", "cine": "phase", "waveform": "case"}
#: How boxes may be written, as MONAI names it, in the order of axes (column, row, slice).
BOX_MODES = ("xyzxyz", "xxyyzz", "xyxyzz", "xyzwhd", "cccwhd", "xyxy", "xxyy", "xywh", "ccwh")
MOST = 5000  #: boxes; a report with more helps nobody

#: Where a bundle may keep each role: first where its own evaluator or dataset takes it from, which is
#: what really runs, then the id of `monai.bundle.properties.InferProperties`. The last three are
#: rarely there, and a card may add them as overrides:
#:
#: "prepare_batch"  (batch, device, non_blocking) -> inputs, targets and, with four, args and kwargs
#:                  of the inferer; as MONAI's evaluators call it
#: "item"           a table of further entries of the item, such as the prompts of a promptable network
#: "setup"          expressions that are evaluated once everything is built
PLACES: dict[str, tuple[str, ...]] = {
    "preprocessing": ("dataset::transform", "preprocessing"),
    "network_def": ("evaluator::network", "network", "network_def"),
    "inferer": ("evaluator::inferer", "inferer"),
    "postprocessing": ("evaluator::postprocessing", "postprocessing"),
    "prepare_batch": ("evaluator::prepare_batch",),
    "item": (),
    "setup": ("evaluator::_requires_", "initialize"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Find:
    """What one answer, point, label of a box or map means."""

    label: str  #: for people
    code: Code  #: an answer's value or, where several answers may hold, its question; else what it is
    category: Code | None = None  #: boxes and points: CID 7150
    anatomic_region: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The ``[bundle]`` table of a card: what the bundle itself cannot say, or must not decide."""

    output: Output
    folder: str = "."  #: of the bundle, relative to the card
    config: tuple[str, ...] = ()  #: files merged in this order; default configs/inference.json, .yaml
    weights: str = ""  #: e.g. "models/model.pt"; empty only for a network without parameters
    weights_sha256: str = ""
    channels: tuple[str, ...] = ()  #: the segments' names in the bundle's channel_def; default: labels
    values: tuple[int, ...] = ()  #: "labels": the value that means each segment; default 1, 2, 3 ...
    unused: tuple[int, ...] = ()  #: values or channels that the bundle names, but cannot give as it is run
    #: Label of a segment -> names of `pipelines.measure` that are taken of it alone.
    measure: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nothing: tuple[int, ...] = ()  #: "labels": values besides 0 that mean no segment, such as 255
    #: "one-hot" and "probabilities": channel 0 is what is not outlined; default: of "one-hot" alone.
    background: bool | None = None
    roles: Mapping[str, str] = field(default_factory=dict)  #: a key of `PLACES` -> id in the configuration
    #: Id in the configuration -> value; "+id" adds to a list or a table, as between its files.
    overrides: Mapping[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()  #: ids taken out of the configuration, e.g. of arguments that are no more
    result: str = ""  #: key of the result, where the bundle would save several
    expects: tuple[Expectation, ...] = ()
    #: role -> the key by which the bundle loads it; roles of one key become its channels, in the
    #: card's order. Default: all roles are channels of the bundle's image.
    keys: Mapping[str, str] = field(default_factory=dict)
    #: File of the bundle -> "sha256:..." or "md5:...": what a card that was not written for this very
    #: folder expects. That of ``weights`` is held once, before ``weights_sha256`` is written.
    pins: Mapping[str, str] = field(default_factory=dict)
    threshold: float = 0.5  #: from which on a probability or score counts
    question: Code | None = None  #: "scores" of one class: what is asked; the answers are `answers`
    answers: tuple[Find, ...] = ()  #: "scores": the meaning of each channel, in their order
    finds: tuple[Find, ...] = ()  #: "boxes": the meaning of label 0, 1 ...; "points": of each point
    frame: Frame = "source"  #: of boxes and points, which must say it
    box_mode: str = "xyzxyz"  #: how a box is written, as MONAI names it (`monai.data.box_utils`)
    #: "boxes": the keys of boxes, labels and scores in the caught result.
    box_keys: tuple[str, str, str] = ("box", "label", "label_scores")
    map: Find | None = None  #: "image": what the values are
    unit: Code | None = None  #: "image": their unit, UCUM
    explain: Explain | None = None  #: a map of what an answer rests on
    explain_layer: str = ""  #: "gradcam": the layer of the network, by its name in ``named_modules()``
    #: Default: a volume or a waveform as a whole, pictures one by one, a cine phase by phase.
    each: Each | None = None
    colour: Colour = "grey"
    #: Where the bundle's transforms find the case. An accelerator resamples far quicker, if all of the
    #: transforms can work there and its memory holds the whole case; where it does not, they go on here.
    transforms: Literal["host", "device"] = "host"
    padding: float | None = None  #: outside of a resampled input; default: its lowest value
    #: "scores" of several pictures: the mean over them, or the highest; default: "mean" with a
    #: ``question``, else "highest", since what is seen once is there.
    combine: Literal["mean", "highest"] | None = None
    most: int = 100  #: "boxes" and "instances": at most so many are told, those of the highest scores
    #: "points": (points, axes) or (axes, points), after an axis of slices if there are several.
    points_first: bool = True
    instance_key: str = "instance_map"  #: "instances": their key in the caught result
    type_key: str = "type_map"  #: "instances": the key of their types, 1, 2 ... for `finds`; "": one type

    @property
    def has_background(self) -> bool:
        """Whether channel 0 of a segment per channel is none of them."""
        return self.output == "one-hot" if self.background is None else self.background


def read_terms(card: Card) -> Terms:
    """Return the ``[bundle]`` table of a card.

    Raises
    ------
    CardError
        A key is missing, unknown, of a wrong type, or contradicts the segments.
    """
    try:
        terms = made_of(Terms, _table(card), "[bundle]")
        for pin in terms.pins.values():
            refuse_pin(pin)
    except ValueError as error:
        raise CardError(f"{card.name}: {error}") from error
    _refuse_words(card, terms)
    _refuse_outlines(card, terms)
    _refuse_measures(card, terms)
    _refuse_meanings(card, terms)
    _refuse_inputs(card, terms)
    return terms


def _table(card: Card) -> dict[str, Any]:
    """Return the table with what it may leave out or shorten; what is of a wrong type is left as it is."""
    table = dict(card.bundle)
    output = table.get("output")
    if output in tuple(REFUSED_OUTPUTS):
        raise ValueError(f"a bundle that gives a {output} cannot be used: {REFUSED_OUTPUTS[output]}")
    if output not in get_args(Output):
        raise ValueError(f"[bundle] output must be one of {', '.join(get_args(Output))}")
    if isinstance(config := table.get("config"), str):
        table["config"] = [config]
    if not table.get("channels", ()) and output in OUTLINES:
        table["channels"] = [segment.label.lower() for segment in card.segments]
    if isinstance(expects := table.get("expects"), list):
        table["expects"] = [read_expectation(one) for one in expects]
    return table


def _refuse_words(card: Card, terms: Terms) -> None:
    if unknown := terms.roles.keys() - PLACES.keys():
        raise CardError(
            f"{card.name}: [bundle.roles] has no {sorted(unknown)[0]!r}; it knows {', '.join(PLACES)}"
        )
    if unknown := terms.keys.keys() - card.inputs.keys():
        raise CardError(f"{card.name}: [bundle.keys] names {sorted(unknown)[0]!r}, which is no input")
    if not 0.0 <= terms.threshold <= 1.0:
        raise CardError(f"{card.name}: [bundle] threshold is {terms.threshold:g}, not from 0 to 1")
    if not 0 < terms.most <= MOST:
        raise CardError(f"{card.name}: [bundle] most is {terms.most}, not from 1 to {MOST}")


def _refuse_outlines(card: Card, terms: Terms) -> None:
    """Hold the segments of the card against an output that outlines them, or does not."""
    if terms.output not in OUTLINES:
        if card.segments:
            raise CardError(f"{card.name}: output = {terms.output!r} outlines nothing; drop the segments")
        return
    if not card.segments:
        raise CardError(f"{card.name}: the card describes no segments; output = {terms.output!r} needs them")
    for key, given in (("channels", terms.channels), ("values", terms.values)):
        if given and (len(given) != len(card.segments) or len(set(given)) != len(given)):
            raise CardError(
                f"{card.name}: [bundle] {key} must name each of {len(card.segments)} segments once"
            )
    if terms.background is not None and terms.output not in ("one-hot", "probabilities"):
        raise CardError(
            f"{card.name}: [bundle] background is for output = 'one-hot' or 'probabilities', not "
            f"{terms.output!r}"
        )
    meant = (*terms.values, *terms.nothing)
    if any(not 0 < value < 2**16 for value in meant):
        raise CardError(f"{card.name}: [bundle] values and nothing must be whole numbers from 1 to 65535")
    if not set(terms.nothing).isdisjoint(terms.values or range(1, len(card.segments) + 1)):
        raise CardError(f"{card.name}: [bundle] nothing names a value that means a segment")


def _refuse_measures(card: Card, terms: Terms) -> None:
    labels = [segment.label for segment in card.segments]
    for label, names in terms.measure.items():
        if label not in labels:
            raise CardError(
                f"{card.name}: [bundle.measure] names {label!r}, which is the label of no segment"
            )
        if unknown := set(names) - MEASURES.keys():
            raise CardError(f"{card.name}: [bundle.measure] has no {sorted(unknown)[0]!r}")


def _refuse_meanings(card: Card, terms: Terms) -> None:
    """Ask for the meaning of what is no outline."""
    if terms.output == "scores":
        if not terms.answers:
            raise CardError(f"{card.name}: output = 'scores' needs [[bundle.answers]], one for each score")
        if terms.question and len(terms.answers) < 2:
            raise CardError(f"{card.name}: a [bundle] question has two [[bundle.answers]] or more")
        if terms.channels and len(terms.channels) != len(terms.answers):
            raise CardError(f"{card.name}: [bundle] channels must name each of the answers once")
    elif terms.explain:
        raise CardError(f"{card.name}: [bundle] explain is for output = 'scores'")
    if terms.explain == "gradcam" and not terms.explain_layer:
        raise CardError(f"{card.name}: explain = 'gradcam' needs explain_layer, a layer of the network")
    if terms.output in ("boxes", "points", "instances"):
        if not terms.finds:
            raise CardError(
                f"{card.name}: output = {terms.output!r} needs [[bundle.finds]], one for each label or point"
            )
        declared = {code[:2] for code in card.detects}
        for find in terms.finds:
            if find.category is None:
                raise CardError(f"{card.name}: [[bundle.finds]] {find.label!r} needs a category (CID 7150)")
            if find.code[:2] not in declared:
                raise CardError(f"{card.name}: [[detects]] lacks {find.code.meaning!r} of [[bundle.finds]]")
    if terms.output in ("boxes", "points") and "frame" not in card.bundle:
        raise CardError(
            f"{card.name}: output = {terms.output!r} needs [bundle] frame, one of "
            f"{', '.join(get_args(Frame))}: in which coordinates they come out"
        )
    if terms.output == "boxes" and terms.box_mode not in BOX_MODES:
        raise CardError(f"{card.name}: [bundle] box_mode is one of {', '.join(BOX_MODES)}")
    if terms.output == "image" and (terms.map is None or terms.unit is None):
        raise CardError(f"{card.name}: output = 'image' needs [bundle.map] and [bundle.unit]: what it shows")


def _refuse_inputs(card: Card, terms: Terms) -> None:
    """Hold the kinds of inputs against how they are to go through the bundle."""
    first, *others = card.inputs
    kind = card.inputs[first].kind
    each = terms.each or EACH_OF_KIND[kind]
    if (each == "phase") > (kind == "cine") or (kind == "waveform" and each != "case"):
        raise CardError(f"{card.name}: [bundle] each = {each!r} does not fit an input of kind {kind!r}")
    if terms.colour != "grey" and kind != "planes":
        raise CardError(f"{card.name}: [bundle] colour = {terms.colour!r} is for an input of kind 'planes'")
    if terms.frame in ("ras-mm", "lps-mm") and (kind != "volume" or each == "slice"):
        raise CardError(
            f"{card.name}: [bundle] frame = {terms.frame!r} needs a volume; pictures have no place in "
            "millimetres: use 'source' or 'network'"
        )
    if kind == "waveform" and (terms.explain or terms.output not in ("scores",)):
        raise CardError(f"{card.name}: of a waveform only output = 'scores' without explain can be told")
    for role in others:
        own = terms.keys.get(role, "") not in ("", terms.keys.get(first, ""))
        if card.inputs[role].grid == "any" and not own:
            raise CardError(
                f"{card.name}: the input {role!r} has a grid of its own and cannot become a channel of "
                f"{first!r}; give it its own key in [bundle.keys]"
            )
        if card.inputs[role].grid == "any" and each != "case":
            raise CardError(f"{card.name}: the input {role!r} with any grid does not fit each = {each!r}")
