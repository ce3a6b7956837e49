"""The lowerings: the operators by which NMS and RoIAlign are exported.

"portable": plain operators that every runtime supports, and the only form that TensorRT-RTX builds.
"onnx": ONNX's NonMaxSuppression and RoiAlign, which ONNX Runtime executes faster.
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

# Custom operators of torch that only the exporter sees: it infers their shapes and translates them to ONNX.
# They have no kernels.
torch.library.define(
    "samebox::suppress",
    "(Tensor boxes, Tensor scores, Tensor labels, float iou_threshold, int count) -> Tensor",
)
torch.library.define(
    "samebox::align",
    "(Tensor pooled, Tensor features, Tensor boxes, Tensor on_level, int size, float scale, int samples, "
    "bool aligned) -> Tensor",
)


@torch.library.register_fake("samebox::suppress")
def _(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float, count: int) -> Tensor:
    return torch.empty_like(scores)


def suppress(boxes: Any, scores: Any, labels: Any, iou_threshold: float, count: int) -> Any:
    """ONNX translation of samebox::suppress: scores [B,N], 0 for every box that is suppressed.

    NonMaxSuppression expects scores [B,classes,N]: each box has its score in the row of its class and 0 in
    the others.
    """
    classes = op.Range(0, op.ReduceMax(labels, keepdims=0) + 1, 1)
    of_class = op.Equal(op.Unsqueeze(classes, [0, 2]), op.Unsqueeze(labels, [1]))
    by_class = op.Where(of_class, op.Unsqueeze(scores, [1]), op.Constant(value_float=0.0))
    selected = op.NonMaxSuppression(
        boxes,
        by_class,
        op.Constant(value_ints=[count]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[0.0]),
    )  # [S,3]: image, class, box
    positions = op.Gather(selected, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(positions, start=0, end=1))
    return op.Mul(scores, op.ScatterND(op.Mul(scores, 0.0), positions, ones))


@torch.library.register_fake("samebox::align")
def _(
    pooled: Tensor,
    features: Tensor,
    boxes: Tensor,
    on_level: Tensor,
    size: int,
    scale: float,
    samples: int,
    aligned: bool,
) -> Tensor:
    return torch.empty_like(pooled)


def align(
    pooled: Any,
    features: Any,
    boxes: Any,
    on_level: Any,
    size: int,
    scale: float,
    samples: int,
    aligned: bool,
) -> Any:
    """ONNX translation of samebox::align: `pooled` [B*N,C,size,size] with the regions of one level filled in.

    features [B,C,H,W] are those of the level, boxes [B*N,4] are in pixels, image by image, and on_level [B*N]
    bool selects the regions of the level. `samples` is the number of samples per bin and direction, 0 for
    an adaptive number; `aligned` is that of `RoIAlign`.
    """
    rows = op.NonZero(on_level)  # [1,M]
    per_image = op.Div(op.Shape(boxes, start=0, end=1), op.Shape(features, start=0, end=1))
    rows = op.Squeeze(rows, [0])
    regions = op.RoiAlign(
        features,
        op.Gather(boxes, rows),
        op.Div(rows, per_image),
        output_height=size,
        output_width=size,
        sampling_ratio=samples,
        spatial_scale=scale,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )
    return op.ScatterND(pooled, op.Unsqueeze(rows, [1]), regions)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.samebox.suppress.default: suppress,
    torch.ops.samebox.align.default: align,
}


class OperatorNMS(nn.Module):
    """The interface of GreedyNMS, by ONNX's NonMaxSuppression."""

    def __init__(self, portable: GreedyNMS) -> None:
        super().__init__()
        self.iou_threshold = portable.iou_threshold
        self.count = portable.count
        self.per_class = min(portable.per_class or portable.count, portable.count)
        self.inclusive = portable.inclusive

    def forward(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `GreedyNMS.forward`."""
        continuous = as_continuous(boxes, self.inclusive)
        kept = torch.ops.samebox.suppress(continuous, scores, labels, self.iou_threshold, self.per_class)
        best, index = kept.topk(self.count)
        is_detection = best > 0
        rows = torch.where(is_detection[..., None], gather_rows(boxes, index), 0.0)
        return rows, best, labels.gather(1, index) * is_detection


class OperatorRoIAlign(nn.Module):
    """The interface of RoIAlign, by one ONNX RoiAlign per level, each for the regions of that level only."""

    def __init__(self, portable: RoIAlign) -> None:
        super().__init__()
        self.portable = portable

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """See `RoIAlign.forward`."""
        size, level = self.portable.size, self.portable.levels(boxes).flatten()
        settings = self.portable.samples or 0, self.portable.aligned
        flat = boxes.flatten(0, 1)
        out = boxes.new_zeros(flat.shape[0], maps[0].shape[1], size, size)
        for index, (stride, features) in enumerate(zip(self.portable.strides, maps, strict=False)):
            out = torch.ops.samebox.align(out, features, flat, level == index, size, 1 / stride, *settings)
        return out.unflatten(0, boxes.shape[:2])


OPERATOR_MODULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    GreedyNMS: OperatorNMS,
    RoIAlign: OperatorRoIAlign,
}

# The opsets at which an operator is used, if not all: before 16 RoiAlign has no half pixels, and ONNX Runtime
# 1.31 does not have the RoiAlign of opset 22 on the CPU.
OPERATOR_OPSETS: dict[Callable[[Any], nn.Module], range] = {OperatorRoIAlign: range(16, 22)}


def lowered(network: Network, lowering: str, opset: int) -> Network:
    """`network` itself for "portable", or a copy that uses ONNX's operators for "onnx".

    An operator that is not available at `opset` is exported by plain operators. Raises SameboxError for an
    unknown lowering.
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
