"""The types that an engine computes in, read back from it."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from samebox.core.errors import SameboxError
from samebox.engine.flavour import runtime
from samebox.record.spec import PRECISION_KEY

# TensorRT's names of the types that real numbers have; the others carry integers and truth values
REAL = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8"}

# How the inspector words a type, by itself or within the description of a format
_WORDED = {
    "FLOAT": r"fp32|float",
    "HALF": r"fp16|half",
    "BF16": r"bf16|bfloat16",
    "INT8": r"int8",
    "INT32": r"int32",
    "INT64": r"int64",
    "BOOL": r"bool",
}


def types_in_engine(trt: Any, plan: Any, version_compatible: bool) -> dict[str, int]:
    """How many layers of the opened `plan` give which type first, as TensorRT calls it.

    Layers are those that TensorRT fused the network's to. Empty where the plan does not open here, or the
    inspector does not tell.
    """
    opened = runtime(trt, version_compatible)
    engine = opened.deserialize_cuda_engine(plan)
    if engine is None:
        return {}
    inspector = engine.create_engine_inspector()
    told = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    del inspector, engine  # before their runtime, as TensorRT asks
    return types_told(told)


def types_told(text: str) -> dict[str, int]:
    """The counts of `types_in_engine` in what the inspector tells, which is not always JSON with layers."""
    try:
        information = json.loads(text)
    except ValueError:
        return {}
    layers = [layer for layer in information.get("Layers", []) if isinstance(layer, dict)]
    formats = [layer["Outputs"][0].get("Format/Datatype", "") for layer in layers if layer.get("Outputs")]
    return _counted(name for text in formats if (name := _named(text)))


def _named(text: str) -> str | None:
    """TensorRT's name of the type in the words of a format: "Half", "Row major linear FP16 format"."""
    words = (name for name, word in _WORDED.items() if re.search(rf"\b({word})\b", text, re.IGNORECASE))
    return next(words, None)


def types_in_network(network: Any) -> dict[str, int]:
    """How many layers of the network give which type first; a strongly typed engine keeps to these."""
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return _counted(layer.get_output_type(0).name for layer in layers if layer.num_outputs)


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def precisions(types: Mapping[str, int]) -> dict[str, int]:
    """How many layers give real numbers of which precision."""
    return {REAL[name]: count for name, count in types.items() if name in REAL}


def shares(types: Mapping[str, int]) -> dict[str, float]:
    """Which share, 0..1, of the layers that give real numbers is of which precision."""
    counts = precisions(types)
    return {name: round(count / sum(counts.values()), 4) for name, count in counts.items()}


def check_precision(types: Mapping[str, int], metadata: Mapping[str, str], source: Path) -> None:
    """Raise SameboxError where the ONNX file `source` says that it is in a precision that no layer has.

    `types` are the network's: a layer that an engine fused may have others at its ends.
    """
    if PRECISION_KEY not in metadata:
        return
    try:
        asked = json.loads(metadata[PRECISION_KEY])["asked"]
    except (ValueError, KeyError, TypeError):
        raise SameboxError(f"{source}: its record {PRECISION_KEY} is damaged; make it anew") from None
    found = precisions(types)
    if asked not in found:
        raise SameboxError(f"{source}: asked {asked} but got {_told(found)}; make the file anew")


def _told(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name} in {count} layers" for name, count in found.items()) or "no real numbers"
