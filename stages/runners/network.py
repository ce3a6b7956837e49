"""The runner of the network in PyTorch."""

from pathlib import Path

from omegaconf import DictConfig

from samebox.runners.protocol import Runner
from samebox.runners.torch import TorchRunner
from stages.networks import load_network


def torch_runner(config: DictConfig, path: Path, device: str) -> Runner:
    """The network in eager PyTorch, from its checkpoint."""
    loaded = load_network(config, path)
    return TorchRunner(loaded.network, loaded.spec, device)
