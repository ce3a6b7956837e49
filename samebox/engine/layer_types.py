"""The data types in which the layers of an engine compute."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from samebox.core.errors import SameboxError
from samebox.engine.flavour import create_runtime
from samebox.record.spec import PRECISION_KEY

# TensorRT's types of real numbers → precision. Its other types hold integers and booleans.
PRECISION_OF_TYPE = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8"}

# TensorRT's type → the words by which the inspector names it, alone or in the description of a format
_TYPE_PATTERNS = {
    "FLOAT": r"fp32|float",
    "HALF": r"fp16|half",
    "BF16": r"bf16|bfloat16",
    "INT8": r"int8",
    "INT32": r"int32",
    "INT64": r"int64",
    "BOOL": r"bool",
}


def engine_layer_types(trt: Any, plan: Any, version_compatible: bool) -> dict[str, int]:
    """The number of layers of the engine in `plan` by TensorRT's type of their first output.

    These are the layers after fusion. Empty if the plan does not load here, or if the inspector reports no
    layers.
    """
    runtime = create_runtime(trt, version_compatible)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return {}
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    del inspector, engine  # TensorRT requires that they are deleted before their runtime
    return parsed_layer_types(text)


def parsed_layer_types(text: str) -> dict[str, int]:
    """The counts of `engine_layer_types` from the inspector's text, which is not always JSON with layers."""
    try:
        information = json.loads(text)
    except ValueError:
        return {}
    layers = [layer for layer in information.get("Layers", []) if isinstance(layer, dict)]
    formats = [layer["Outputs"][0].get("Format/Datatype", "") for layer in layers if layer.get("Outputs")]
    return _sorted_counts(name for text in formats if (name := _type_name(text)))


def _type_name(text: str) -> str | None:
    """TensorRT's type in a format's description, such as "Half" or "Row major linear FP16 format"."""
    patterns = _TYPE_PATTERNS.items()
    names = (name for name, words in patterns if re.search(rf"\b({words})\b", text, re.IGNORECASE))
    return next(names, None)


def network_layer_types(network: Any) -> dict[str, int]:
    """The number of layers of the network by TensorRT's type of their first output.

    The engine of a strongly typed network keeps these types.
    """
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return _sorted_counts(layer.get_output_type(0).name for layer in layers if layer.num_outputs)


def _sorted_counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def layers_by_precision(types: Mapping[str, int]) -> dict[str, int]:
    """The number of layers by precision, for layers whose output holds real numbers."""
    return {PRECISION_OF_TYPE[name]: count for name, count in types.items() if name in PRECISION_OF_TYPE}


def precision_shares(types: Mapping[str, int]) -> dict[str, float]:
    """The share, 0..1, of each precision among the layers whose output holds real numbers."""
    counts = layers_by_precision(types)
    return {name: round(count / sum(counts.values()), 4) for name, count in counts.items()}


def check_requested_precision(types: Mapping[str, int], metadata: Mapping[str, str], source: Path) -> None:
    """Raises SameboxError if no layer has the precision that the record of the ONNX file `source` states.

    `types` are those of the network. Those of the engine would not do: a fused layer may have fp32 inputs
    and outputs around fp16.
    """
    if PRECISION_KEY not in metadata:
        return
    try:
        requested = json.loads(metadata[PRECISION_KEY])["asked"]
    except (ValueError, KeyError, TypeError):
        raise SameboxError(
            f"{source}: its metadata entry {PRECISION_KEY} is damaged; create the file again"
        ) from None
    counts = layers_by_precision(types)
    if requested not in counts:
        layers = ", ".join(f"{name} in {count} layers" for name, count in counts.items()) or "no real numbers"
        raise SameboxError(f"{source}: it states {requested}, but has {layers}; create the file again")
