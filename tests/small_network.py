"""A network of a few modules that is exported in seconds, and changes to its ONNX file."""

import tempfile
from functools import cache
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from samebox.graph.export import export
from samebox.graph.reading import onnx_model
from samebox.networks.nets.contract import Deployable, Normalize
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import Spec

NORMALIZE = {"mean": [120.0] * 3, "std": [60.0] * 3, "channel_order": "RGB"}
SPEC = Spec("small", ("a",), Preprocess(Resize((32, 32))), NORMALIZE, "0" * 64, postprocess=False)
# The modules whose outputs the file records, in the order of execution
MODULES = [
    "normalize", "network.norm", "network.relu", "network.body", "network.relu", "network.head",
    "network.head",
]  # fmt: skip


class Small(nn.Module):
    """A norm that onnxsim folds into its convolution, a ReLU and a head that are called twice each."""

    outputs = head_outputs = ("near", "far")

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def heads(self, images: torch.Tensor, sizes: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.relu(self.norm(self.stem(images)))
        y = self.relu(self.body(x) + x)
        return {"near": self.head(x), "far": self.head(y[:, :, ::2, ::2])}


def small_network() -> Deployable:
    torch.manual_seed(0)
    return Deployable(Normalize(**NORMALIZE), Small(), postprocess=False).eval()


@cache
def _exported() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        export(small_network(), SPEC, path, opset=18, lowering="portable")
        return path.read_bytes()


def small_file(path: Path) -> Path:
    """Write the exported network to `path`. The export runs once per process."""
    path.write_bytes(_exported())
    return path


def changed(source: Path, target: Path, change) -> Path:
    """Write the model of `source` to `target` after `change(model)`, and return `target`."""
    model = onnx_model(source)
    change(model)
    onnx.save(model, target)
    return target


def scaled_weight(name: str, factor: float, index: tuple[int, ...]):
    """A change that multiplies one element of a weight."""

    def change(model: onnx.ModelProto) -> None:
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
        values = numpy_helper.to_array(tensor).copy()
        values[index] *= factor
        tensor.CopyFrom(numpy_helper.from_array(values, name))

    return change
