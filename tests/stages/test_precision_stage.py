import json

import onnx
import pytest
from tiny_precision import pictures, tiny_source

from samebox.core.errors import SameboxError
from stages import precision
from stages.axes import axis
from stages.compose import CONF, compose
from stages.evaluate import precision_notes

NAMES = sorted(path.stem for path in (CONF / "precision").glob("*.yaml"))


def config_of(folder, name, *overrides):
    """The stage's config for files in `folder`."""
    places = [f"paths.simplified={folder}/simplified", f"precision.folder={folder}/{name}"]
    return compose("precision", [f"precision={name}", f"precision.images={folder}", *places, *overrides])


@pytest.fixture
def folder(tmp_path):
    pictures(tmp_path)
    target = tmp_path / "simplified/retinanet_shapes"
    target.mkdir(parents=True)
    tiny_source(target / "model.onnx")
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_the_stage_writes_the_file_and_its_report(folder, name):
    precision.run(config_of(folder, name))
    made = folder / name / "retinanet_shapes"
    report = json.loads((made / "precision.json").read_text())
    assert report["products"] == {name: 3}
    assert precision_notes(made / "precision.json") == [f"products with weights: 3 in {name}"]
    assert onnx.load(made / "model.onnx").opset_import[0].version == report["opset"]


def test_a_kept_weight_and_an_overflowing_tensor_stay_in_fp32(folder):
    tiny_source(folder / "simplified/retinanet_shapes/model.onnx", scale=1e5)
    precision.run(config_of(folder, "fp16", "precision.keep=[w_head]"))
    assert precision_notes(folder / "fp16/retinanet_shapes/precision.json") == [
        "products with weights: 1 in fp16, 2 in fp32",
        "body overflows the type and stays in fp32",
    ]


def test_images_are_spread_over_the_folder(folder):
    assert [path.stem for path in precision.images(folder, 2)] == ["0", "1"]
    assert [path.stem for path in precision.images(folder, 9)] == ["0", "1", "2"]
    with pytest.raises(SameboxError, match=r"precision\.count: 0"):
        precision.images(folder, 0)
    with pytest.raises(SameboxError, match="no such file"):
        precision.images(folder / "absent", 2)


def test_every_precision_on_the_axis_has_a_config():
    assert set(axis("precisions")) <= set(NAMES)
