"""What is computed in a quicker way is what PyTorch and MONAI compute."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscrete, Compose, Invertd, Orientationd, Spacingd
from torch.nn import functional

from pipelines.bundle import shortcuts
from pipelines.bundle.device import pinned_to

CPU = torch.device("cpu")
#: Of the last digit of numbers around 4; where a value lies half-way between two float32, either is right.
CLOSE = {"rtol": 0.0, "atol": 5e-7}


@pytest.fixture
def axes(monkeypatch):
    """Note each axis along which the shortcut interpolates."""
    noted, ours = [], shortcuts._neighbours

    def through_ours(grid, row, count, into):
        noted.append(row)
        return ours(grid, row, count, into)

    monkeypatch.setattr(shortcuts, "_neighbours", through_ours)
    return noted


def there_and_back(affine, spacing, mode="bilinear", **more):
    """Return an image after preprocessing, and two channels made of it after its inverse."""
    steps = Compose(
        [Orientationd("image", axcodes="RAS"), Spacingd("image", pixdim=spacing, mode=mode, **more)]
    )
    values = torch.randn(1, 21, 17, 12, generator=torch.Generator().manual_seed(3))
    image = steps({"image": MetaTensor(values, affine=affine)})["image"]
    two = torch.stack([image.as_tensor()[0], 2 * image.as_tensor()[0]])
    pred = MetaTensor(two, meta=dict(image.meta), applied_operations=list(image.applied_operations))
    back = Invertd("pred", steps, "image", nearest_interp=mode == "nearest")({"pred": pred, "image": image})
    return image, back["pred"]


def affine_of(angle=0.0):
    turn = torch.tensor(angle, dtype=torch.float64)
    c, s = torch.cos(turn), torch.sin(turn)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, :3] = torch.stack(
        [torch.stack([-c, s, c * 0]), torch.stack([-s, -c, c * 0]), torch.tensor([0.0, 0.0, 1.0]).double()]
    ) @ torch.diag(torch.tensor([0.83, 0.71, 2.5]).double())
    affine[:3, 3] = torch.tensor([3.0, -4.0, 70.0])
    return affine


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 2.0), (0.31, 0.9, 4.1), (0.83, 0.71, 1.0), (30.0, 0.7, 2.5)])
@pytest.mark.parametrize("angle", [0.0, 0.4], ids=["axial", "oblique"])
@pytest.mark.parametrize("align_corners", [False, True])
def test_resampling_along_the_axes_gives_what_monai_gives(axes, spacing, angle, align_corners):
    with torch.inference_mode():
        wanted = there_and_back(affine_of(angle), spacing, align_corners=align_corners)
        with pinned_to(CPU):
            made = there_and_back(affine_of(angle), spacing, align_corners=align_corners)
    assert axes == [2, 1, 0, 2, 1, 0], "there and back"
    for one, other in zip(made, wanted, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        torch.testing.assert_close(one.as_tensor(), other.as_tensor(), **CLOSE)
        assert torch.equal(one.affine, other.affine)


@pytest.mark.parametrize(
    "more",
    [
        {"mode": "nearest"},
        {"padding_mode": "zeros"},
        {"padding_mode": "reflection"},
        {"dtype": torch.float32},
        {"diagonal": True},
    ],
    ids=str,
)
def test_what_is_not_ours_is_done_by_pytorch(axes, more):
    angle = 0.4 if "diagonal" in more else 0.0
    with torch.inference_mode():
        wanted = there_and_back(affine_of(angle), (1.5, 1.5, 2.0), **more)
        with pinned_to(CPU):
            made = there_and_back(affine_of(angle), (1.5, 1.5, 2.0), **more)
    assert axes == []
    for one, other in zip(made, wanted, strict=True):
        assert torch.equal(one.as_tensor(), other.as_tensor())


def test_gradients_go_through_pytorch():
    values = torch.rand(1, 1, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    with pinned_to(CPU):
        theta = torch.eye(3, 4, dtype=torch.float64)[None] * 0.9
        grid = functional.affine_grid(theta, [1, 1, 7, 7, 7], False)
        functional.grid_sample(values, grid, "bilinear", "border", False).sum().backward()
    assert type(grid) is torch.Tensor
    assert values.grad is not None
    assert float(values.grad.sum()) == pytest.approx(343.0)


def test_whoever_looks_at_a_grid_sees_it_and_may_change_it():
    theta = torch.eye(3, 4, dtype=torch.float64)[None] * 0.7
    size, values = [1, 1, 3, 4, 5], torch.rand(1, 1, 3, 4, 5, dtype=torch.float64)
    wanted = functional.affine_grid(theta, size, False)
    wanted[..., 0] *= -1
    with torch.inference_mode(), pinned_to(CPU):
        grid = functional.affine_grid(theta, size, False)
        assert isinstance(grid, shortcuts.Grid)
        assert grid.shape == wanted.shape
        assert grid.dtype == wanted.dtype
        grid[..., 0] *= -1
        assert torch.equal(torch.stack([grid, grid])[1], wanted)
        assert torch.equal(grid.permute(0, 4, 1, 2, 3).contiguous(), wanted.permute(0, 4, 1, 2, 3))
        made = functional.grid_sample(values, grid, "bilinear", "border", False)
    assert torch.equal(made, functional.grid_sample(values, wanted, "bilinear", "border", False))


@pytest.mark.parametrize("channels", [1, 2, 20])
def test_the_first_of_the_largest_channels_is_taken(channels):
    values = torch.randint(0, 3, (channels, 9, 8, 7), generator=torch.Generator().manual_seed(1)).float()
    values[channels // 2, 4] = float("nan")
    values[:, 5] = float("-inf")
    wanted = AsDiscrete(argmax=True)(MetaTensor(values))
    with pinned_to(CPU):
        made = AsDiscrete(argmax=True)(MetaTensor(values))
        assert torch.equal(values.argmax(0), torch.argmax(values, dim=0))
        assert int(values[0, :4].argmax()) == int(torch.max(values[0, :4].reshape(-1), 0).indices)
        assert torch.equal(values.int().argmax(1), torch.max(values.int(), 1).indices)
    assert isinstance(made, MetaTensor)
    assert torch.equal(made, wanted)
    assert made.dtype == wanted.dtype
