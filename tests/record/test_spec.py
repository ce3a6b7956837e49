import json
from dataclasses import replace

import pytest

from samebox.core.errors import SameboxError
from samebox.record.decoding import Decoding, PanopticRule
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
    decoding=Decoding(panoptic=PanopticRule(("road", "sky"))),
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


def edited(**values):
    return json.dumps(json.loads(EXPORTED.to_json()) | values)


def resize(**values):
    rule = json.loads(SPEC.to_json())["preprocess"]
    return rule | {"resize": rule["resize"] | values}


RULE = json.loads(SPEC.to_json())["preprocess"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        pytest.param("{", "", id="not JSON"),
        pytest.param("[]", "not a dict", id="not an object"),
        pytest.param("[" * 200_000, "", id="nested too deeply"),
        pytest.param(edited(normalize={"mean": 0}).replace("0}", "[" * 900 + "]" * 900 + "}"), "", id="deep"),
        pytest.param('{"class_names": ["a"]}', "missing key", id="without required fields"),
        pytest.param(edited(later=1), "unknown key later", id="with a field of another version"),
        pytest.param(edited(name=["net"]), "not a str", id="a name that is a list"),
        pytest.param(edited(class_names="disc"), "not a list", id="class names that are a text"),
        pytest.param(edited(class_names=["disc", 1]), "not a str", id="a class name that is a number"),
        pytest.param(edited(class_names=["disc", "a" * 1001]), "characters", id="an endless class name"),
        pytest.param(edited(class_names=["a"] * 100_001), "classes", id="too many classes"),
        pytest.param(edited(name="a" * (1 << 22)), "characters", id="an endless record"),
        pytest.param(edited(decoding=[]), "not a dict", id="decoding as a list"),
        pytest.param(edited(decoding={"masks": ["sampled"]}), "not a str", id="masks as a list"),
        pytest.param(edited(decoding={"inclusive": 1}), "not a bool", id="a number for true"),
        pytest.param(edited(decoding={"panoptic": {"score": 0.5}}), "missing key", id="no stuff classes"),
        pytest.param(edited(preprocess=None), "not a dict", id="no preprocess"),
        pytest.param(edited(preprocess=RULE | {"canvas": [1 << 40, 1 << 40]}), "within", id="terabytes"),
        pytest.param(edited(preprocess=RULE | {"canvas": [32]}), "1 values", id="a canvas of one side"),
        pytest.param(edited(preprocess=RULE | {"divisor": 0}), "within", id="divisor 0"),
        pytest.param(edited(preprocess=RULE | {"divisor": 1 << 40}), "within", id="divisor 2^40"),
        pytest.param(edited(preprocess=RULE | {"divisor": True}), "not a number", id="divisor true"),
        pytest.param(edited(preprocess=RULE | {"less": -1}), "less", id="less below 0"),
        pytest.param(edited(preprocess=resize(scale=[1e3, 800])), "not a number", id="a scale of floats"),
        pytest.param(edited(preprocess=resize(scale=[0, 800])), "within", id="scale 0"),
        pytest.param(edited(preprocess=resize(filter={})), "not a str", id="a filter that is an object"),
        pytest.param(edited(opset=10**400), "out of range", id="a number of 400 digits"),
        pytest.param(edited(categories={"dataset": "street", "ids": [7]}), "one id", id="too few ids"),
    ],
)
def test_a_damaged_record_is_an_error(record, reason):
    with pytest.raises(SameboxError, match=r"^net\.onnx: its samebox metadata is damaged") as error:
        Spec.from_metadata({METADATA_KEY: record}, "net.onnx")
    assert reason in str(error.value)
    assert len(str(error.value)) < 250


def test_names_are_made_printable():
    names = ["lone \ud800 surrogate", "\x1b[2Jclears", "Straße"]
    spec = Spec.from_metadata({METADATA_KEY: edited(class_names=names, categories=None)}, "net.onnx")
    assert spec.class_names == ("lone ? surrogate", "?[2Jclears", "Straße")
