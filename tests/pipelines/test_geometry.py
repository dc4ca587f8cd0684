"""LPS and RAS meet once, and every voxel keeps its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, Orientation, Spacing
from scipy.spatial.transform import Rotation

from pipelines.contract import Code, Image
from pipelines.geometry import (
    GeometryChanged,
    channels_from_metatensor,
    from_metatensor,
    ras_affine,
    to_metatensor,
)
from tests.phantoms import asymmetric_phantom, make_affine, to_world, write_ct_series

HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def image_of(array, affine):
    return Image(array=np.asarray(array, np.float32), affine=affine, unit=HU, modality="CT")


@st.composite
def images(draw):
    """Return an image of any orientation, handedness, spacing and shape."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    shape = tuple(draw(st.integers(2, 7)) for _ in range(3))
    turn = Rotation.random(random_state=seed % 2**31).as_matrix()
    if draw(st.booleans()):
        turn[:, 0] *= -1  # slices against the right-hand rule
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.3, 6, 3)
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    return image_of(rng.normal(size=shape), affine)


@given(images(), st.data())
@settings(max_examples=60, deadline=None)
def test_every_voxel_has_the_same_value_at_the_same_point_of_the_patient(image, data):
    tensor = to_metatensor(image)
    index = tuple(data.draw(st.integers(0, n - 1)) for n in image.array.shape)
    lps = image.affine @ [*index, 1]
    x, y, z = np.rint(np.linalg.solve(tensor.affine.numpy(), LPS_RAS @ lps)[:3]).astype(int)
    assert tensor[0, x, y, z].item() == image.array[index]
    assert np.allclose(LPS_RAS @ tensor.affine.numpy() @ [x, y, z, 1], lps, atol=1e-9)


@given(images())
@settings(max_examples=60, deadline=None)
def test_there_and_back_is_the_same_array(image):
    assert np.array_equal(from_metatensor(to_metatensor(image), image), image.array)
    assert np.array_equal(from_metatensor(to_metatensor(image, copy=True), image), image.array)


@given(images())
@settings(max_examples=30, deadline=None)
def test_monai_turns_it_to_ras_and_its_inverse_lands_on_the_source_grid(image):
    turn = Compose([Orientation(axcodes="RAS"), Spacing(pixdim=image.spacing_mm[::-1], mode="nearest")])
    back = turn.inverse(turn(to_metatensor(image)))
    assert from_metatensor(back, image).shape == image.array.shape


@pytest.mark.parametrize("orientation", ["axial", "oblique"])
def test_it_equals_what_monais_own_dicom_reader_gives(tmp_path, orientation):
    affine = make_affine(orientation)
    phantom = asymmetric_phantom((7, 20, 16), affine)
    write_ct_series(tmp_path, phantom.array_hu, affine)
    theirs = LoadImage(reader="PydicomReader", ensure_channel_first=True)(tmp_path)
    ours = to_metatensor(image_of(phantom.array_hu, affine))
    assert theirs.shape == ours.shape
    # The reader sorts by InstanceNumber, as the series was written.
    assert torch.equal(theirs.as_tensor(), ours.as_tensor())
    if orientation == "axial":  # for oblique slices the reader misplaces them, see standards.md 0.6
        assert np.allclose(theirs.affine, ours.affine, atol=1e-4)
    assert theirs.meta["space"] == ours.meta["space"]
    assert np.array_equal(theirs.meta["spatial_shape"], ours.meta["spatial_shape"])
    assert set(ours.meta) <= {*theirs.meta, "original_channel_dim"}


def test_the_tensor_shares_memory_unless_a_copy_is_asked_for():
    image = image_of(np.zeros((3, 4, 5)), make_affine())
    assert np.shares_memory(to_metatensor(image).numpy(), image.array)
    copied = to_metatensor(image, copy=True)
    copied += 1
    assert not image.array.any()


def test_read_only_and_reversed_arrays_are_taken_and_stay_untouched():
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    array.flags.writeable = False
    for view in (array, array[::-1], array[:, ::-1, ::-1]):
        image = image_of(view, make_affine())
        tensor = to_metatensor(image)
        tensor += 1
        assert np.array_equal(from_metatensor(tensor, image), view + 1)
    assert array[0, 0, 0] == 0


def test_the_centroid_of_a_mask_in_ras_is_the_one_in_lps():
    affine = make_affine("oblique")
    phantom = asymmetric_phantom((9, 24, 20), affine)
    tensor = to_metatensor(image_of(phantom.mask, affine))
    index = np.argwhere(tensor[0].numpy() > 0).mean(axis=0)
    ras = (tensor.affine.numpy() @ [*index, 1])[:3]
    assert np.allclose(ras * [-1, -1, 1], phantom.centroid_mm, atol=1e-9)
    assert np.allclose(to_world(affine, np.argwhere(phantom.mask).mean(axis=0)), phantom.centroid_mm)


def test_a_shifted_flipped_or_cropped_result_is_not_taken():
    image = image_of(np.zeros((4, 4, 4)), make_affine(spacing_mm=(1.0, 1.0, 1.0)))
    good = to_metatensor(image)
    shifted = good.clone()
    shifted.affine[0, 3] += 0.02
    flipped = good.flip(1)
    flipped.affine = good.affine @ np.diag([-1.0, 1, 1, 1])
    for wrong in (shifted, flipped):
        with pytest.raises(GeometryChanged, match="mm away"):
            from_metatensor(wrong, image)
    with pytest.raises(GeometryChanged, match="shape"):
        from_metatensor(good[:, :3], image)
    with pytest.raises(GeometryChanged, match="plain tensor"):
        from_metatensor(good.as_tensor(), image)
    nowhere = good.clone()
    nowhere.affine[0, 0] = np.nan
    with pytest.raises(GeometryChanged):
        from_metatensor(nowhere, image)


def test_channels_stay_apart_and_one_is_asked_for_explicitly():
    image = image_of(np.random.default_rng(0).normal(size=(2, 3, 4)), make_affine())
    one = to_metatensor(image)
    two = MetaTensor(torch.cat([one.as_tensor(), one.as_tensor() * 2]), affine=one.affine)
    channels = channels_from_metatensor(two, image)
    assert channels.shape == (2, 2, 3, 4)
    assert np.array_equal(channels[1], image.array * 2)
    with pytest.raises(GeometryChanged, match="2"):
        from_metatensor(two, image)


def test_the_affine_of_an_axial_head_first_supine_image_points_the_way_monai_expects():
    affine = make_affine("axial", spacing_mm=(3.0, 2.0, 1.0), origin_mm=(-10.0, -20.0, 30.0))
    assert np.allclose(ras_affine(affine), [[-1, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
