"""Where the lungs are on a chest CT: classical image analysis, no training, no weights.

The steps follow Hu, Hoffman and Reinhardt, "Automatic lung segmentation for accurate quantitation of
volumetric X-ray CT images", IEEE Trans Med Imaging 2001;20(6):490-498: air inside of the body, less
the large airways, parted into left and right, with a smooth surface. The airways are grown under
explosion control after Mori and others, ICPR 1996. Components and holes are MONAI's transforms.

The lungs end at their smoothed surface: vessels and airways inside of it belong to them, as is
customary for lung volume and density; windpipe and main bronchi do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from monai.transforms import FillHoles, KeepLargestConnectedComponent
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels, watershed

from pipelines.contract import InputRefused
from pipelines.lung_density.airways import find_airways
from pipelines.lung_density.grid import Grid

Mask = NDArray[np.bool_]  #: (feet to head, front to back, right to left)

#: Halfway between lung in inspiration (about -850 HU) and soft tissue (about 50 HU), so that partial
#: volume moves the surface neither in nor out.
AIR_HU = -400.0
#: Gas without tissue between it, as in stomach and colon; lung with severe emphysema stays above.
GAS_HU = -965.0
#: How far the lungs are pressed in until they part; they may touch in front of the heart.
PRESSES_MM = (2.0, 3.0, 4.5, 6.5, 8.0, 10.0, 12.0, 15.0, 18.0, 22.0)
SMOOTHING_MM = 6.0  #: radius of the closing that takes vessels at the surface into the lung
RELIEF_HU_PER_MM = 10.0  #: how shape weighs against tissue where the lungs are parted
LUNG_LEAST_ML = 100.0  #: a smaller piece is not taken for a lung
PIECE_LEAST_ML = 5.0  #: a smaller piece apart from the lungs may as well be air in the oesophagus
OTHER_LUNG_LEAST = 0.1  #: of the larger lung's volume; below this there is only one lung
ONE_SIDE = 0.75  #: a piece with more of itself on one side of the body is not both lungs
RIGHT, LEFT = 1, 2  #: labels here, in the order of the x axis


@dataclass(frozen=True, slots=True)
class Lungs:
    """The lungs on the blocks of a grid."""

    labels: NDArray[np.uint8]  #: 0, RIGHT or LEFT
    excluded: Mask  #: windpipe, main bronchi and gas in the gut: never lung
    outside: Mask  #: air around the body


def find_lungs(grid: Grid, *, one_lung: bool = False) -> Lungs:
    """Find both lungs on the blocks of a grid.

    Parameters
    ----------
    one_lung
        Accept a chest with a single lung.

    Raises
    ------
    InputRefused
        ``no-lungs``, ``no-windpipe``, ``lungs-cut-off``, ``one-lung`` or ``lungs-not-separable``.
    """
    air = grid.hu < AIR_HU
    outside = around_body(air)
    body = find_body(grid)
    _refuse_cut_sides(grid, outside, body)
    inside = _within(air & ~outside, _between(body, 1) & _between(body, 2), 0.5 / grid.block_ml)
    if np.count_nonzero(inside) * grid.block_ml < 2 * LUNG_LEAST_ML:
        raise InputRefused(
            "no-lungs",
            "No lungs were found: there is too little air inside of the body. This pipeline needs a CT of "
            "the whole chest.",
        )
    airways = find_airways(grid, inside)
    wall = ball_dilated(airways, 2.0, grid.spacing_mm)
    rest = inside & ~wall
    depth_mm = ndimage.distance_transform_edt(rest, sampling=grid.spacing_mm)
    markers, gas = _markers(depth_mm, grid, one_lung)
    # Basins lie deep in the lungs; the ridge is tissue between them, or else the narrowest place.
    relief = ndimage.gaussian_filter(grid.hu, 0.7) - RELIEF_HU_PER_MM * depth_mm
    flooded = watershed(relief, markers, mask=rest).astype(np.uint8)  # type: ignore[no-untyped-call]
    flooded[flooded > LEFT] = 0
    excluded = wall | (gas & (flooded == 0))
    _adopt_pieces(flooded, rest & ~excluded, grid)
    return Lungs(_smoothed(flooded, excluded, grid), excluded, outside)


def refine(grid: Grid, lungs: Lungs) -> NDArray[np.uint8]:
    """Decide the surface of the lungs voxel by voxel.

    Blocks well inside of a lung are lung, vessels included. Within one block of its surface a voxel
    is lung if it is air-like. Returns labels in the shape of ``grid.full_hu``.
    """
    reach = 1.01 * max(grid.spacing_mm)
    near = _spread(lungs.labels, reach, grid)
    near[lungs.excluded & (lungs.labels == 0)] = 0
    solid = lungs.labels > 0
    deep = ndimage.binary_erosion(solid, structure=np.ones((3, 3, 3)), border_value=1)
    labels = np.empty(grid.full_hu.shape, dtype=np.uint8)
    for index in range(len(labels)):
        block = index // grid.factors[0]
        lung_like = grid.full_hu[index] < AIR_HU
        lung_like |= grid.enlarge(deep[block], index)
        labels[index] = grid.enlarge(near[block], index) * lung_like
    return labels


def _spread(labels: NDArray[np.uint8], distance_mm: float, grid: Grid) -> NDArray[np.uint8]:
    """Give everything within a distance of a label the nearest label."""
    spread: NDArray[np.uint8] = expand_labels(  # type: ignore[no-untyped-call]
        labels, distance=distance_mm, spacing=grid.spacing_mm
    )
    return spread


def around_body(air: Mask) -> Mask:
    """Return the air around the body: what reaches the sides of its own axial plane.

    Planes are taken one by one, so that air which comes in through mouth and windpipe stays inside.
    """
    in_plane = np.zeros((3, 3, 3), dtype=bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(air, structure=in_plane)
    at_side = np.zeros(count + 1, dtype=bool)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        at_side[side.ravel()] = True
    at_side[0] = False
    outside: Mask = at_side[labels]
    return outside


def ball_dilated(mask: Mask, radius_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    """Return everything within ``radius_mm`` of a mask (at least its direct neighbours)."""
    grown: Mask = ndimage.binary_dilation(mask)
    box = ndimage.find_objects(grown.astype(np.uint8))
    if box:
        margin = [int(np.ceil(radius_mm / s)) + 1 for s in spacing_mm]
        part = tuple(slice(max(0, b.start - m), b.stop + m) for b, m in zip(box[0], margin, strict=True))
        grown[part] |= ndimage.distance_transform_edt(~mask[part], sampling=spacing_mm) <= radius_mm
    return grown


def find_body(grid: Grid) -> Mask:
    """Return the largest piece of tissue once shells as thin as those of a table are worn away."""
    tissue = _opened(grid.hu > -200.0, 4.0, grid.spacing_mm)
    body: Mask = np.asarray(KeepLargestConnectedComponent(connectivity=1)(tissue[np.newaxis]))[0].astype(bool)
    return body


def _opened(mask: Mask, radius_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    """Return a mask without what is thinner than a box of twice the radius."""
    sizes = [2 * max(1, round(radius_mm / s)) + 1 for s in spacing_mm]
    worn: Mask = ndimage.maximum_filter(ndimage.minimum_filter(mask, sizes), sizes)
    return worn


def _between(mask: Mask, axis: int) -> Mask:
    """Return what lies between the first and the last element along an axis."""
    before = np.maximum.accumulate(mask, axis=axis)
    behind = np.flip(np.maximum.accumulate(np.flip(mask, axis), axis=axis), axis)
    spanned: Mask = before & behind
    return spanned


def _within(mask: Mask, region: Mask, least_blocks: float) -> Mask:
    """Return the pieces of a mask that lie mostly in a region and are no specks, whole."""
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    shared = np.bincount(pieces[region], minlength=count + 1)
    keep = (shared > 0.5 * sizes) & (sizes >= least_blocks)
    keep[0] = False
    kept: Mask = keep[pieces]
    return kept


def _refuse_cut_sides(grid: Grid, outside: Mask, body: Mask) -> None:
    """Refuse a field of view that cuts through lung: lung-like matter open to the image's side.

    Mattresses are as light as lung but have body on one side only; skin and sheets are thinner than
    the opening.
    """
    calm = ndimage.uniform_filter(grid.hu, [max(1, round(7.0 / s)) for s in grid.spacing_mm])
    like_lung = outside & (calm > -925.0) & (calm < -550.0)
    like_lung &= _between(body, 1) | _between(body, 2)
    like_lung = _opened(like_lung, 6.0, grid.spacing_mm)
    cut_ml = np.count_nonzero(like_lung) * grid.block_ml
    if cut_ml > 50.0:
        raise InputRefused(
            "lungs-cut-off",
            f"The field of view cuts through the lungs: about {cut_ml:.0f} mL of lung-like tissue reach the "
            "side of the image. Send a reconstruction that shows the whole chest.",
        )


def _markers(depth_mm: NDArray[np.float64], grid: Grid, one_lung: bool) -> tuple[NDArray[np.int32], Mask]:
    """Return seeds of right lung, left lung and gas, and where the gas is.

    The lungs are pressed thinner until they come apart, because they may touch in front of the heart.
    """
    gas = np.zeros(depth_mm.shape, dtype=bool)
    middle = float(np.median(np.nonzero(grid.hu > -200.0)[2]))
    # The first press wears off at least one block everywhere, so that a thin diaphragm parts as well.
    presses = [p for p in PRESSES_MM if p > 1.01 * max(grid.spacing_mm)]
    for press_mm in presses:
        cores, count = ndimage.label(depth_mm > press_mm)
        if not count:
            break
        pieces = _pieces(cores, count, grid, middle)
        gas |= np.isin(cores, [piece.label for piece in pieces if piece.median_hu < GAS_HU])
        if press_mm == presses[0]:
            continue
        lung_like = [piece for piece in pieces if piece.median_hu >= GAS_HU]
        if not lung_like or lung_like[0].volume_ml < LUNG_LEAST_ML / 2:
            break
        first = lung_like[0]
        if 1.0 - ONE_SIDE < first.right_share < ONE_SIDE:
            continue  # it is on both sides: press on
        on_right = first.right_share > 0.5
        opposite = [piece for piece in lung_like if (piece.right_share > 0.5) != on_right]
        if opposite and opposite[0].volume_ml >= OTHER_LUNG_LEAST * first.volume_ml:
            right, left = (first, opposite[0]) if on_right else (opposite[0], first)
            return _as_markers(cores, {right.label: RIGHT, left.label: LEFT}, gas), gas
        if one_lung:
            return _as_markers(cores, {first.label: RIGHT if on_right else LEFT}, gas), gas
        raise InputRefused(
            "one-lung",
            f"Only a {'right' if on_right else 'left'} lung with air was found. This pipeline measures both "
            "lungs; after removal or collapse of a lung its values would mislead.",
        )
    else:
        raise InputRefused(
            "lungs-not-separable",
            "Left and right lung could not be told apart. Please look at the series: a large air leak or "
            "a chest cut by the image could be the cause.",
        )
    raise InputRefused(
        "no-lungs",
        "No lungs were found: the air inside of the body is not shaped like lungs. This pipeline needs a "
        "CT of the whole chest.",
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    """One connected piece of a labelled array."""

    label: int
    box: tuple[slice, slice, slice]
    volume_ml: float
    median_hu: float
    right_share: float  #: of its volume that lies to the right of ``middle``


def _pieces(labels: NDArray[np.int32], count: int, grid: Grid, middle: float = 0.0) -> list[_Piece]:
    """Return the pieces of at least 0.2 mL, the largest first; ``middle`` is a column."""
    volumes_ml = np.bincount(labels.ravel(), minlength=count + 1) * grid.block_ml
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if volumes_ml[label] >= 0.2:
            inside = labels[box] == label
            right = float(np.mean(box[2].start + np.nonzero(inside)[2] < middle))
            median = float(np.median(grid.hu[box][inside]))
            found.append(_Piece(label, box, float(volumes_ml[label]), median, right))
    return sorted(found, key=lambda piece: -piece.volume_ml)


def _as_markers(cores: NDArray[np.int32], lungs: dict[int, int], gas: Mask) -> NDArray[np.int32]:
    """Return the seeds of a watershed: cores as the lungs that they are, and gas as something else."""
    markers = np.where(gas, LEFT + 1, 0).astype(np.int32)
    for core, label in lungs.items():
        markers[cores == core] = label
    return markers


def _adopt_pieces(labels: NDArray[np.uint8], free: Mask, grid: Grid) -> None:
    """Give pieces of lung that lie apart to the nearer lung; gut below the lungs' middle is left."""
    apart, count = ndimage.label(free & (labels == 0))
    low = np.percentile(np.nonzero(labels)[0], 25)
    near = _spread(labels, 10.0, grid)
    for piece in _pieces(apart, count, grid):
        inside = apart[piece.box] == piece.label
        height = piece.box[0].start + float(np.nonzero(inside)[0].mean())
        if piece.volume_ml < PIECE_LEAST_ML or piece.median_hu < GAS_HU + 25.0 or height < low:
            continue
        owners = np.bincount(near[piece.box][inside], minlength=LEFT + 1)
        if owners[1:].any():
            labels[piece.box][inside] = 1 + int(owners[1:].argmax())


def _smoothed(labels: NDArray[np.uint8], excluded: Mask, grid: Grid) -> NDArray[np.uint8]:
    """Close and fill each lung on its own; what both claim stays with the one that had it."""
    result = labels.copy()
    margin = [int(np.ceil(SMOOTHING_MM / s)) + 2 for s in grid.spacing_mm]
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        part = tuple(slice(max(0, b.start - m), b.stop + m) for b, m in zip(box, margin, strict=True))
        lung = np.pad(labels[part] == label, [(m, m) for m in margin])
        distance = ndimage.distance_transform_edt(~lung, sampling=grid.spacing_mm)
        closed = (
            ndimage.distance_transform_edt(distance <= SMOOTHING_MM, sampling=grid.spacing_mm) > SMOOTHING_MM
        )
        closed |= lung
        filled = np.asarray(FillHoles(connectivity=1)(closed[np.newaxis].astype(np.uint8)))[0] > 0
        filled = filled[tuple(slice(m, -m) for m in margin)]
        result[part][filled & (result[part] == 0) & ~excluded[part]] = label
    return result
