import numpy as np
import pytest
import torch

from benchmarks import roi_align
from benchmarks.roi_align import (
    CHANNELS,
    HEIGHT,
    INPUTS,
    STRIDES,
    WIDTH,
    Aligned,
    drawn_maps,
    drawn_regions,
    exported,
)
from samebox.networks.blocks.roi_align import RoIAlign


@pytest.fixture(scope="module")
def regions():
    return drawn_regions(1000)


def test_regions_lie_in_the_canvas_and_have_an_area(regions):
    assert regions.shape == (1000, 4)
    assert (regions >= 0).all()
    assert (regions <= [WIDTH, HEIGHT, WIDTH, HEIGHT]).all()
    assert (regions[:, 2:] > regions[:, :2]).all()


def test_regions_have_the_stated_aspect_ratios(regions):
    sides = regions[:, 2:] - regions[:, :2]
    median, most, rare = np.percentile((sides / sides[:, ::-1]).max(1), [50, 90, 99])
    assert median == pytest.approx(1.8, rel=0.1)
    assert most == pytest.approx(5, rel=0.1)
    assert rare == pytest.approx(17, rel=0.2)


def test_every_level_has_regions(regions):
    levels = RoIAlign(7, STRIDES).levels(torch.from_numpy(regions)[None])[0]
    assert (levels.bincount(minlength=4) > 50).all()


def test_maps_are_a_pyramid_of_the_canvas():
    maps = drawn_maps(64, 96)
    assert [tuple(one.shape) for one in maps] == [
        (1, CHANNELS, 16, 24),
        (1, CHANNELS, 8, 12),
        (1, CHANNELS, 4, 6),
        (1, CHANNELS, 2, 3),
    ]


def test_an_exported_graph_equals_pytorch(tmp_path):
    session = exported(3, 2, "onnx", tmp_path / "model.onnx")
    inputs = [*drawn_maps(64, 96), torch.tensor([[[4.0, 4, 60, 30], [0, 0, 9, 64], [2, 3, 90, 60]]])]
    (output,) = session.run(None, {name: x.numpy() for name, x in zip(INPUTS, inputs, strict=True)})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(output), Aligned(2)(*inputs), rtol=1e-4, atol=1e-4)


class ConstantSession:
    """A session whose output has one value everywhere."""

    def __init__(self, value):
        self.value = value

    def run(self, names, feed):
        assert sorted(feed) == sorted(INPUTS)
        return [np.full(feed["boxes"].shape, self.value)]


def test_a_row_has_the_ratio_and_the_difference_of_the_lowerings(monkeypatch):
    sessions = {"portable": ConstantSession(1.5), "onnx": ConstantSession(1.25)}
    seconds = {"torch": [0.03], "portable": [0.02], "onnx": [0.01]}
    monkeypatch.setattr(roi_align, "exported", lambda count, size, lowering, path: sessions[lowering])
    monkeypatch.setattr(
        roi_align, "interleaved", lambda calls, rounds: {name: seconds[name] for name in calls}
    )
    row = roi_align.timed(drawn_maps(64, 96), 5, 2, rounds=1)
    assert row == ["30 (30–30)", "20 (20–20)", "10 (10–10)", "2.00 (2.00–2.00)", "2.5e-01"]
