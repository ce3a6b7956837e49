import numpy as np
import pytest
import torch
from torch import nn

from samebox.core.errors import SameboxError
from samebox.networks.nets.contract import Deployable, Normalize

MEAN, STD = [10.0, 20.0, 30.0], [2.0, 4.0, 5.0]


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 3, 6, 8)).astype(np.float32))


@pytest.mark.parametrize(("order", "source"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_mean_and_std_are_in_the_channel_order(images, order, source):
    normalized = Normalize(MEAN, STD, order)(images, torch.tensor([[6, 8], [6, 8]]))
    for channel in range(3):
        expected = (images[:, source[channel]] - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(normalized[:, channel], expected)


def test_the_canvas_beyond_an_image_is_zero_after_normalisation(images):
    normalized = Normalize(MEAN, STD, "RGB")(images, torch.tensor([[4, 8], [6, 3]]))
    assert not normalized[0, :, 4:].any()
    assert not normalized[1, :, :, 3:].any()
    whole = Normalize(MEAN, STD, "RGB")(images, torch.tensor([[6, 8], [6, 8]]))
    assert normalized[0, :, :4].equal(whole[0, :, :4])
    assert normalized[1, :, :, :3].equal(whole[1, :, :, :3])


@pytest.mark.parametrize("value", [0.0, 255.0, -1e6, float("nan"), float("inf")])
def test_pixels_beyond_an_image_do_not_matter(images, value):
    sizes, normalize = torch.tensor([[4, 8], [6, 3]]), Normalize(MEAN, STD, "BGR")
    expected = normalize(images, sizes)
    images[0, :, 4:] = value
    images[1, :, :, 3:] = value
    assert normalize(images, sizes).equal(expected)


def test_an_unknown_channel_order_is_refused():
    with pytest.raises(SameboxError, match=r"^normalize\.channel_order: 'bgr' is none of RGB, BGR$"):
        Normalize(MEAN, STD, "bgr")


def test_normalize_has_no_entries_in_the_state_dict():
    assert not Normalize(MEAN, STD, "RGB").state_dict()


class Echo(nn.Module):
    outputs = ("images", "sizes")

    def forward(self, images, sizes):
        return {"images": images, "sizes": sizes}


def test_a_deployable_normalises_images_and_passes_the_sizes_on(images):
    normalize, sizes = Normalize(MEAN, STD, "RGB"), torch.tensor([[4, 8], [6, 3]])
    deployable = Deployable(normalize, Echo())
    assert deployable.outputs == Echo.outputs
    outputs = deployable(images, sizes)
    assert outputs["images"].equal(normalize(images, sizes))
    assert outputs["sizes"] is sizes
