import time

import pytest
import torch

from benchmarks import sheets
from benchmarks.common import drawn, interleaved, ratio
from benchmarks.sheets import Sheet, Spread
from samebox.core.errors import SameboxError


def test_calls_take_turns_and_the_warm_up_is_not_counted():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = interleaved(calls, rounds=2, warmup=1)
    assert order == ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}


def test_the_seconds_are_those_of_the_call():
    times = interleaved({"sleep": lambda: time.sleep(0.02), "none": lambda: None}, rounds=1)
    assert times["sleep"][0] >= 0.02 > times["none"][0]


def test_a_ratio_is_taken_round_by_round():
    # the medians of the two are 2 and 4: their ratio would be 0.5, which no round shows
    spread = ratio({"a": [1.0, 2.0, 8.0], "b": [4.0, 8.0, 2.0]}, "a", "b")
    assert spread == Spread(0.25, 0.25, 4.0)


def test_a_spread_shows_median_least_and_largest():
    assert f"{Spread.of([3.0, 1.0, 2.0]):.1f}" == "2.0 (1.0–3.0)"


@pytest.fixture(scope="module")
def network():
    return drawn("mask_rcnn_shapes")[0]


def test_random_weights_are_reproducible(network):
    again = drawn("mask_rcnn_shapes")[0].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())


def test_maps_keep_their_scale_and_boxes_stay_near_their_anchors(network):
    images = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(0)) * 255
    rcnn = network.network
    with torch.inference_mode():
        maps = rcnn.neck(rcnn.backbone(network.normalize(images, torch.tensor([[128, 160]]))))
        deltas = [rcnn.rpn_head.predict(one)[1] for one in maps]
    assert all(0.1 < float(one.std()) < 20 for one in maps)
    assert max(float(one.abs().max()) for one in deltas) < 0.5


def test_a_network_with_random_weights_detects_objects(network):
    images = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        outputs = network(images, torch.tensor([[128, 160]]))
    assert (outputs["scores"] > 0).sum() > 10
    masks = outputs["masks"][outputs["scores"] > 0]
    assert 0 <= float(masks.min()) < 0.5 < float(masks.max()) <= 1


def test_the_record_states_that_weights_are_random():
    spec = drawn("retinanet_shapes")[1]
    assert (spec.name, len(spec.class_names)) == ("retinanet_shapes", 6)
    assert spec.checkpoint_sha256 == "random weights, seed 0"


def test_an_unknown_detector_is_an_error():
    with pytest.raises(SameboxError, match="retinanet_shapes"):
        drawn("retinanet")


def test_results_state_date_hardware_and_versions(tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "RESULTS", tmp_path)
    sheets.write("name", "Title", [Sheet("Sheet", ["what", "ms"], [["one", "1.5"]])], ["a note"])
    text = (tmp_path / "name.md").read_text()
    assert "## Sheet\n\n| what | ms |\n| --- | ---: |\n| one | 1.5 |\n" in text
    for line in ("- a note\n", "- Date: 20", "- Hardware: ", f"torch {torch.__version__}"):
        assert line in text
