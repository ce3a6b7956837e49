import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_onnx import tiny_model

from samebox.core.errors import SameboxError
from samebox.graph.external_data import check_external_data, external_data_locations
from samebox.graph.reading import onnx_model
from samebox.runners.onnxruntime import OnnxRuntimeRunner


def external(location):
    """A tensor whose values are in another file."""
    tensor = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def file_with(folder, location):
    """An ONNX file with such a tensor, and a file beside the folder that it must not read."""
    (folder / "models").mkdir(exist_ok=True)
    np.zeros(2, np.float32).tofile(folder / "secret.bin")
    model = tiny_model()
    model.graph.initializer.append(external(location))
    (folder / "models" / "net.onnx").write_bytes(model.SerializeToString())
    return folder / "models" / "net.onnx"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("../secret.bin", "is outside"),
        ("deeper/../../secret.bin", "is outside"),
        ("/etc/passwd", "is outside"),
        ("C:\\secret.bin", "is outside"),
        ("link.bin", "is outside"),
        ("none.bin", "is no file"),
        ("", "is no file"),
        ("*/_ORT_MEM_ADDR_/*", "is no file"),  # an address of the memory, to ONNX Runtime
        ("a\x1b[31m\n.bin", "is no file"),
    ],
)
def test_external_data_outside_the_folder_is_refused(tmp_path, location, reason):
    path = file_with(tmp_path, location)
    (path.parent / "link.bin").symlink_to("../secret.bin")
    for read in (check_external_data, onnx_model, lambda path: OnnxRuntimeRunner(path).__enter__()):
        with pytest.raises(SameboxError, match=rf"net\.onnx: its external data .* {reason}") as error:
            read(path)
        assert str(error.value).isprintable()


def test_external_data_below_the_folder_is_read(tmp_path):
    path = file_with(tmp_path, "data/weights.bin")
    (path.parent / "data").mkdir()
    np.ones(2, np.float32).tofile(path.parent / "data" / "weights.bin")
    check_external_data(path)
    tensor = next(tensor for tensor in onnx_model(path).graph.initializer if tensor.name == "outside")
    assert numpy_helper.to_array(tensor).tolist() == [1, 1]


def subgraph(location):
    return helper.make_graph([], "inner", [], [], [external(location)])


def test_every_place_of_a_tensor_is_searched(tmp_path):
    model = tiny_model()
    node = model.graph.node[0]
    node.attribute.append(helper.make_attribute("tensor", external("tensor")))
    node.attribute.append(helper.make_attribute("tensors", [external("tensors")]))
    node.attribute.append(helper.make_attribute("graph", subgraph("graph")))
    node.attribute.append(helper.make_attribute("graphs", [subgraph("graphs")]))
    sparse = onnx.SparseTensorProto(values=external("values"), indices=external("indices"), dims=[2])
    node.attribute.append(helper.make_attribute("sparse", sparse))
    model.graph.sparse_initializer.append(sparse)
    model.functions.add(name="f", domain="d").node.append(helper.make_node("Constant", [], ["c"]))
    model.functions[0].node[0].attribute.append(helper.make_attribute("value", external("function")))
    model.functions[0].attribute_proto.append(helper.make_attribute("default", external("default")))
    model.training_info.add().algorithm.initializer.append(external("training"))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    assert external_data_locations(tmp_path / "net.onnx") == {
        "tensor", "tensors", "graph", "graphs", "values", "indices", "function", "default", "training"
    }  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x3b", id="a group"),
        pytest.param(b"\x3a\xff\xff\xff\xff\x0f", id="a field longer than the file"),
        pytest.param(b"\x3a" + b"\xff" * 20, id="an endless number"),
        pytest.param(b"\x3a", id="a field without a length"),
        pytest.param(b"\x10\x00" * 2_000_001 + b"\x3a\x00" * 2_000_001, id="too many fields"),
    ],
)
def test_a_broken_encoding_is_an_error(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content + b"location")
    with pytest.raises(SameboxError, match=r"net\.onnx: not an ONNX file \("):
        external_data_locations(tmp_path / "net.onnx")


def test_nested_graphs_end(tmp_path):
    content = b"location"
    for _ in range(200):  # a graph in an attribute of a node
        for field in (6, 5, 1):
            content = bytes([field << 3 | 2]) + varint(len(content)) + content
    (tmp_path / "net.onnx").write_bytes(b"\x3a" + varint(len(content)) + content)
    with pytest.raises(SameboxError, match="nested too deeply"):
        external_data_locations(tmp_path / "net.onnx")


def varint(number):
    groups = []
    while True:
        groups.append(number & 127 | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(groups)


def test_the_check_needs_no_package():
    assert "onnx" not in vars(sys.modules["samebox.graph.external_data"])
