"""The image is handed over in the shape which the author's own loader would have given."""

from __future__ import annotations

from math import isnan

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirst, EnsureChannelFirstd, LoadImage, LoadImaged

from pipelines.bundle.steps import compose_of, first_of


def picture(channels=3, shape=(7, 5)):
    tensor = torch.arange(channels * torch.Size(shape).numel(), dtype=torch.float32)
    return MetaTensor(tensor.reshape(channels, *shape), meta={"original_channel_dim": 0})


@pytest.mark.parametrize("channel_dim", [-1, 2, 0, None])
def test_colours_lie_where_the_author_looks_for_them(channel_dim):
    keyed = compose_of([LoadImaged("image"), EnsureChannelFirstd("image", channel_dim=channel_dim)])
    plain = compose_of([LoadImage(), EnsureChannelFirst(channel_dim=channel_dim)])
    given = picture()
    load = keyed.transforms[0]
    assert load({"image": given})["image"].shape == {None: (3, 7, 5), 0: (3, 7, 5)}.get(
        channel_dim, (7, 5, 3)
    )
    assert torch.equal(keyed({"image": given})["image"], given)
    assert torch.equal(plain(given), given)


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 4), (7, 5, 4, 3)], ids=["picture", "volume", "cine"])
@pytest.mark.parametrize("channel_dim", [None, "no_channel"])
def test_grey_images_come_without_a_channel(shape, channel_dim):
    given = picture(1, shape)
    steps = compose_of([LoadImaged("image"), EnsureChannelFirstd("image", channel_dim=channel_dim)])
    bare = steps.transforms[0]({"image": given})["image"]
    assert bare.shape == shape
    assert isnan(bare.meta["original_channel_dim"])
    assert torch.equal(steps({"image": given})["image"], given)


def test_grey_pictures_too_have_a_channel_where_the_author_names_its_place():
    steps = compose_of([LoadImaged("image"), EnsureChannelFirstd("image", channel_dim=-1)])
    assert steps.transforms[0]({"image": picture(1)})["image"].shape == (7, 5, 1)


def test_several_channels_for_an_author_who_expects_none_are_refused():
    steps = compose_of([LoadImaged("image"), EnsureChannelFirstd("image", channel_dim="no_channel")])
    with pytest.raises(RuntimeError):
        steps({"image": picture()})


def test_each_key_has_its_own_shape_and_an_absent_one_is_left_out():
    steps = compose_of(
        [
            LoadImaged(["colour", "grey", "label"], image_only=False),
            EnsureChannelFirstd("colour", channel_dim=-1),
            EnsureChannelFirstd("grey"),
        ]
    )
    given = steps.transforms[0]({"colour": picture(), "grey": picture(1), "prompt": [1]})
    assert given["colour"].shape == (7, 5, 3)
    assert given["grey"].shape == (7, 5)
    assert given["prompt"] == [1]
    assert "label" not in given
    assert given["grey_meta_dict"].keys() == given["grey"].meta.keys()


def test_a_loader_within_a_compose_within_a_list_is_replaced_in_place():
    """In place, since Invertd may refer to the very Compose."""
    inner = Compose([LoadImaged("image", ensure_channel_first=True)])
    compose_of([inner])
    assert not isinstance(inner.transforms[0], LoadImaged)
    given = picture(1)
    assert torch.equal(inner({"image": given})["image"], given)


def test_the_answer_for_one_image_is_taken_out_of_its_batch():
    batch = torch.arange(6.0).reshape(1, 2, 3)
    boxes = {"box": torch.zeros(4, 6), "label": torch.zeros(4)}
    assert first_of(batch).shape == (2, 3)
    assert first_of([boxes]) is boxes  # a list of images, as detectors give
    assert first_of({"a": batch})["a"].shape == (2, 3)
    assert [part.shape for part in first_of((batch, batch[:, :1]))] == [(2, 3), (1, 3)]
    assert first_of([batch]).shape == (2, 3)
    assert first_of(torch.tensor(1.0)).ndim == 0
    assert first_of("word") == "word"
