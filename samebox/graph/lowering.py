"""Which operators a network is exported to, where more than one form says the same.

"portable": plain operators that every runtime has; TensorRT-RTX takes nothing else.
"onnx": ONNX's own detection operators, where there is one; ONNX Runtime runs them faster.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from onnxscript import opset18 as op
from torch import Tensor, nn

from samebox.core.errors import SameboxError
from samebox.networks.blocks.boxes import as_continuous
from samebox.networks.blocks.nms import GreedyNMS, gather_rows
from samebox.networks.blocks.roi_align import RoIAlign

LOWERINGS = ("portable", "onnx")

Network = TypeVar("Network", bound=nn.Module)

# For the exporter alone, which asks operators for shapes and translates them: these have no kernels.
torch.library.define(
    "samebox::suppress",
    "(Tensor boxes, Tensor scores, Tensor labels, float iou_threshold, int count) -> Tensor",
)
torch.library.define(
    "samebox::align",
    "(Tensor into, Tensor features, Tensor boxes, Tensor mine, int size, float scale, int samples, "
    "bool aligned) -> Tensor",
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


@torch.library.register_fake("samebox::align")
def _(
    into: Tensor,
    features: Tensor,
    boxes: Tensor,
    mine: Tensor,
    size: int,
    scale: float,
    samples: int,
    aligned: bool,
) -> Tensor:
    return torch.empty_like(into)


def align(
    into: Any, features: Any, boxes: Any, mine: Any, size: int, scale: float, samples: int, aligned: bool
) -> Any:
    """ONNX for samebox::align: into [B*N,C,size,size] with the rows of `mine` [B*N] bool put in.

    features [B,C,H,W] are those of one level, boxes [B*N,4] in pixels, image by image. `samples` are those of
    a bin in each direction, 0: as many as it takes; `aligned` as of RoIAlign.
    """
    rows = op.NonZero(mine)  # [1,M]
    per_image = op.Div(op.Shape(boxes, start=0, end=1), op.Shape(features, start=0, end=1))
    rows = op.Squeeze(rows, [0])
    aligned = op.RoiAlign(
        features,
        op.Gather(boxes, rows),
        op.Div(rows, per_image),
        output_height=size,
        output_width=size,
        sampling_ratio=samples,
        spatial_scale=scale,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )
    return op.ScatterND(into, op.Unsqueeze(rows, [1]), aligned)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.samebox.suppress.default: suppress,
    torch.ops.samebox.align.default: align,
}


class OperatorNMS(nn.Module):
    """GreedyNMS's contract by way of ONNX NonMaxSuppression."""

    def __init__(self, portable: GreedyNMS) -> None:
        super().__init__()
        self.iou_threshold = portable.iou_threshold
        self.count = portable.count
        self.per_class = min(portable.per_class or portable.count, portable.count)
        self.inclusive = portable.inclusive

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As GreedyNMS.forward."""
        outlines = as_continuous(boxes, self.inclusive)
        left = torch.ops.samebox.suppress(outlines, scores, labels, self.iou_threshold, self.per_class)
        best, index = left.topk(self.count)
        found = best > 0
        rows = torch.where(found[..., None], gather_rows(boxes, index), 0.0)
        return rows, best, labels.gather(1, index) * found


class OperatorRoIAlign(nn.Module):
    """RoIAlign's contract by way of ONNX RoiAlign: each level is asked for its own regions alone."""

    def __init__(self, portable: RoIAlign) -> None:
        super().__init__()
        self.portable = portable

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """As RoIAlign.forward."""
        size, level = self.portable.size, self.portable.levels(boxes).flatten()
        how = self.portable.samples or 0, self.portable.aligned
        flat = boxes.flatten(0, 1)
        out = boxes.new_zeros(flat.shape[0], maps[0].shape[1], size, size)
        for index, (stride, features) in enumerate(zip(self.portable.strides, maps, strict=False)):
            out = torch.ops.samebox.align(out, features, flat, level == index, size, 1 / stride, *how)
        return out.unflatten(0, boxes.shape[:2])


OPERATOR_MODULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    GreedyNMS: OperatorNMS,
    RoIAlign: OperatorRoIAlign,
}

# The opsets at which an operator can stand, where not at all: before 16 RoiAlign knows no half pixels, and
# that of 22 ONNX Runtime 1.31 has not on the CPU
OPERATOR_OPSETS: dict[Callable[[Any], nn.Module], range] = {OperatorRoIAlign: range(16, 22)}


def lowered(network: Network, lowering: str, opset: int) -> Network:
    """`network` itself for "portable", or a copy with ONNX's operators in place for "onnx".

    An operator that is not to be had at `opset` is left in plain ones. Raises SameboxError for
    another name.
    """
    if lowering not in LOWERINGS:
        raise SameboxError(f"export.lowering: {lowering!r} is none of {', '.join(LOWERINGS)}")
    if lowering == "portable":
        return network
    copied = copy.deepcopy(network)
    for name, module in list(copied.named_modules()):
        operator = OPERATOR_MODULES.get(type(module))
        if operator and opset in OPERATOR_OPSETS.get(operator, (opset,)):
            copied.set_submodule(name, operator(module))
    return copied
