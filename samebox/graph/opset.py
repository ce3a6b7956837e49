"""Conversion of an ONNX model from opset 18, which the exporter writes, to another opset.

ONNX's version converter does newer opsets. It cannot convert all operators to older opsets, so
`samebox.graph.rewrites` does those.
"""

import copy
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
    """The newest opset that the installed ONNX Runtime loads, determined by loading small models."""
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
    model = _with_opset_import(helper.make_model(graph), opset)
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    return model.SerializeToString()


def check_opset(opset: int) -> None:
    """Raises SameboxError unless `opset` can be written and the installed ONNX Runtime loads it."""
    if not isinstance(opset, int) or not OLDEST_OPSET <= opset <= newest_opset():
        raise SameboxError(
            f"export.opset: {opset} is outside {OLDEST_OPSET}..{newest_opset()}, "
            "which samebox writes and the installed ONNX Runtime loads"
        )


def at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """`model`, which is at opset 18, at `opset` and at the lowest IR version that the opset allows.

    ONNX Runtime refuses a file of a newer IR version than its own, even if it has all operators: 1.16 loads
    opset 18 at IR version 8, but not at 10. Raises SameboxError if a node cannot be expressed at `opset`.
    """
    check_opset(opset)
    if opset > EXPORTER_OPSET:
        model = onnx.version_converter.convert_version(model, opset)
    elif opset < EXPORTER_OPSET:
        model = _downgraded(model, opset)
    else:
        model = copy.deepcopy(model)
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    return model


def _downgraded(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    for introduced_in, rewrite in DOWNGRADES:
        if opset < introduced_in:
            rewrite(graph)
    ir.passes.common.RemoveUnusedNodesPass()(graph)  # constants that became attributes
    downgraded = _with_opset_import(ir.to_proto(graph), opset)
    unsupported = {node.op_type for node in all_nodes(downgraded.graph) if not _is_supported(node, opset)}
    if unsupported:
        names = ", ".join(sorted(unsupported))
        raise SameboxError(
            f"export.opset: {names} cannot be written at opset {opset}; set export.opset={EXPORTER_OPSET}"
        )
    return downgraded


def _with_opset_import(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    return model


def _is_supported(node: onnx.NodeProto, opset: int) -> bool:
    """Whether the operator at `opset` has the inputs, the attributes and the reduction of this node."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return False
    in_schema = len(node.input) <= schema.max_input and all(
        attribute.name in schema.attributes for attribute in node.attribute
    )
    # ScatterND and ScatterElements have the attribute earlier, but these two values only from opset 18 on
    new_reduction = any(a.name == "reduction" and a.s in (b"max", b"min") for a in node.attribute)
    return in_schema and not (new_reduction and opset < EXPORTER_OPSET)
