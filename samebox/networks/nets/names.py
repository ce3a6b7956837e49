"""What other frameworks call the parts that networks share: detectron2, maskrcnn-benchmark and Detectron.

The names of the networks here are MMDetection's. Detectron's blobs are named without dots (`conv1_w`,
`res2_0_branch2a_bn_s`): the first rules give them the endings of parameters.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

from samebox.checkpoints.weights import Rename


def background_last(value: Tensor) -> Tensor:
    """Rows of classes, the background first → last."""
    return value.roll(-1, 0)


def without_background(rows: int) -> Callable[[Tensor], Tensor]:
    """What leaves out the first `rows`, the background's, which nobody asks for."""
    return lambda value: value[rows:]


def counted(pattern: str, name: str, first: int, count: int) -> Iterator[Rename]:
    """Rules for parts numbered from `first` on, which `name` numbers from 0: "#" is the number in either."""
    for index in range(count):
        yield Rename(pattern.replace("#", str(first + index)), name.replace("#", str(index)))


# Of scale and bias of a norm, of weight and bias of a layer; and what training left beside them
BLOBS = (
    Rename(r"^[^.]*_momentum$|^(lr|iter|cur_iter|weight_order)$", None),
    Rename(r"^([^.]*_bn)_s$", r"\1.weight"),
    Rename(r"^([^.]*)_w$", r"\1.weight"),
    Rename(r"^([^.]*)_b$", r"\1.bias"),
)

# ResNet, by its stem, its stages and the parts of a block
BACKBONE = (
    *BLOBS,
    Rename(
        r"^(backbone\.bottom_up\.stem\.conv1\.norm|backbone\.body\.stem\.bn1|res_conv1_bn)\.", "backbone.bn1."
    ),
    Rename(r"^(backbone\.bottom_up\.stem\.|backbone\.body\.stem\.|)conv1\.", "backbone.conv1."),
    *(
        Rename(rf"^(?:backbone\.bottom_up\.)?res{stage + 1}[._](\d+)[._]", rf"backbone.layer{stage}.\1.")
        for stage in range(1, 5)
    ),
    Rename(r"^backbone\.body\.layer", "backbone.layer"),
    Rename(r"^(backbone\.layer.*\.)(shortcut\.norm|branch1_bn)\.", r"\1downsample.1."),
    Rename(r"^(backbone\.layer.*\.)(shortcut|branch1)\.", r"\1downsample.0."),
    Rename(r"^(backbone\.layer.*\.)conv(\d)\.norm\.", r"\1bn\2."),
    *(
        rule
        for number, letter in enumerate("abc", start=1)
        for rule in (
            Rename(rf"^(backbone\.layer.*\.)branch2{letter}_bn\.", rf"\1bn{number}."),
            Rename(rf"^(backbone\.layer.*\.)branch2{letter}\.", rf"\1conv{number}."),
        )
    ),
)


def pyramid(first: int) -> Iterator[Rename]:
    """Rules for an FPN whose finest map is that of stride 2^`first`."""
    for index, level in enumerate(range(first, 6)):
        inner, outer = f"neck.lateral_convs.{index}.conv.", f"neck.fpn_convs.{index}.conv."
        yield Rename(rf"^(backbone\.fpn_lateral{level}|backbone\.fpn\.fpn_inner{level - 1})\.", inner)
        yield Rename(rf"^(backbone\.fpn_output{level}|backbone\.fpn\.fpn_layer{level - 1})\.", outer)
        yield Rename(rf"^fpn_inner_res{level}_\d+_sum(_lateral)?\.", inner)
        yield Rename(rf"^fpn_res{level}_\d+_sum\.", outer)
