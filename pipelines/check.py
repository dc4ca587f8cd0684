"""Ready-made checks that refuse an input with a reason; what a card says about its inputs, enforced.

A pipeline calls `refuse_unfit` first in its own `check` and adds what only it knows.
"""

from __future__ import annotations

import numpy as np

from pipelines.contract import Card, Case, Image, InputKind, InputRefused, InputSpec

#: Halfway from air (-1000 HU) to water (0 HU).
AIR_BELOW_HU = -500.0

_KINDS: dict[InputKind, str] = {
    "volume": "slices of one body in order",
    "planes": "images that stand for themselves",
    "cine": "the same slices over several phases",
    "waveform": "channels of samples over time",
}


def refuse_unfit(card: Card, case: Case) -> None:
    """Hold a case against its card: roles, modality, unit, age, slices, spacing, finite values.

    Raises
    ------
    InputRefused
        ``missing-input``, ``wrong-modality``, ``wrong-kind``, ``wrong-unit``, ``wrong-age``,
        ``age-unknown``, ``too-few-slices``, ``too-many-slices``, ``wrong-spacing`` or ``not-finite``.
    """
    for role, spec in card.inputs.items():
        image = case.get(role)
        if image is None and spec.optional:
            continue
        if image is None:
            raise InputRefused("missing-input", f"{card.title} needs a series for its input {role!r}.")
        _refuse_image(image, spec, card.title)


def kind_of(image: Image) -> InputKind:
    """Return of which kind an image is, as cards say it."""
    if image.is_waveform:
        return "waveform"
    if image.phases > 1:
        return "cine"
    return "volume" if image.is_spatial else "planes"


def _refuse_image(image: Image, spec: InputSpec, title: str) -> None:
    if image.modality not in spec.modality:
        raise InputRefused(
            "wrong-modality",
            f"{title} is made for {' or '.join(spec.modality)}; this series is {image.modality}.",
        )
    if (kind := kind_of(image)) != spec.kind:
        raise InputRefused(
            "wrong-kind", f"{title} needs {_KINDS[spec.kind]}; this series is of {_KINDS[kind]}."
        )
    if image.unit.value != spec.unit:
        raise InputRefused(
            "wrong-unit",
            f"{title} needs values in {spec.unit}; this series has {image.unit.value}.",
        )
    _refuse_age(image, spec, title)
    if image.slices < spec.slices_min:
        what = "channels" if image.is_waveform else "slices"
        raise InputRefused(
            "too-few-slices",
            f"The series has too few {what} ({image.slices}); {title} needs at least "
            f"{spec.slices_min}. Send the whole series.",
        )
    if spec.slices_max is not None and image.slices > spec.slices_max:
        raise InputRefused(
            "too-many-slices",
            f"The series has {image.slices} slices; {title} takes at most {spec.slices_max}.",
        )
    for axis, spacing in zip(("slice", "row", "column"), image.spacing_mm, strict=True):
        if not image.is_calibrated or (axis == "slice" and not image.is_spatial):
            continue  # it stands as 1 mm because it is not known
        low, high = spec.spacing_mm.get(axis, (0.0, float("inf")))
        if not low <= spacing <= high:
            raise InputRefused(
                "wrong-spacing",
                f"The {axis} spacing is {spacing:.2f} mm; {title} needs {low:g} to {high:g} mm. "
                "Send a reconstruction within these limits.",
            )
    if not np.isfinite(image.array).all():
        raise InputRefused("not-finite", "The series has values that are not numbers.")


def _refuse_age(image: Image, spec: InputSpec, title: str) -> None:
    """Hold the patient's age against a card; a rule cannot replace this, as it may replace ``select``."""
    if spec.age_years is None:
        return
    low, high = spec.age_years
    age = image.facts.get("PatientAgeYears")
    if not isinstance(age, int | float):
        if spec.needs_age:
            raise InputRefused(
                "age-unknown",
                f"{title} is for patients from {low:g} to {high:g} years; this series does not say the "
                "patient's age (Patient's Age). Send it with the age.",
            )
    elif not low <= age <= high:
        raise InputRefused("wrong-age", f"{title} is for patients from {low:g} to {high:g} years only.")


def refuse_unlike_ct(image: Image) -> None:
    """Refuse an image whose values cannot be Hounsfield units of a body in air.

    Every fourth voxel along each axis is looked at. Somewhere there must be air (below -500 HU) and
    water-like tissue (-200 to 200 HU), as there is in any CT that shows a chest.

    Raises
    ------
    InputRefused
        ``not-ct-values``.
    """
    sample = image.array[::4, ::4, ::4]
    air = float((sample < AIR_BELOW_HU).mean())
    tissue = float(((sample > -200.0) & (sample < 200.0)).mean())
    if air < 0.01 or tissue < 0.01:
        raise InputRefused(
            "not-ct-values",
            f"The values do not look like a CT of a body in air: {air:.0%} of the image is air-like and "
            f"{tissue:.0%} like soft tissue. Check Rescale Slope and Intercept, and whether the series "
            "is a localizer, a subtraction or a map.",
        )
