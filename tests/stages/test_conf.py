"""The configs: every choice composes, every network is built, every name has a config."""

import re
from itertools import product

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from samebox.networks.construct import build
from samebox.networks.nets.contract import BOXES, KEYPOINTS, MASKS, PANOPTIC, SEGMENTS
from samebox.record.preprocess import Preprocess
from stages.axes import axis
from stages.comments import comments
from stages.compose import CONF, compose, plain
from stages.runtimes import runtimes

DETECTORS = sorted(path.stem for path in (CONF / "detector").glob("*.yaml"))
# The report is about all detectors; paths are a part of every config
PRIMARY = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem not in ("paths", "report"))
FILES = sorted(CONF.rglob("*.yaml"))


def composed(primary, *overrides):
    # keys without a default
    given = ["checkpoint=a.pth", "out=a.onnx"] if primary == "export_file" else []
    return compose(primary, [*given, *overrides])


def keys(node):
    """Every key of nested mappings and lists."""
    if isinstance(node, dict):
        yield from node
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from keys(value)


@pytest.mark.parametrize(("primary", "detector"), [*product(PRIMARY, DETECTORS)])
def test_every_detector_composes_under_every_primary_config(primary, detector):
    config = composed(primary, f"detector={detector}")
    assert config.detector.name == detector
    assert (CONF / "dataset" / f"{config.dataset.name}.yaml").exists()


@pytest.mark.parametrize(
    ("group", "primary"), [("runtime", "evaluate"), ("dataset", "download"), ("precision", "precision")]
)
def test_every_choice_of_a_group_has_the_name_of_its_file(group, primary):
    for path in (CONF / group).glob("*.yaml"):
        assert composed(primary, f"{group}={path.stem}")[group].name == path.stem


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_network_is_built_from_its_config(detector):
    config = composed("export", f"detector={detector}")
    config.detector.num_classes = 7  # stages take it from the class names
    with torch.device("meta"):  # shapes without values: all networks are built equally fast
        network = build(plain(config.detector)["network"])
    assert network.outputs in (BOXES, MASKS, KEYPOINTS, PANOPTIC, SEGMENTS)
    if network.outputs == PANOPTIC:  # logits for things, and for each stuff class of the rule
        rule = config.detector.decoding.panoptic
        assert network.semantic_head.conv_logits.out_channels == 1 + len(rule.stuff_class_names)
    assert sum(parameter.numel() for parameter in network.parameters()) > 1e6


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_detector_has_its_record(detector):
    record = composed("export", f"detector={detector}").detector
    if record.licence == "unknown":
        pytest.skip("a user's own, from pipelines.adopt")
    assert re.match(r"https://|demo/|checkpoints/", record.source)
    if re.match(r"https://(dl\.fbaipublicfiles|download\.pytorch)", record.source):
        assert record.sha256 is None  # those publishers state no hash
    elif record.published:
        assert re.fullmatch("[0-9a-f]{8,64}", record.sha256)
    else:  # the user trains the checkpoint
        assert record.sha256 is None
        assert record.source.startswith("checkpoints/")
    assert re.fullmatch(r"[\w.-]+", record.licence)
    assert re.fullmatch(r"[A-Z][\w -]+", record.model)
    kinds = [(), ("bbox",), ("segm",), ("bbox", "segm"), ("bbox", "keypoints")]
    assert tuple(record.published) in [*kinds, ("bbox", "segm", "panoptic", "semantics")]
    assert all(0 < points < 100 for points in record.published.values())
    assert record.normalize.channel_order in {"RGB", "BGR"}
    assert len(record.normalize.mean) == len(record.normalize["std"]) == 3
    rule = Preprocess.from_dict(OmegaConf.to_container(record.preprocess))
    divisor = {"detr": 1, "ssd300": 1, "ssdlite": 1, "cornernet": 128}.get(detector.partition("_")[0], 32)
    assert rule.divisor == divisor
    assert (rule.canvas is None) == (rule.resize is None or rule.resize.keep_ratio)


def test_every_name_on_an_axis_has_a_config():
    assert axis("detectors")
    assert set(axis("detectors")) <= set(DETECTORS)
    assert set(axis("engines")) <= set(axis("runtimes")) <= set(runtimes())
    assert axis("runtimes")[0] == "torch"  # the reference of every comparison


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_no_key_has_a_name_that_dvc_leaves_out_of_its_cache_key(path):
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    assert not {"size", "nfiles"} & {str(key) for key in keys(OmegaConf.to_container(config))}


@pytest.mark.parametrize(
    "path", [*CONF.glob("*.yaml"), *CONF.glob("step/*.yaml")], ids=lambda path: path.stem
)
def test_every_key_has_a_comment(path):
    texts = {key: text for key, text in comments(path).items() if not key.startswith(("defaults", "hydra"))}
    assert [key for key, text in texts.items() if not text] == []


def test_paths_are_plain_names():
    assert "${" not in (CONF / "paths.yaml").read_text()
