"""ONNX files from networks: standard operators only, and the same bytes every time."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx
import torch
from onnx import helper

from samebox.core.errors import SameboxError
from samebox.core.files import atomic_write
from samebox.core.versions import samebox_version
from samebox.graph.lowering import TRANSLATIONS, lowered
from samebox.graph.module_outputs import MODULES_KEY, module_outputs, module_outputs_to_json
from samebox.graph.opset import EXPORTER_OPSET, at_opset, check_opset
from samebox.graph.reading import all_nodes, metadata
from samebox.networks.nets.contract import Deployable
from samebox.record.spec import METADATA_KEY, Spec

# The shape that the exporter traces. Batch 2, because the exporter would fix a batch of 1; height and width
# differ, so that it does not treat them as equal.
TRACED_BATCH = 2
TRACED_CANVAS = (256, 320)


def export(
    network: Deployable,
    spec: Spec,
    path: str | Path,
    *,
    opset: int,
    lowering: str,
    batch: int | None = None,
) -> Spec:
    """Write `network` to an ONNX file at `path` and return the record in its metadata.

    Height and width are dynamic unless `spec.preprocess.canvas` fixes them, and the batch is dynamic unless
    `batch` is given. Raises SameboxError for an opset or a lowering that cannot be written.
    """
    check_opset(opset)
    spec = replace(spec, opset=opset, lowering=lowering, samebox_version=samebox_version())
    network = lowered(network, lowering, opset)
    traced = onnx_from_network(network, batch, spec.preprocess.canvas)
    properties = {METADATA_KEY: spec.to_json()} | metadata(traced)
    model = at_opset(traced, opset)
    del model.graph.value_info[:]  # shapes with the exporter's symbols, which only the rewrites need
    helper.set_model_props(model, properties)
    check_standard(model, opset)
    with atomic_write(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return spec


def onnx_from_network(
    network: Deployable, batch: int | None = None, canvas: tuple[int, int] | None = None
) -> onnx.ModelProto:
    """The ONNX model of `network` at EXPORTER_OPSET.

    The names of inputs and outputs are those of `samebox.networks.nets.contract`. The metadata records which
    tensors are outputs of modules, see `samebox.graph.module_outputs`. `batch` and `canvas` (height, width)
    fix dimensions that are dynamic otherwise.
    """
    traced_batch, (height, width) = batch or TRACED_BATCH, canvas or TRACED_CANVAS
    images = torch.zeros(traced_batch, 3, height, width)
    sizes = torch.tensor([[height, width]] * traced_batch)
    dynamic = torch.export.Dim.DYNAMIC
    batch_axis = {} if batch else {0: dynamic}
    with torch.no_grad(), _without_exporter_warnings():
        program = torch.onnx.export(
            network.eval(),
            (images, sizes),
            dynamo=True,
            opset_version=EXPORTER_OPSET,
            dynamic_shapes=(batch_axis | ({} if canvas else {2: dynamic, 3: dynamic}), batch_axis),
            input_names=["images", "sizes"],
            output_names=list(network.outputs),
            custom_translation_table=TRANSLATIONS,
            verbose=False,
        )
    if program is None:
        raise SameboxError("torch's exporter returned no model")
    modules = module_outputs_to_json(module_outputs(program.model_proto))
    model = _normalized(program.model_proto)
    helper.set_model_props(model, {MODULES_KEY: modules})
    return model


def check_standard(model: onnx.ModelProto, opset: int) -> None:
    """Raises SameboxError unless `model` is valid, at `opset`, and contains only standard operators."""
    onnx.checker.check_model(model, full_check=True)
    imports = [(entry.domain, entry.version) for entry in model.opset_import]
    foreign = sorted({f"{node.domain}::{node.op_type}" for node in all_nodes(model.graph) if node.domain})
    if imports != [("", opset)] or foreign or model.functions:
        raise SameboxError(
            f"the graph is not plain ONNX at opset {opset}: it imports {imports}, uses {foreign}"
        )


def _normalized(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without machine-dependent texts, its dynamic dimensions named batch, height and width."""
    model.graph.name = "samebox"
    model.producer_name, model.producer_version, model.doc_string = "samebox", "", ""
    del model.metadata_props[:]
    for element in [model.graph, *all_nodes(model.graph), *model.graph.initializer]:
        # the exporter stores stack traces, with paths of this machine
        del element.metadata_props[:]
        element.doc_string = ""
    names = {}
    for axis, name in ((0, "batch"), (2, "height"), (3, "width")):
        names[model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param] = name
    for value in [*model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:  # a symbol or, for head outputs, an expression of symbols
                dim.dim_param = re.sub(r"[a-z]+\d+", lambda symbol: names[symbol[0]], dim.dim_param)
    return model


@contextmanager
def _without_exporter_warnings() -> Iterator[None]:
    """Hides the exporter's warnings of its own deprecations and of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
