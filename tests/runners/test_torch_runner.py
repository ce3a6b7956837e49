import numpy as np
import pytest
import torch
from torch import nn

from samebox.core.errors import NotHere, SameboxError
from samebox.networks.nets.contract import Deployable, Normalize
from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import Spec
from samebox.runners.torch import TorchRunner

SPEC = Spec("echo", ("a",), Preprocess(Resize((64, 64))), {"channel_order": "RGB"}, "0" * 64)
FEED = {"images": np.full((2, 3, 4, 4), 7, np.float32), "sizes": np.array([[4, 4], [4, 2]])}


class Echo(nn.Module):
    """Returns its inputs, and whether it runs in evaluation mode and without gradients."""

    outputs = ("images", "sizes", "deployed")

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images, sizes):
        deployed = torch.tensor([not self.training, not (images * self.weight).requires_grad])
        return {"images": images * self.weight, "sizes": sizes, "deployed": deployed}


@pytest.fixture
def network():
    return Deployable(Normalize([5.0] * 3, [2.0] * 3, "RGB"), Echo())


def test_inputs_and_outputs_are_named_arrays(network):
    with TorchRunner(network.train(), SPEC) as runner:
        outputs = runner(FEED)
    assert (outputs["images"][0] == 1).all()
    assert (outputs["images"][1, :, :, 2:] == 0).all()  # beyond its size
    np.testing.assert_array_equal(outputs["sizes"], FEED["sizes"])
    assert outputs["deployed"].all()


def test_it_has_the_record_and_accepts_any_batch(network):
    with TorchRunner(network, SPEC) as runner:
        assert Spec.from_metadata(runner.metadata, "net") == SPEC
        assert (runner.name, runner.batch) == ("echo", None)


def test_an_unknown_device_is_an_error(network):
    with pytest.raises(SameboxError, match="device: 'tpu' is not one of cpu, cuda"):
        TorchRunner(network, SPEC, "tpu")


def test_without_cuda_the_form_does_not_run_here(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NotHere, match="torch finds no NVIDIA GPU"):
        TorchRunner(network, SPEC, "cuda").__enter__()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_on_cuda_outputs_are_the_same_and_the_network_returns_to_the_cpu(network):
    with TorchRunner(network, SPEC, "cuda") as runner:
        assert next(network.parameters()).is_cuda
        np.testing.assert_array_equal(
            runner(FEED)["images"], TorchRunner(network.cpu(), SPEC)(FEED)["images"]
        )
    assert not next(network.parameters()).is_cuda
