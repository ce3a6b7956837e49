"""Which operators a network is exported to, where more than one form says the same.

"portable": plain operators that every runtime has; TensorRT-RTX takes nothing else.
"onnx": ONNX's own detection operators, where there is one; ONNX Runtime runs them faster.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18 as op
from torch import Tensor, nn

from samebox.blocks.nms import GreedyNMS, gather_rows
from samebox.errors import SameboxError

LOWERINGS = ("portable", "onnx")

# For the exporter alone, which asks an operator for shapes and translates it: it has no kernel.
torch.library.define(
    "samebox::suppress",
    "(Tensor boxes, Tensor scores, Tensor labels, float iou_threshold, int count) -> Tensor",
)


@torch.library.register_fake("samebox::suppress")
def _(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, count: int) -> Tensor:
    return torch.empty_like(scores)


def suppress(boxes: Any, scores: Any, labels: Any, iou_threshold: float, count: int) -> Any:
    """ONNX for samebox::suppress: scores [B,N] with 0 for every box that NonMaxSuppression leaves out.

    NonMaxSuppression wants scores [B,classes,N]: each box has its own class's score, and 0 elsewhere.
    """
    classes = op.Range(0, op.ReduceMax(labels, keepdims=0) + 1, 1)
    mine = op.Equal(op.Unsqueeze(classes, [0, 2]), op.Unsqueeze(labels, [1]))
    by_class = op.Where(mine, op.Unsqueeze(scores, [1]), op.Constant(value_float=0.0))
    kept = op.NonMaxSuppression(
        boxes,
        by_class,
        op.Constant(value_ints=[count]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[0.0]),
    )  # [S,3]: image, class, box
    where = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(where, start=0, end=1))
    return op.Mul(scores, op.ScatterND(op.Mul(scores, 0.0), where, ones))


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.samebox.suppress.default: suppress}


class OperatorNMS(nn.Module):
    """GreedyNMS's contract by way of ONNX NonMaxSuppression."""

    def __init__(self, portable: GreedyNMS) -> None:
        super().__init__()
        self.iou_threshold = portable.iou_threshold
        self.count = portable.count

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As GreedyNMS.forward."""
        left = torch.ops.samebox.suppress(boxes, scores, labels, self.iou_threshold, self.count)
        best, index = left.topk(self.count)
        found = best > 0
        return gather_rows(boxes, index) * found[..., None], best, labels.gather(1, index) * found


OPERATORS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {GreedyNMS: OperatorNMS}


def lowered(network: nn.Module, lowering: str) -> nn.Module:
    """`network` itself for "portable", or a copy with ONNX's operators in place for "onnx".

    Raises SameboxError for another name.
    """
    if lowering not in LOWERINGS:
        raise SameboxError(f"export.lowering: {lowering!r} is none of {', '.join(LOWERINGS)}")
    if lowering == "portable":
        return network
    copied = copy.deepcopy(network)
    for name, module in list(copied.named_modules()):
        if type(module) in OPERATORS:
            copied.set_submodule(name, OPERATORS[type(module)](module))
    return copied
