"""Renames for the parts that networks share, from detectron2, maskrcnn-benchmark and Detectron.

The parameters of the networks in this package are named as in MMDetection. Detectron's blobs have names
without dots (`conv1_w`, `res2_0_branch2a_bn_s`); the first renames give them the suffixes of parameters.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

from samebox.checkpoints.weights import Rename


def move_background_last(value: Tensor) -> Tensor:
    """Moves the first row, the background's, of parameters [C+1,…] to the end."""
    return value.roll(-1, 0)


def drop_background(rows: int) -> Callable[[Tensor], Tensor]:
    """A function that drops the first `rows` rows of a parameter: the background's, which are never used."""
    return lambda value: value[rows:]


def numbered_renames(pattern: str, name: str, first: int, count: int) -> Iterator[Rename]:
    """Renames of `count` numbered parts. "#" is the number: from `first` in `pattern`, from 0 in `name`."""
    for index in range(count):
        yield Rename(pattern.replace("#", str(first + index)), name.replace("#", str(index)))


# Suffixes of Detectron's blobs: scale of a norm, weight, bias. The first rename drops the state of the
# solver.
BLOB_RENAMES = (
    Rename(r"^[^.]*_momentum$|^(lr|iter|cur_iter|weight_order)$", None),
    Rename(r"^([^.]*_bn)_s$", r"\1.weight"),
    Rename(r"^([^.]*)_w$", r"\1.weight"),
    Rename(r"^([^.]*)_b$", r"\1.bias"),
)

# ResNet: stem, stages, parts of a block
BACKBONE_RENAMES = (
    *BLOB_RENAMES,
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


def fpn_renames(first: int) -> Iterator[Rename]:
    """Renames of an FPN whose finest map has stride 2^`first`."""
    for index, level in enumerate(range(first, 6)):
        inner, outer = f"neck.lateral_convs.{index}.conv.", f"neck.fpn_convs.{index}.conv."
        yield Rename(rf"^(backbone\.fpn_lateral{level}|backbone\.fpn\.fpn_inner{level - 1})\.", inner)
        yield Rename(rf"^(backbone\.fpn_output{level}|backbone\.fpn\.fpn_layer{level - 1})\.", outer)
        yield Rename(rf"^fpn_inner_res{level}_\d+_sum(_lateral)?\.", inner)
        yield Rename(rf"^fpn_res{level}_\d+_sum\.", outer)
