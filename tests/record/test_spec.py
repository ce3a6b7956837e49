import json
from dataclasses import replace

import pytest

from samebox.core.errors import SameboxError
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import METADATA_KEY, Categories, Spec

SPEC = Spec(
    name="net",
    class_names=("disc", "Straße"),
    preprocess=Preprocess(Resize((384, 256))),
    normalize={"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "channel_order": "RGB"},
    checkpoint_sha256="ab" * 32,
)
EXPORTED = replace(
    SPEC,
    opset=18,
    lowering="onnx",
    preprocess=SPEC.preprocess.on_canvas(256, 384),
    categories=Categories("street", (7, 3), (90, 91)),
    samebox_version="1.2.3",
)


@pytest.mark.parametrize("spec", [SPEC, EXPORTED], ids=["not exported", "exported"])
def test_the_metadata_keeps_the_record(spec):
    assert Spec.from_metadata({METADATA_KEY: spec.to_json(), "other": "entry"}, "net.onnx") == spec


def test_a_record_of_an_older_version_is_read():
    values = json.loads(SPEC.to_json())
    del values["categories"], values["samebox_version"], values["decoding"]
    assert Spec.from_metadata({METADATA_KEY: json.dumps(values)}, "net.onnx") == SPEC


def test_equal_records_are_equal_lines():
    reordered = replace(SPEC, normalize=dict(reversed(list(SPEC.normalize.items()))))
    assert reordered.to_json() == SPEC.to_json()
    assert "\n" not in SPEC.to_json()
    assert json.loads(SPEC.to_json())["preprocess"]["resize"]["scale"] == [384, 256]


def test_a_file_without_a_record_is_an_error():
    with pytest.raises(SameboxError, match=r"^net\.onnx: has no samebox metadata; export it"):
        Spec.from_metadata({"other": "entry"}, "net.onnx")


@pytest.mark.parametrize(
    "record",
    [
        pytest.param("{", id="not JSON"),
        pytest.param("[]", id="not an object"),
        pytest.param('{"class_names": ["a"]}', id="without required fields"),
        pytest.param(SPEC.to_json().replace('"opset"', '"later"'), id="with a field of another version"),
    ],
)
def test_a_damaged_record_is_an_error(record):
    with pytest.raises(SameboxError, match=r"^net\.onnx: its samebox metadata is damaged") as error:
        Spec.from_metadata({METADATA_KEY: record}, "net.onnx")
    assert "\n" not in str(error.value)
