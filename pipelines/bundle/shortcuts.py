"""Quicker ways on processors to what transforms spend most of their time with; the results are equal.

A case of 512 x 512 x 200 voxels and a small network: of 27 s, PyTorch took 9 s for the passes and 11 s
for these two.

* The largest of some channels: ``torch.max`` finds it about seven times faster than ``torch.argmax``.
* Resampling along the axes (MONAI's Spacing and its inverse): PyTorch writes down three coordinates for
  every voxel and looks up eight neighbours; here each axis is interpolated by itself, slice by slice.

They are called by torch's own hook (`pipelines.bundle.device.pinned_to`), so no transform is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

#: Off the axes, in halves of the image: what is left of a rotation by rounding.
_ALONG_AXES = 1e-12


def argmax(given: torch.Tensor, dim: int | None = None, keepdim: bool = False) -> torch.Tensor:
    """Return what ``torch.argmax`` does: of equals the first, and not-a-number above all."""
    if dim is None or given.is_cuda or not given.dtype.is_floating_point:
        return torch.argmax(given, dim, keepdim)
    return torch.max(given, dim, keepdim).indices


class Grid(torch.Tensor):
    """Where to sample: (1, slices, rows, columns, 3), not written down before somebody looks."""

    theta: torch.Tensor  #: (1, 3, 4): as for `torch.nn.functional.affine_grid`
    align_corners: bool
    written: torch.Tensor | None

    @staticmethod
    def __new__(cls: type[Grid], theta: torch.Tensor, size: Sequence[int], align_corners: bool) -> Grid:
        """Return the grid for an image of ``size`` (1, channels, slices, rows, columns)."""
        made: Grid = torch.Tensor._make_wrapper_subclass(
            cls, (1, *size[2:], 3), dtype=theta.dtype, device=theta.device
        )
        made.theta, made.align_corners, made.written = theta.clone(), align_corners, None
        return made

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Write it down for whoever looks at it; what is changed there stays changed."""
        named = {name: _written(value) for name, value in (kwargs or {}).items()}
        return func(*map(_written, args), **named)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own hint lacks the class
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Any = None,
    ) -> Any:
        """As above, for what comes from below."""
        return cls.__torch_function__(func, types, args, kwargs)


def _written(value: Any) -> Any:
    if isinstance(value, list | tuple):  # what is stacked, or indices
        return type(value)(map(_written, value)) if any(isinstance(one, Grid) for one in value) else value
    if not isinstance(value, Grid):
        return value
    if value.written is None:
        with torch._C.DisableTorchFunctionSubclass():
            size = [1, 1, *value.shape[1:4]]
        value.written = functional.affine_grid(value.theta, size, value.align_corners)
    return value.written


def affine_grid(theta: torch.Tensor, size: Sequence[int], align_corners: bool | None = None) -> torch.Tensor:
    """Return what ``torch.nn.functional.affine_grid`` does, unwritten if it lies along the axes."""
    is_ours = theta.shape == (1, 3, 4) and len(size) == 5 and not theta.is_cuda and min(size) > 0
    if not is_ours or torch.is_grad_enabled() or theta.dtype != torch.float64:
        return functional.affine_grid(theta, list(size), align_corners)
    across = theta[0, :, :3] - torch.diag(theta[0, :, :3].diagonal())
    if not bool(across.abs().max() < _ALONG_AXES):
        return functional.affine_grid(theta, list(size), align_corners)
    return Grid(theta, size, bool(align_corners))


def grid_sample(
    input: torch.Tensor,
    grid: torch.Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> torch.Tensor:
    """Return what ``torch.nn.functional.grid_sample`` does."""
    if (
        not isinstance(grid, Grid)
        or grid.written is not None
        or (mode, padding_mode) != ("bilinear", "border")
        or input.dtype != torch.float64
        or bool(align_corners) != grid.align_corners
    ):
        return functional.grid_sample(input, _written(grid), mode, padding_mode, align_corners)
    with torch._C.DisableTorchFunctionSubclass():
        shape = grid.shape[1:4]
    (lows, highs, shares), rows, columns = (
        _neighbours(grid, 2 - axis, count, input.shape[2 + axis]) for axis, count in enumerate(shape)
    )
    made = input.new_empty((*input.shape[:2], *shape))
    for index, (low, high, share) in enumerate(
        zip(lows.tolist(), highs.tolist(), shares.tolist(), strict=True)
    ):
        plane = torch.lerp(input[0, :, low], input[0, :, high], share)  # (channels, rows, columns)
        plane = torch.lerp(plane[..., columns[0]], plane[..., columns[1]], columns[2])
        above, below = plane.index_select(1, rows[0]), plane.index_select(1, rows[1])
        torch.lerp(above, below, rows[2][:, None], out=made[0, :, index])
    return made


def _neighbours(
    grid: Grid, row: int, count: int, into: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return for each place along one axis its two neighbours in an image of ``into``, and where between.

    As PyTorch defines it: -1 and 1 are the outer edges of the image, or the centres of its first and last
    voxel if ``align_corners``; beyond, the image goes on as at its border.
    """
    if grid.align_corners:
        base = torch.linspace(-1.0, 1.0, count, dtype=torch.float64) if count > 1 else torch.zeros(1).double()
    else:
        base = (torch.arange(count, dtype=torch.float64) * 2 + 1) / count - 1
    place = grid.theta[0, row, row] * base + grid.theta[0, row, 3]
    at = (place + 1) / 2 * (into - 1) if grid.align_corners else ((place + 1) * into - 1) / 2
    at = at.clamp(0, into - 1)
    low = at.floor().clamp(max=max(into - 2, 0))
    return low.long(), (low.long() + 1).clamp(max=into - 1), at - low


#: What torch's hook calls in place of what.
SHORTCUTS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.argmax: argmax,
    torch.Tensor.argmax: argmax,
    functional.affine_grid: affine_grid,
    functional.grid_sample: grid_sample,
}
