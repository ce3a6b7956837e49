import functools
import os
import re
import shutil
import sys
from pathlib import Path

import demo_forms
import original_mmdetection
import original_yaml
import pytest
import torch
from omegaconf import OmegaConf

from pipelines import adopt
from samebox.adopt import mmdetection
from samebox.adopt.configs.python_files import python_config
from samebox.core.errors import SameboxError
from samebox.core.files import read_json, sha256
from stages import compose, search
from stages.networks import load_network

SHAPES = Path(os.environ.get("SAMEBOX_CHECKPOINTS", demo_forms.ROOT.parent / "shared" / "checkpoints"))
MMDETECTION = [
    pytest.param(name, files, id=next(iter(files)))
    for name, sets in original_mmdetection.ORIGINALS.items()
    for files in sets
]
OWN = {"name", "source", "sha256", "licence", "published"}


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    """A copy of conf/, in the place of the project's own; families and data sets are composed once."""
    copy = tmp_path_factory.mktemp("project") / "conf"
    shutil.copytree(search.CONF, copy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "CONF", copy)
        patch.setattr(search, "OWN", copy)
        for name in ("family_config", "dataset_config"):
            composed = functools.cache(getattr(adopt, name))
            patch.setattr(adopt, name, lambda choice, composed=composed: composed(choice).copy())
        yield copy


@pytest.fixture(scope="module")
def unnamed(tmp_path_factory):
    """A checkpoint that names no classes."""
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save({"state_dict": {"a": torch.zeros(1)}}, path)
    return path


def adopted(conf, monkeypatch, checkpoint, *arguments):
    """What is written, without a look at the weights, as `detector_of` has it."""
    monkeypatch.setattr(adopt, "check_fits", lambda *_: None)
    arguments = [*map(str, arguments), str(checkpoint), "name=adopted", "overwrite=true"]
    adopt.run(adopt.Request.from_arguments(arguments))
    return detector_of(conf / "detector/adopted.yaml")


def detector_of(path):
    """The data set and the detector of a file of conf/detector: its family with its own keys over it."""
    own = OmegaConf.load(path)
    (family, dataset, last) = own.pop("defaults")
    assert last == "_self_"
    dataset = dataset["override /dataset@_global_.dataset"]
    family = adopt.family_config(re.fullmatch(r"/family/(\w+)@_here_", family)[1])
    around = {"detector": OmegaConf.merge(family, own), "dataset": adopt.dataset_config(dataset)}
    return dataset, compose.plain(OmegaConf.create(around))["detector"]


def assert_same(conf, found, name):
    """What is adopted is what conf/detector has under `name`."""
    expected = detector_of(conf / f"detector/{name}.yaml")
    assert found[0] == expected[0]
    for key in {*found[1], *expected[1]} - OWN:
        assert found[1][key] == expected[1][key], key


def test_every_detector_has_its_original():
    # a user's own, which were adopted, have no licence that is known
    files = search.choices("detector").items()
    names = {name for name, path in files if "licence: unknown" not in path.read_text()}
    shapes = {name for name in names if name.endswith("_shapes")}
    assert {*original_mmdetection.ORIGINALS, *original_yaml.ORIGINALS} == names - shapes


@pytest.mark.parametrize(("name", "files"), MMDETECTION)
def test_what_mmdetection_has_gives_the_hand_written_config(
    conf, monkeypatch, unnamed, tmp_path, name, files
):
    config = original_mmdetection.write(files, tmp_path)
    assert_same(conf, adopted(conf, monkeypatch, unnamed, config), name)


def undecided(family, values, prefix=""):
    """The keys of a family that `values` leave to it."""
    for key, held in family.items():
        if key not in values:
            yield prefix + key
        elif isinstance(held, dict) and isinstance(values[key], dict):
            yield from undecided(held, values[key], f"{prefix}{key}.")


def test_a_family_decides_only_what_mmdetections_configs_do_not_say(conf, tmp_path):
    follows = {"channels", "out_channels", "bbox_head", "kernel_channels", "stacks", "multiple"}
    constant = {"class_names", "num_classes", "per_class", "pairs"}
    ours = {"masked_norm", "model"}
    for name, sets in original_mmdetection.ORIGINALS.items():
        config = original_mmdetection.write(sets[0], tmp_path / name)
        found = mmdetection.adopt(python_config(config), name)
        left = undecided(OmegaConf.to_container(adopt.family_config(found.family)), found.values)
        assert {key.rpartition(".")[2] for key in left} <= follows | constant | ours


@pytest.mark.parametrize("name", original_yaml.ORIGINALS)
def test_what_detectron2_and_maskrcnn_benchmark_have_gives_the_hand_written_config(
    conf, monkeypatch, unnamed, tmp_path, name
):
    config = original_yaml.write(original_yaml.ORIGINALS[name], tmp_path)
    assert_same(conf, adopted(conf, monkeypatch, unnamed, config), name)


@pytest.mark.parametrize("network", ["retinanet", "fcos", "fsaf", "faster_rcnn", "mask_rcnn", "solov2"])
def test_a_trained_checkpoint_and_the_settings_it_was_trained_with(conf, monkeypatch, tmp_path, network):
    checkpoint = SHAPES / f"{network}_shapes.pth"
    if not checkpoint.exists():
        pytest.skip(f"no {checkpoint.name} in {SHAPES}; name its folder in SAMEBOX_CHECKPOINTS")
    facts = read_json(checkpoint.with_suffix(".json"))
    model = {"model": facts["model"], **original_mmdetection.data_3(tuple(facts["test_scale_wh"]))}
    config = original_mmdetection.write({"config.py": model}, tmp_path)
    assert_same(conf, adopted(conf, monkeypatch, checkpoint, config), f"{network}_shapes")
    assert_same(conf, adopted(conf, monkeypatch, checkpoint), f"{network}_shapes")


@pytest.mark.parametrize(
    "name", ["d2_panoptic_fpn_r50_1x", "mb_keypoint_rcnn_r50_fpn_1x", "ssdlite_mobilenetv2"]
)
def test_what_is_written_composes(conf, monkeypatch, unnamed, tmp_path, name):
    if name in original_yaml.ORIGINALS:
        config = original_yaml.write(original_yaml.ORIGINALS[name], tmp_path)
    else:
        config = original_mmdetection.write(original_mmdetection.ORIGINALS[name][0], tmp_path)
    _, detector = adopted(conf, monkeypatch, unnamed, config)
    found, expected = (
        compose.plain(compose.compose("export", [f"detector={one}"])) for one in ("adopted", name)
    )
    assert found["detector"] == detector
    assert found["dataset"] == expected["dataset"]
    for key in {*detector} - OWN:
        assert found["detector"][key] == expected["detector"][key], key


def test_the_demo_is_adopted_from_its_checkpoint_alone(conf, capsys):
    adopt.run(adopt.Request.from_arguments([str(demo_forms.CHECKPOINT), "name=mine"]))
    target = conf / "detector/mine.yaml"
    assert capsys.readouterr().out == f"{target}: retinanet; run it with detector=mine\n"
    assert_same(conf, detector_of(target), "retinanet_shapes")
    config = compose.compose("export", ["detector=mine"])
    assert compose.plain(config)["detector"] == detector_of(target)[1]
    assert config.dataset.name == "shapes"
    assert config.detector.sha256 == sha256(demo_forms.CHECKPOINT)
    assert config.detector.source == str(demo_forms.CHECKPOINT)
    assert load_network(config, demo_forms.CHECKPOINT).spec.name == "mine"
    # only what differs from the family
    assert set(OmegaConf.load(target).network) == {"backbone", "neck", "bbox_head"}


def test_a_config_is_not_overwritten_unasked(conf):
    arguments = [str(demo_forms.CHECKPOINT), "name=retinanet_shapes"]
    target = conf / "detector/retinanet_shapes.yaml"
    before = target.read_bytes()
    with pytest.raises(SameboxError, match=r"retinanet_shapes\.yaml: exists; .*overwrite=true"):
        adopt.run(adopt.Request.from_arguments(arguments))
    assert target.read_bytes() == before
    adopt.run(adopt.Request.from_arguments([*arguments, "overwrite=true"]))
    assert "# Adopted from the config in retinanet_shapes.pth" in target.read_text()
    target.write_bytes(before)


def test_weights_of_another_network_are_found_out(conf, tmp_path):
    data = original_mmdetection.data_3((384, 256))
    model = read_demo_model() | {"backbone": original_mmdetection.resnet(depth=18)}
    config = original_mmdetection.write({"config.py": {"model": model, **data}}, tmp_path)
    with pytest.raises(SameboxError, match=r"does not fit the network: .*of another shape: .*conv1\.weight"):
        adopt.run(adopt.Request.from_arguments([str(config), str(demo_forms.CHECKPOINT)]))
    assert not (conf / "detector/config.yaml").exists()


def read_demo_model():
    """A RetinaNet of six classes and a quarter of the width."""
    head = original_mmdetection.RETINA_HEAD | {"num_classes": 6, "in_channels": 64, "feat_channels": 64}
    neck = {"in_channels": [16, 32, 64, 128], "out_channels": 64}
    model = original_mmdetection.RETINANET | {"data_preprocessor": original_mmdetection.preprocessor()}
    return model | {
        "neck": model["neck"] | neck,
        "bbox_head": head | {"stacked_convs": 2},
    }


def test_classes_that_the_checkpoint_was_not_trained_on(conf, tmp_path):
    files = original_mmdetection.ORIGINALS["retinanet_r50_fpn"][0]
    config = original_mmdetection.write(files, tmp_path)
    with pytest.raises(
        SameboxError, match=r"num_classes is 80, but 6 classes are named by .*retinanet_shapes"
    ):
        adopt.run(adopt.Request.from_arguments([str(config), str(demo_forms.CHECKPOINT)]))


def test_classes_of_no_data_set(conf, unnamed, tmp_path):
    head = original_mmdetection.RETINA_HEAD | {"num_classes": 7}
    files = dict(original_mmdetection.ORIGINALS["retinanet_r50_fpn"][0])
    first = next(iter(files))
    files[first] = files[first] | {"model": files[first]["model"] | {"bbox_head": head}}
    config = original_mmdetection.write(files, tmp_path)
    with pytest.raises(SameboxError, match=r"no data set of conf/dataset has 7 classes without names"):
        adopt.run(adopt.Request.from_arguments([str(config), str(unnamed)]))


def test_names_of_classes_come_from_the_config(conf, monkeypatch, unnamed, tmp_path):
    data = original_mmdetection.data_3((384, 256))
    names = ("disc", "square", "triangle", "star", "ring", "cross")
    data["test_dataloader"]["dataset"]["metainfo"] = {"classes": names}
    model = read_demo_model() | {"backbone": original_mmdetection.resnet()}
    config = original_mmdetection.write({"config.py": {"model": model, **data}}, tmp_path)
    dataset, detector = adopted(conf, monkeypatch, unnamed, config)
    assert tuple(detector["class_names"]) == names
    assert dataset == "shapes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"0 paths given; usage: samebox adopt"),
        (["a", "b", "c"], r"3 paths given"),
        (["a.pth", "overwrite=maybe"], r"overwrite: 'maybe' is not true or false"),
        (["a.pth", "name=../up"], r"name: '\.\./up': use only letters"),
        (["a.pth", "nane=b"], r"nane=b: no such option"),
    ],
)
def test_a_wrong_command_line(arguments, message):
    with pytest.raises(SameboxError, match=message):
        adopt.Request.from_arguments(arguments)


def test_the_name_is_that_of_the_config():
    request = adopt.Request.from_arguments(["configs/my net.py", "a.pth"])
    assert (request.name, request.overwrite) == ("my_net", False)


def test_a_checkpoint_without_a_config(conf, unnamed):
    with pytest.raises(SameboxError, match=r"weights\.pth: holds no config; name its file as well"):
        adopt.run(adopt.Request.from_arguments([str(unnamed)]))


def test_a_file_of_another_kind(conf, unnamed, tmp_path):
    other = tmp_path / "config.json"
    other.write_text("{}")
    with pytest.raises(SameboxError, match=r"config\.json: neither \.py nor \.yaml"):
        adopt.run(adopt.Request.from_arguments([str(other), str(unnamed)]))


def test_a_mistake_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["adopt", "absent.pth"])
    with pytest.raises(SystemExit) as stop:
        compose.guarded(adopt.main)
    assert re.fullmatch(r"error: absent\.pth: no such file; check the path", str(stop.value))
