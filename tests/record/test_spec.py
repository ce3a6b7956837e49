import json
from dataclasses import replace

import pytest

from samebox.core.errors import SameboxError
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import METADATA_KEY, Spec

SPEC = Spec(
    name="net",
    class_names=("disc", "Straße"),
    preprocess=Preprocess(Resize((384, 256))),
    normalize={"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "channel_order": "RGB"},
    checkpoint_sha256="ab" * 32,
)
EXPORTED = replace(SPEC, opset=18, lowering="onnx", preprocess=SPEC.preprocess.onto(256, 384))


@pytest.mark.parametrize("spec", [SPEC, EXPORTED], ids=["not exported", "exported"])
def test_survives_the_metadata(spec):
    assert Spec.from_metadata({METADATA_KEY: spec.to_json(), "other": "entry"}, "net.onnx") == spec


def test_the_same_record_is_the_same_line():
    turned = replace(SPEC, normalize=dict(reversed(list(SPEC.normalize.items()))))
    assert turned.to_json() == SPEC.to_json()
    assert "\n" not in SPEC.to_json()
    assert json.loads(SPEC.to_json())["preprocess"]["resize"]["scale"] == [384, 256]


def test_a_file_without_the_record():
    with pytest.raises(SameboxError, match=r"^net\.onnx: carries no samebox metadata; export it"):
        Spec.from_metadata({"other": "entry"}, "net.onnx")


@pytest.mark.parametrize(
    "record",
    [
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no record"),
        pytest.param('{"class_names": ["a"]}', id="fields missing"),
        pytest.param(SPEC.to_json().replace('"opset"', '"later"'), id="a field of another version"),
    ],
)
def test_a_damaged_record(record):
    with pytest.raises(SameboxError, match=r"^net\.onnx: its samebox metadata is damaged") as caught:
        Spec.from_metadata({METADATA_KEY: record}, "net.onnx")
    assert "\n" not in str(caught.value)
