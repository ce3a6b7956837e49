"""Builds a network from a plain dict, such as a config of `conf/detector` with its references resolved."""

import importlib
from collections.abc import Callable, Mapping, Sequence
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

# Prefixes of the classes and functions that `_target_` may name. Nothing else is imported.
_TARGET_PREFIXES = ("samebox.networks.", "torch.nn.")

# Raised by a constructor for a value of a type or size that it does not take
_CONSTRUCTION_ERRORS = (TypeError, ValueError, LookupError, RuntimeError)


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, its record, and the line that states what the checkpoint reader refused."""

    network: Deployable
    spec: Spec
    refusal: str | None


def load_network(
    detector: Mapping[str, Any],
    checkpoint: Checkpoint,
    class_names: Sequence[str],
    preprocess: Preprocess,
    postprocess: bool = True,
) -> LoadedNetwork:
    """Build the network of `detector` and load the checkpoint into it; names and shapes must match exactly.

    `detector` has the keys name, network and normalize, and optionally decoding. With `postprocess=False` the
    network returns its head outputs. Raises SameboxError if a part of the network refuses a value, or if
    the checkpoint does not fit the network.
    """
    network = build(detector["network"])
    source = str(checkpoint.path)
    state = rename_parameters(checkpoint.state, getattr(network, "renames", ()), source)
    load_strictly(network, state, source)
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
    return LoadedNetwork(deployable, spec, checkpoint.refusal_line())


def build(network: Mapping[str, Any]) -> nn.Module:
    """Build the module that `network` describes.

    A mapping with `_target_` calls the class or function of that name: `_args_` holds its positional
    arguments, every other key is a keyword argument. With `_partial_: true` it returns a `functools.partial`
    instead. Arguments may be such mappings themselves. Raises SameboxError, naming the key, if a target is
    unknown or refuses its arguments.
    """
    module = _build_value(network, "detector.network")
    if not isinstance(module, nn.Module):
        raise SameboxError("detector.network: is not a module; set _target_ to the class of the network")
    return module


def _build_value(value: Any, key: str) -> Any:
    if isinstance(value, list):
        return [_build_value(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    values = {name: _build_value(item, f"{key}.{name}") for name, item in value.items()}
    if "_target_" not in values:
        return values
    name = values.pop("_target_")
    target = _target(name, key)
    args, is_partial = values.pop("_args_", ()), values.pop("_partial_", False)
    try:
        call = partial(target, *args, **values)
        return call if is_partial else call()
    except SameboxError as error:
        raise SameboxError(f"{key}: {error}") from None
    except _CONSTRUCTION_ERRORS as error:
        reason = " ".join(str(error).split())
        raise SameboxError(f"{key}: {reason}; see {name}") from None


def _target(name: Any, key: str) -> Callable[..., Any]:
    """The class or function called `name`. Raises SameboxError for any other name."""
    module, _, attribute = str(name).rpartition(".")
    if f"{module}.".startswith(_TARGET_PREFIXES):
        try:
            target = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError):
            target = None
        if callable(target):
            return target
    prefixes = " or ".join(f"{prefix}*" for prefix in _TARGET_PREFIXES)
    raise SameboxError(f"{key}._target_: {name!r} is no part of a network; use a name of {prefixes}")
