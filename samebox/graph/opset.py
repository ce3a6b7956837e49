"""An ONNX model at exactly the opset that was asked for.

The exporter writes opset 18. Newer ones are ONNX's own version converter's work; older ones, to which
it does not lead, are rewrites of ours.
"""

from functools import cache

import onnx
import onnx_ir as ir
import onnx_ir.passes.common
import onnxruntime
from onnx import TensorProto, helper

from samebox.core.errors import SameboxError
from samebox.graph.reading import all_nodes
from samebox.graph.rewrites import DOWNGRADES

EXPORTER_OPSET = 18
OLDEST_OPSET = 11


@cache
def newest_opset() -> int:
    """The newest opset that the installed ONNX Runtime loads, found by asking it."""
    for opset in range(onnx.defs.onnx_opset_version(), OLDEST_OPSET, -1):
        try:
            onnxruntime.InferenceSession(_identity(opset), providers=["CPUExecutionProvider"])
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            continue
        return opset
    return OLDEST_OPSET


def _identity(opset: int) -> bytes:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    return _at(helper.make_model(graph), opset).SerializeToString()


def check_opset(opset: int) -> None:
    """Raise SameboxError, naming the range, unless `opset` can be written and loaded here."""
    if not isinstance(opset, int) or not OLDEST_OPSET <= opset <= newest_opset():
        raise SameboxError(
            f"export.opset: {opset} is outside {OLDEST_OPSET}..{newest_opset()}, what this ONNX Runtime takes"
        )


def at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """`model`, which is at opset 18, at `opset`. Raises SameboxError where an operator has no such form."""
    check_opset(opset)
    if opset > EXPORTER_OPSET:
        return onnx.version_converter.convert_version(model, opset)
    if opset < EXPORTER_OPSET:
        model = _lowered(model, opset)
    return model


def _lowered(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    for brought, rewrite in DOWNGRADES:
        if opset < brought:
            rewrite(graph)
    ir.passes.common.RemoveUnusedNodesPass()(graph)  # constants that have become attributes
    lowered = _at(ir.to_proto(graph), opset)
    unknown = sorted({node.op_type for node in all_nodes(lowered.graph) if not _known(node, opset)})
    if unknown:
        raise SameboxError(
            f"export.opset: {', '.join(unknown)} cannot be written at opset {opset}; ask for {EXPORTER_OPSET}"
        )
    return lowered


def _at(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    return model


def _known(node: onnx.NodeProto, opset: int) -> bool:
    """Whether the operator at `opset` has this node's inputs, attributes and kind of reduction."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return False
    # scattering gained these two in 18, under an attribute that is older
    newer = any(a.name == "reduction" and a.s in (b"max", b"min") for a in node.attribute)
    fits = len(node.input) <= schema.max_input and all(a.name in schema.attributes for a in node.attribute)
    return fits and not (newer and opset < EXPORTER_OPSET)
