"""A network from plain values: what a choice of `conf/detector` holds once every reference is resolved."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from samebox.checkpoints.unpickle import Checkpoint
from samebox.checkpoints.weights import load_strictly, rename_parameters
from samebox.core.errors import SameboxError
from samebox.core.files import sha256
from samebox.networks.nets.contract import Deployable, Normalize
from samebox.record.decoding import Decoding
from samebox.record.preprocess import Preprocess
from samebox.record.spec import Spec

# Where parts of a network may come from; no other name is imported
_SOURCES = ("samebox.networks.", "torch.nn.")


@dataclass(frozen=True)
class Loaded:
    """A network with its weights, the record that travels with it, and what the checkpoint reader refused."""

    network: Deployable
    spec: Spec
    refusal: str | None


def load_network(
    detector: Mapping[str, Any],
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    preprocess: Preprocess,
    postprocess: bool = True,
) -> Loaded:
    """Build the network of `detector` and load the checkpoint into it, strictly.

    `detector` has the keys name, network and normalize, and may have decoding. Without `postprocess` the
    network returns the outputs of its heads. Raises SameboxError if a value is refused by a part of the
    network, or if the checkpoint belongs to another network.
    """
    network = build(detector["network"])
    source = str(checkpoint.path)
    load_strictly(
        network, rename_parameters(checkpoint.state, getattr(network, "renames", ()), source), source
    )
    spec = Spec(
        name=detector["name"],
        class_names=tuple(class_names),
        preprocess=preprocess,
        normalize=detector["normalize"],
        checkpoint_sha256=sha256(checkpoint.path),
        postprocess=postprocess,
        decoding=Decoding.from_dict(detector.get("decoding", {})),
    )
    deployable = Deployable(Normalize(**detector["normalize"]), network, postprocess).eval()
    return Loaded(deployable, spec, checkpoint.refusal_line())


def build(network: Mapping[str, Any]) -> nn.Module:
    """The module that `network` describes. Raises SameboxError naming the key of a value that is refused.

    A mapping with `_target_` is a call of what that names: `_args_` are its positional arguments, all other
    keys its named ones, and with `_partial_` it is a `functools.partial`.
    """
    return _built(network, "detector.network")


def _built(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_built(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    values = {name: _built(item, f"{key}.{name}") for name, item in value.items()}
    if "_target_" not in values:
        return values
    target = _target(values.pop("_target_"), key)
    call = partial(target, *values.pop("_args_", ()))
    if values.pop("_partial_", False):
        return partial(call, **values)
    try:
        return call(**values)
    except SameboxError as error:
        raise SameboxError(f"{key}: {error}") from None
    except (
        TypeError,
        ValueError,
        LookupError,
        RuntimeError,
    ) as error:  # of another type or size than a part takes
        reason = " ".join(str(error).split())
        raise SameboxError(f"{key}: {reason}; see {target.__module__}.{target.__qualname__}") from None


def _target(name: Any, key: str) -> Any:
    """The class or function called `name`. Raises SameboxError if it is not a part of a network."""
    module, _, attribute = str(name).rpartition(".")
    if f"{module}.".startswith(_SOURCES):
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            pass
    raise SameboxError(
        f"{key}._target_: {name!r} is no part of a network; name one of {' or '.join(_SOURCES)}…"
    )
