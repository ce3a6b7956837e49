"""Weights into a network, each of them or none."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from samebox.checkpoints.machine import one_line
from samebox.errors import SameboxError


def renamed(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """`state` under the names that `rules`, pairs of a regular expression and its replacement, lead to.

    They are applied one after the other. So a network reads checkpoints in which its parts have older names.
    """
    names = {name: name for name in state}
    for pattern, replacement in rules:
        names = {old: re.sub(pattern, replacement, name) for old, name in names.items()}
    return {names[old]: value for old, value in state.items()}


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy `state` into `network`: every key is used once, every shape is equal.

    Values take the network's own dtype. Counters of batches seen (`num_batches_tracked`) may be missing:
    checkpoints of before PyTorch 0.4.1 have none, and inference has no use for them. Raises SameboxError
    that lists the difference, before anything is copied; `source` names the checkpoint in it.
    """
    own = network.state_dict()
    differences = {
        "missing": [name for name in own if name not in state and not name.endswith("num_batches_tracked")],
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
