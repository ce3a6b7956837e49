import json

import pytest
from tiny_onnx import tiny_file

from samebox.core.errors import SameboxError
from samebox.engine.layer_types import (
    check_requested_precision,
    layers_by_precision,
    parsed_layer_types,
    precision_shares,
)
from samebox.record.spec import PRECISION_KEY


def layer(text):
    return {"Name": "layer", "LayerType": "kgen", "Inputs": [], "Outputs": [{"Format/Datatype": text}]}


def types_of(*layers):
    return parsed_layer_types(json.dumps({"Layers": layers}))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Float", "FLOAT"),
        ("Half", "HALF"),
        ("BFloat16", "BF16"),
        ("Int8", "INT8"),
        ("Int64", "INT64"),
        ("Row major linear FP32", "FLOAT"),
        ("Row major linear FP16 format", "HALF"),
        ("Channel major FP16 format where channel % 8 == 0", "HALF"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "INT8"),
    ],
)
def test_types_are_recognised_in_the_inspectors_formats(text, name):
    assert types_of(layer(text)) == {name: 1}


def test_layers_without_a_reported_type_are_not_counted():
    untyped = ["only a name", {"Name": "without outputs", "Outputs": []}, {"Name": "x"}, layer("")]
    assert types_of(layer("Half"), *untyped) == {"HALF": 1}
    assert types_of("only", "names") == parsed_layer_types("{}") == parsed_layer_types("") == {}


def test_shares_are_among_layers_with_real_numbers():
    types = {"BOOL": 7, "FLOAT": 1, "HALF": 3, "INT64": 100}
    assert layers_by_precision(types) == {"fp32": 1, "fp16": 3}
    assert precision_shares(types) == {"fp32": 0.25, "fp16": 0.75}
    assert precision_shares({"INT64": 1}) == {}


def test_the_precision_in_the_files_record_is_checked(tmp_path):
    source = tiny_file(tmp_path / "tiny.onnx")
    check_requested_precision({"FLOAT": 1}, {}, source)
    check_requested_precision({"FLOAT": 1, "INT8": 1}, {PRECISION_KEY: '{"asked": "int8"}'}, source)
    with pytest.raises(SameboxError, match="it states fp16, but has fp32 in 1 layers; create the file again"):
        check_requested_precision({"FLOAT": 1}, {PRECISION_KEY: '{"asked": "fp16"}'}, source)
    for damaged in ("", "[]", "{}"):
        with pytest.raises(
            SameboxError, match=r"tiny\.onnx: its metadata entry samebox_precision is damaged"
        ):
            check_requested_precision({"FLOAT": 1}, {PRECISION_KEY: damaged}, source)
