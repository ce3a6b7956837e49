"""A network in eager PyTorch."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samebox.core.errors import NotHere, SameboxError
from samebox.networks.nets.contract import Deployable
from samebox.record.spec import METADATA_KEY, Spec
from samebox.runners.caps import Caps

DEVICES = ("cpu", "cuda")


class TorchRunner:
    """Runs `network` on `device`, "cpu" or "cuda". A context manager.

    Once entered, `caps` counts the images that reach a cap of the network, see `Caps`. Raises SameboxError
    for any other device, and NotHere on entry if PyTorch cannot use the device.
    """

    batch: int | None = None

    def __init__(self, network: Deployable, spec: Spec, device: str = "cpu") -> None:
        if device not in DEVICES:
            raise SameboxError(f"device: {device!r} is not one of {', '.join(DEVICES)}")
        self._network = network.eval()
        self._device = torch.device(device)
        self.metadata = {METADATA_KEY: spec.to_json()}
        self.name = spec.name

    def __enter__(self) -> "TorchRunner":
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise NotHere("PyTorch on CUDA: torch finds no NVIDIA GPU that it can use")
        torch.backends.cudnn.allow_tf32 = False  # by default cuDNN computes fp32 convolutions in TF32
        self._network.to(self._device)
        self._caps = Caps(self._network.network).__enter__()
        self.caps = self._caps.images
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._caps.__exit__(kind, error, trace)
        self._network.to("cpu")

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.generic]]:
        """images [B,3,H,W] and sizes [B,2] → the outputs by name, in host memory."""
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array).to(self._device) for name, array in inputs.items()}
            outputs = self._network(tensors["images"], tensors["sizes"])
            return {name: output.cpu().numpy() for name, output in outputs.items()}
