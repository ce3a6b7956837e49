import json

import pytest
from tiny_onnx import tiny_file

from samebox.core.errors import SameboxError
from samebox.engine.achieved import check_precision, precisions, shares, types_told
from samebox.record.spec import PRECISION_KEY


def layer(text):
    return {"Name": "layer", "LayerType": "kgen", "Inputs": [], "Outputs": [{"Format/Datatype": text}]}


def told(*layers):
    return types_told(json.dumps({"Layers": layers}))


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
def test_the_inspectors_words_are_understood(text, name):
    assert told(layer(text)) == {name: 1}


def test_what_the_inspector_leaves_out_counts_for_nothing():
    silent = ["a name alone", {"Name": "without outputs", "Outputs": []}, {"Name": "x"}, layer("")]
    assert told(layer("Half"), *silent) == {"HALF": 1}
    assert told("names", "alone") == types_told("{}") == types_told("") == {}


def test_shares_are_of_the_layers_that_give_real_numbers():
    types = {"BOOL": 7, "FLOAT": 1, "HALF": 3, "INT64": 100}
    assert precisions(types) == {"fp32": 1, "fp16": 3}
    assert shares(types) == {"fp32": 0.25, "fp16": 0.75}
    assert shares({"INT64": 1}) == {}


def test_a_precision_is_checked_where_the_file_records_one(tmp_path):
    source = tiny_file(tmp_path / "tiny.onnx")
    check_precision({"FLOAT": 1}, {}, source)
    check_precision({"FLOAT": 1, "INT8": 1}, {PRECISION_KEY: '{"asked": "int8"}'}, source)
    with pytest.raises(SameboxError, match="asked fp16 but got fp32 in 1 layers; make the file anew"):
        check_precision({"FLOAT": 1}, {PRECISION_KEY: '{"asked": "fp16"}'}, source)
    for damaged in ("", "[]", "{}"):
        with pytest.raises(SameboxError, match=r"tiny\.onnx: its record samebox_precision is damaged"):
            check_precision({"FLOAT": 1}, {PRECISION_KEY: damaged}, source)
