"""Lung volume and density on chest CT; needs no weights.

Measured of each lung and of both together, on the outlines given back:

* volume (mL): sum of voxels;
* mean lung density (HU);
* 15th percentile of density, Perc15 (HU): Parr, Stoel, Stolk and Stockley, "Validation of computed
  tomographic lung densitometry for monitoring emphysema in alpha1-antitrypsin deficiency", Thorax
  2006;61:485-490;
* low-attenuation area, LAA-950 (% of the volume below -950 HU): Gevenois and others, "Comparison of
  computed density and macroscopic morphometry in pulmonary emphysema", Am J Respir Crit Care Med
  1995;152:653-657; its volume (mL) is that of the third segment.

The outlines leave out windpipe and main bronchi and take in vessels and small airways. Thick slices
and sharp kernels change Perc15 and LAA-950 (Gierada and others, "Effects of CT section thickness and
reconstruction kernel on emphysema quantification", Acad Radiol 2010;17:146-156), so that is told.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.check import refuse_unfit, refuse_unlike_ct
from pipelines.contract import Card, Case, Findings, Image, InputRefused
from pipelines.lung_density.grid import make_grid
from pipelines.lung_density.lungs import LEFT, RIGHT, find_lungs, refine
from pipelines.measure import measure_segment

ROLE = "ct"
LEFT_LUNG, RIGHT_LUNG, LOW_ATTENUATION = 1, 2, 3  #: segment numbers of the card
LOW_ATTENUATION_HU = -950.0
MEASURES = ("volume", "mean", "percentile-15", "laa-950")

HEIGHT_LEAST_MM = 100.0  #: along the body; lungs of an adult are 200 mm high and more
#: A lung that still has this part of its largest cross-section on an outer plane is not whole. A tip
#: with 5 % of the cross-section holds well under 1 % of the volume.
CUT_MOST = 0.05
THICK_SLICE_MM = 3.0
NOISY_HU = 30.0
ADULT_YEARS = 16.0


class LungDensity:
    """Outline the lungs and measure their density."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.volume_min_ml = float(card.parameters.get("volume_min_ml", 1000.0))
        self.one_lung = bool(card.parameters.get("one_lung", False))

    def load(self, device: str) -> None:
        """Nothing to load: the method runs on the processor and has no weights."""

    def check(self, case: Case) -> None:
        """Refuse what is seen to be unfit before any analysis.

        Raises
        ------
        InputRefused
            As `pipelines.check`, and ``too-little-coverage``.
        """
        refuse_unfit(self.card, case)
        image = case[ROLE]
        refuse_unlike_ct(image)
        height_mm = _extent_mm(image)
        if height_mm < HEIGHT_LEAST_MM:
            raise InputRefused(
                "too-little-coverage",
                f"The series covers {height_mm:.0f} mm along the body; the whole lungs are needed. "
                "Send the whole chest.",
            )

    def analyze(self, case: Case) -> Findings:
        """Return left lung, right lung and low-attenuation area with their measurements.

        Raises
        ------
        InputRefused
            ``no-lungs``, ``no-windpipe``, ``lungs-cut-off``, ``lungs-not-whole``,
            ``lungs-not-separable``, ``one-lung`` or ``lungs-too-small``.
        """
        image = case[ROLE]
        grid = make_grid(image)
        lungs = find_lungs(grid, one_lung=self.one_lung)
        touched = _refuse_cut_ends(lungs.labels)
        labels = grid.to_source(refine(grid, lungs))
        self._refuse_small(labels, image)

        masks = np.stack([labels == LEFT, labels == RIGHT, labels > 0])
        masks[2] &= image.array < LOW_ATTENUATION_HU
        measurements = [
            *measure_segment(MEASURES, masks[0], image, segment=LEFT_LUNG),
            *measure_segment(MEASURES, masks[1], image, segment=RIGHT_LUNG),
            *measure_segment(("volume",), masks[2], image, segment=LOW_ATTENUATION),
            *measure_segment(MEASURES, labels > 0, image, union=(LEFT_LUNG, RIGHT_LUNG)),
        ]
        return Findings(
            masks=masks,
            affine=image.affine,
            role=ROLE,
            segments=self.card.segments,
            measurements=tuple(measurements),
            cautions=_cautions(image, touched, _noise_hu(image, labels)),
        )

    def _refuse_small(self, labels: NDArray[np.uint8], image: Image) -> None:
        volume_ml = np.count_nonzero(labels) * image.voxel_ml
        if volume_ml < self.volume_min_ml:
            raise InputRefused(
                "lungs-too-small",
                f"Both lungs together have {volume_ml:.0f} mL; at least {self.volume_min_ml:.0f} mL are "
                "expected of an adult in inspiration. For children lower volume_min_ml on the card.",
            )


def _extent_mm(image: Image) -> float:
    """Return how far the voxel centres reach along the body (LPS z), and one voxel more."""
    return float(np.abs(image.affine[2, :3]) @ np.array(image.array.shape))


def _refuse_cut_ends(labels: NDArray[np.uint8]) -> float:
    """Refuse lungs that go on beyond an outer plane; return the largest part that is tolerated.

    Parameters
    ----------
    labels
        0, 1 or 2 on the blocks of a grid: (feet to head, front to back, right to left).
    """
    largest = 0.0
    names = (("bottom", "top"), ("front", "back"), ("right side", "left side"))
    for axis, ends in enumerate(names):
        others = tuple(a for a in range(3) if a != axis)
        for label in (RIGHT, LEFT):
            areas = np.count_nonzero(labels == label, axis=others)
            if not areas.any():
                continue
            for end, name in zip((0, -1), ends, strict=True):
                share = float(areas[end] / areas.max())
                largest = max(largest, share)
                if share > CUT_MOST:
                    raise InputRefused(
                        "lungs-not-whole",
                        f"The {'left' if label == LEFT else 'right'} lung is cut at the {name} of the "
                        f"series: {share:.0%} of its largest cross-section lies on the outermost plane. "
                        "Send a series that shows the whole lungs.",
                    )
    return largest


def _noise_hu(image: Image, labels: NDArray[np.uint8]) -> float:
    """Return how much neighbours within a row differ in the lungs, as a standard deviation in HU.

    The median makes it blind to vessels. Noise with a coarse grain is underestimated.
    """
    steps = np.diff(image.array, axis=2)[(labels[..., 1:] > 0) & (labels[..., :-1] > 0)]
    return float(np.median(np.abs(steps))) * 1.4826 / np.sqrt(2.0) if steps.size else 0.0


def _cautions(image: Image, touched: float, noise_hu: float) -> tuple[str, ...]:
    """Return what a reader of the numbers must know about this series."""
    said = []
    if noise_hu > NOISY_HU:
        said.append(
            f"Neighbouring voxels differ by about {noise_hu:.0f} HU of noise: much of the low-attenuation "
            "area may be noise, and the 15th percentile is too low."
        )
    thickness_mm = image.facts.get("SliceThickness")
    thickness = max(image.spacing_mm) if not isinstance(thickness_mm, (int, float)) else float(thickness_mm)
    if thickness > THICK_SLICE_MM:
        said.append(
            f"Slices are {thickness:.1f} mm thick: the 15th percentile and LAA-950 are only comparable "
            f"between thin slices (at most {THICK_SLICE_MM:g} mm)."
        )
    kernel = str(image.facts.get("ConvolutionKernel", "")).strip()
    said.append(
        f"Reconstruction kernel {kernel}: sharp kernels raise LAA-950; compare only with the same kernel."
        if kernel
        else "The reconstruction kernel is not known: sharp kernels raise LAA-950."
    )
    said.append(
        "Contrast medium was given: it raises the mean density and lowers LAA-950."
        if image.facts.get("ContrastBolus") == "YES"
        else "No contrast medium is recorded; if it was given, it raises the density."
    )
    age = image.facts.get("PatientAgeYears")
    if isinstance(age, (int, float)) and age < ADULT_YEARS:
        said.append(f"The patient is {age:.0f} years old; this pipeline was made for adults.")
    said.append("The state of breathing is not known: density depends on it, and inspiration is assumed.")
    if touched > 0.0:
        said.append(
            f"A lung reaches the outermost plane of the series with {touched:.1%} of its largest "
            "cross-section: a little of its volume may be missing."
        )
    said.append(
        "Vessels and small airways inside of the lungs are counted; windpipe and main bronchi are not."
    )
    return tuple(said)
