"""docs/onnx-file.md against the library: its code gives the same arrays, and its tables name every key."""

import ast
import json
import re
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from doc_pages import ROOT, code_blocks

from samebox.engine.session import SESSION_KEY
from samebox.graph.module_outputs import MODULES_KEY
from samebox.networks.construct import build
from samebox.postprocess import masks
from samebox.postprocess.keypoints import keypoints_from_heatmaps
from samebox.postprocess.panoptic import class_map, merge_segments
from samebox.record.decoding import PanopticRule
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import METADATA_KEY, PRECISION_KEY, Spec
from stages.compose import CONF, compose, plain

PAGE = ROOT / "docs/onnx-file.md"
# as in COCO: landscape, portrait, square, long, tiny
SIZES = [(480, 640), (640, 427), (333, 333), (120, 2000), (3, 5), (800, 1333)]
RULES = [
    Resize((1333, 800)),
    Resize((1333, 800), filter="pillow"),
    Resize((1333, 800), short_first=True, filter="pillow"),
    Resize((300, 300), keep_ratio=False),
    Resize((1344, 800), fit=True),
    Resize((608, 608)),
]


@pytest.fixture(scope="module")
def page():
    """The functions that the page defines."""
    source = "\n".join(code_blocks(PAGE, "python"))
    wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef)
    module = ast.Module([node for node in ast.parse(source).body if isinstance(node, wanted)], [])
    names = {}
    exec(compile(module, str(PAGE), "exec"), names)
    return SimpleNamespace(**names)


@pytest.fixture
def random():
    return np.random.default_rng(5)


def as_json(value):
    """What is left after the record's way through JSON."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_resize_rule(page, rule):
    record = as_json(Preprocess(rule).to_dict())["resize"]
    some = [(h, w) for h in range(1, 1400, 37) for w in range(1, 1400, 41)]
    for size in [*SIZES, *some]:
        assert page.resized_size(record, *size) == rule(*size)


@pytest.mark.parametrize(
    "rule",
    [
        Preprocess(Resize((160, 96))),
        Preprocess(Resize((160, 96), filter="pillow", short_first=True)),
        Preprocess(Resize((160, 96))).on_canvas(96, 160),
        Preprocess(None, divisor=128, less=1),
        Preprocess(Resize((90, 90), keep_ratio=False), divisor=1, canvas=(90, 90)),
    ],
    ids=str,
)
def test_the_inputs(page, random, rule):
    images = [random.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((120, 200), (144, 90), (64, 64))]
    expected = rule(images)
    inputs, originals = page.prepare(images, as_json(rule.to_dict()))
    for name, array in expected.inputs().items():
        np.testing.assert_array_equal(inputs[name], array, strict=True)
    np.testing.assert_array_equal(originals, expected.originals)


def boxes(random, count, height, width):
    corners = random.uniform(-20, [width + 20, height + 20], (count, 2, 2))
    found = np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32)
    found[0] = 0, 0, width, height
    found[1, 2] = found[1, 0]  # no width
    found[2] = 10, 12, 11, 13
    return found


@pytest.mark.parametrize("rule", ["sampled", "resized"])
@pytest.mark.parametrize("side", [28, 7])
def test_masks_over_boxes(page, random, rule, side):
    height, width = 90, 130
    maps = random.random((40, side, side), np.float32)
    placed = boxes(random, 40, height, width)
    expected = masks.PASTES[rule](maps, placed, height, width)
    paste = {"sampled": page.paste_sampled, "resized": page.paste_resized}[rule]
    for values, box, mask in zip(maps, placed, expected, strict=True):
        np.testing.assert_array_equal(paste(values, box, height, width), mask)


def test_masks_over_the_canvas(page, random):
    maps = random.random((6, 24, 40), np.float32)
    maps[0] = 0
    expected = masks.masks_from_canvas(maps, (90, 151), 77, 133)
    found = np.array([page.spread(values, (90, 151), 77, 133) for values in maps])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal([page.bounds(mask) for mask in found], masks.boxes_around(expected))


@pytest.mark.parametrize("score", ["ratio", "logit"])
def test_keypoints(page, random, score):
    logits = random.normal(0, 4, (12, 3, 56, 56)).astype(np.float32)
    placed = boxes(random, 12, 200, 300)
    expected = keypoints_from_heatmaps(logits, placed, score)
    found = [
        [page.keypoint(values, box, score) for values in maps]
        for maps, box in zip(logits, placed, strict=True)
    ]
    np.testing.assert_allclose(np.array(found, np.float32), expected, rtol=1e-5)


def test_segments(page, random):
    logits = random.normal(0, 1, (4, 20, 28)).astype(np.float32)
    classes = class_map(logits, (70, 110), 60, 95)
    np.testing.assert_array_equal(page.class_map(logits, (70, 110), 60, 95), classes)
    rule = PanopticRule(("sky", "field", "water"), stuff_area=500)
    objects = masks.paste_sampled(
        random.random((8, 28, 28), np.float32) + 0.2, boxes(random, 8, 60, 95), 60, 95
    )
    scores, names = np.linspace(0.9, 0.4, 8, dtype=np.float32), list("abcdefgh")
    expected = merge_segments(objects, scores, names, classes, rule)
    ids, found = page.segments(objects, scores.tolist(), names, classes, vars(rule))
    np.testing.assert_array_equal(ids, expected.ids)
    assert found == [(segment.id, segment.class_name) for segment in expected.segments]


def dotted(kind, prefix=""):
    """Every key of a record of this dataclass; one that may be null is named with its own keys."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        name, hint = prefix + field.name, hints[field.name]
        nested = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        if nested is None or type(None) in get_args(hint):
            yield name
        if nested is not None:
            yield from dotted(nested, f"{name}.")


def section(title):
    text = PAGE.read_text()
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_record_is_described_key_by_key():
    described = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| ([^|]+) \|", section("The record"), re.M)))
    keys = {key for key in dotted(Spec) if key != "normalize"}
    assert set(described) == keys | {"normalize.mean", "normalize.std", "normalize.channel_order"}


def test_the_metadata_keys():
    described = re.findall(r"^\| `([^`]+)` \|", section("Other metadata"), re.M)
    assert described == [METADATA_KEY, MODULES_KEY, PRECISION_KEY, SESSION_KEY]


def a_detector_of(family):
    files = sorted((CONF / "detector").glob("*.yaml"))
    return next((path.stem for path in files if f"/family/{family}@" in path.read_text()), None)


FAMILIES = [path.stem for path in sorted((CONF / "family").glob("*.yaml")) if a_detector_of(path.stem)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_head_output_is_described(family):
    rows = dict(re.findall(r"^\| (\w[^|]*?) \| (.*) \|$", section("Head outputs"), re.M))
    config = compose("export", [f"detector={a_detector_of(family)}"])
    config.detector.num_classes = 3
    with torch.device("meta"):  # shapes without values
        network = build(plain(config.detector)["network"])
    model, proposals = config.detector.model, "proposals" in network.head_outputs
    described = (rows["R-CNN (all)"] if proposals else "") + rows.get(model, "")
    level = "G" if model == "SOLOv2" else "S"
    for name in network.head_outputs:
        assert f"`{re.sub(r'_[0-9]+$', f'_{level}', name)}`" in described
