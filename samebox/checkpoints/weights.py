"""Loading a state dict into a network: all of its parameters or none."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from samebox.core.errors import SameboxError
from samebox.core.text import one_line

_STATISTICS = ("running_mean", "running_var")


class Rename(NamedTuple):
    """How parameters that have another name in a checkpoint are read.

    `pattern` is a regular expression, searched in the name. `name` replaces the match, with `re.sub`'s group
    references; None drops a parameter that the network does not use. `convert` changes a value that is laid
    out differently in the checkpoint.
    """

    pattern: str
    name: str | None
    convert: Callable[[Tensor], Tensor] | None = None


def rename_parameters(
    state: Mapping[str, Tensor], renames: Sequence[Rename], source: str = "the checkpoint"
) -> dict[str, Tensor]:
    """The state dict after all `renames`, applied one after the other, so that it fits the network's names.

    If all names begin with `module.`, as PyTorch's parallel training writes them, that prefix is removed
    first. MMDetection 2's moving averages are dropped, see `_without_averages`. Raises SameboxError if two
    parameters get the same name; `source` names the checkpoint in the text.
    """
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    renamed: dict[str, Tensor] = {}
    for old_name, value in _without_averages(state).items():
        name: str | None = old_name
        for rename in renames:
            if name is None or not re.search(rename.pattern, name):
                continue
            name = None if rename.name is None else re.sub(rename.pattern, rename.name, name)
            value = value if rename.convert is None else rename.convert(value)
        if name in renamed:
            raise SameboxError(
                f"{source}: {one_line(old_name)} and another parameter are both renamed to {name}; "
                "save the state_dict() of the original network again"
            )
        if name is not None:
            renamed[name] = value
    return renamed


def _without_averages(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without `ema_backbone_conv1_weight` beside `backbone.conv1.weight`, and so on.

    The hook of MMDetection 2 swaps the two before it saves: testing uses the weights under their own names.
    """
    averages = {f"ema_{name.replace('.', '_')}" for name in state}
    return {name: value for name, value in state.items() if name not in averages}


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `network`. Every key must be used once, and every shape must be equal.

    Values are converted to the network's dtype. Two kinds of buffers may be missing. `num_batches_tracked`:
    checkpoints from before PyTorch 0.4.1 do not have it, and inference does not use it. The running
    statistics of all norms together: Detectron folds them into scale and bias, which leaves mean 0 and
    variance 1. Raises SameboxError, which lists the differences or the parameters that are not finite, before
    anything is copied; `source` names the checkpoint in the text.
    """
    own = network.state_dict()
    folded = not any(name.endswith(_STATISTICS) for name in state)
    optional = ("num_batches_tracked", *(_STATISTICS if folded else ()))
    differences = {
        "missing": [name for name in own if name not in state and not name.endswith(optional)],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} (file {tuple(state[name].shape)}, network {tuple(own[name].shape)})"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    }
    if any(differences.values()):
        summary = "; ".join(_summary(kind, names) for kind, names in differences.items() if names)
        raise SameboxError(
            f"{source}: does not fit the network: {summary}; choose the detector that the checkpoint was "
            "trained as, with the same number of classes"
        )
    if broken := [name for name, value in state.items() if not torch.isfinite(value).all()]:
        raise SameboxError(
            f"{source}: {_summary('parameters are NaN or infinite', broken)}; choose a checkpoint from "
            "before the training diverged"
        )
    network.load_state_dict(state, strict=False)


def _summary(kind: str, names: list[str], limit: int = 3) -> str:
    listed = ", ".join(one_line(name) for name in names[:limit])
    return f"{len(names)} {kind}: {listed}{', …' if len(names) > limit else ''}"
