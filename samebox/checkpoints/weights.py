"""Weights into a network, each of them or none."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from samebox.core.errors import SameboxError, one_line

_STATISTICS = ("running_mean", "running_var")


class Rule(NamedTuple):
    """How a parameter of another name is read.

    `pattern`: a regular expression for the name; `name`: what takes its place, or None for a parameter that
    the network has no use for. `convert`: what its value becomes, where that is laid out otherwise.
    """

    pattern: str
    name: str | None
    convert: Callable[[Tensor], Tensor] | None = None


def renamed(
    state: Mapping[str, Tensor], rules: Sequence[Rule], source: str = "the checkpoint"
) -> dict[str, Tensor]:
    """`state` as `rules` make it, which are applied one after the other.

    So a network reads checkpoints in which its parts have other names. A prefix `module.`, as PyTorch's
    parallel training leaves it, goes first, where all names have it. Raises SameboxError where two parameters
    come out under one name; `source` names the checkpoint in it.
    """
    parallel = all(name.startswith("module.") for name in state)
    found: dict[str, Tensor] = {}
    for old, value in state.items():
        name: str | None = old.removeprefix("module.") if parallel else old
        for rule in rules:
            if name is None or not re.search(rule.pattern, name):
                continue
            name = None if rule.name is None else re.sub(rule.pattern, rule.name, name)
            value = value if rule.convert is None else rule.convert(value)
        if name in found:
            raise SameboxError(
                f"{source}: {one_line(old)} and another parameter are both {name}; save it anew"
            )
        if name is not None:
            found[name] = value
    return found


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `network`: every key is used once, every shape is equal.

    Values take the network's own dtype. Counters of batches seen (`num_batches_tracked`) may be missing:
    checkpoints of before PyTorch 0.4.1 have none, and inference has no use for them. So may the statistics
    of all norms: Detectron folds them into scale and bias, which leaves mean 0 and variance 1. Raises
    SameboxError that lists the difference, before anything is copied; `source` names the checkpoint in it.
    """
    own = network.state_dict()
    folded = not any(name.endswith(_STATISTICS) for name in state)
    optional = ("num_batches_tracked", *(_STATISTICS if folded else ()))
    differences = {
        "missing": [name for name in own if name not in state and not name.endswith(optional)],
        "unexpected": [name for name in state if name not in own],
        "misshapen": [
            f"{name} (file {tuple(state[name].shape)}, network {tuple(own[name].shape)})"
            for name in own
            if name in state and state[name].shape != own[name].shape
        ],
    }
    if any(differences.values()):
        listed = "; ".join(_listed(kind, names) for kind, names in differences.items() if names)
        raise SameboxError(
            f"{source}: does not fit the network: {listed}; "
            "a checkpoint of another network or number of classes? Choose the detector it was trained as"
        )
    network.load_state_dict(state, strict=False)


def _listed(kind: str, names: list[str], most: int = 3) -> str:
    shown = ", ".join(one_line(name) for name in names[:most])
    return f"{len(names)} {kind}: {shown}{', …' if len(names) > most else ''}"
