import pytest
import torch
from torch import nn

from samebox.checkpoints.weights import load_strictly
from samebox.errors import SameboxError


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def state_of(network):
    return {name: torch.rand(value.shape) for name, value in network.state_dict().items()}


def test_every_value_arrives(network):
    state = state_of(network) | {"1.num_batches_tracked": torch.tensor(7)}
    load_strictly(network, state, "net.pth")
    assert all(torch.equal(network.state_dict()[name], state[name]) for name in state)


def test_half_becomes_the_networks_float(network):
    state = {name: value.half() for name, value in state_of(network).items()}
    load_strictly(network, state, "net.pth")
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, state["0.weight"].float())


def test_missing_batch_counters_are_no_error(network):
    state = state_of(network)
    del state["1.num_batches_tracked"]
    load_strictly(network, state, "net.pth")
    assert torch.equal(network[1].running_var, state["1.running_var"])


def test_the_difference_is_listed_in_one_line_and_nothing_is_copied(network):
    state = state_of(network)
    before = network[0].bias.detach().clone()
    del state["1.weight"]
    state |= {f"head.{i}\n": torch.zeros(1) for i in range(5)} | {"0.weight": torch.zeros(4, 3, 1, 1)}
    with pytest.raises(SameboxError) as error:
        load_strictly(network, state, "net.pth")
    assert str(error.value) == (
        "net.pth: does not fit the network: 1 missing: 1.weight; 5 unexpected: head.0?, head.1?, head.2?, …; "
        "1 misshapen: 0.weight (file (4, 3, 1, 1), network (4, 3, 3, 3)); "
        "a checkpoint of another network or number of classes? Choose the detector it was trained as"
    )
    assert torch.equal(network[0].bias, before)
