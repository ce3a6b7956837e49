import pytest
import torch
from torch import nn

from samebox.checkpoints.weights import Rule, load_strictly, renamed
from samebox.core.errors import SameboxError


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


def test_statistics_of_norms_may_be_missing_together(network):
    """Detectron folds them into scale and bias: mean 0, variance 1."""
    state = {name: value for name, value in state_of(network).items() if "running" not in name}
    load_strictly(network, state, "net.pkl")
    assert network[1].running_mean.tolist() == [0] * 4
    assert network[1].running_var.tolist() == [1] * 4
    assert torch.equal(network[1].weight, state["1.weight"])


def test_one_statistic_alone_may_not_be_missing(network):
    state = state_of(network)
    del state["1.running_var"]
    with pytest.raises(SameboxError, match=r"1 missing: 1\.running_var"):
        load_strictly(network, state, "net.pth")


def test_rules_apply_one_after_the_other():
    rules = (
        Rule(r"^old\.", "new."),
        Rule(r"^new\.(w)$", r"head.\1", lambda value: value * 2),
        Rule("^spare", None),
    )
    state = {"old.w": torch.tensor([1.0]), "old.b": torch.tensor([2.0]), "spare.x": torch.zeros(1)}
    assert {name: value.item() for name, value in renamed(state, rules).items()} == {"head.w": 2, "new.b": 2}


def test_the_prefix_of_parallel_training_goes_where_all_have_it():
    both = {"module.a": torch.zeros(1), "module.b": torch.ones(1)}
    assert list(renamed(both, ())) == ["a", "b"]
    mixed = {"module.a": torch.zeros(1), "b": torch.ones(1)}
    assert list(renamed(mixed, ())) == ["module.a", "b"]


def test_two_parameters_under_one_name_are_told():
    state = {"a.w": torch.zeros(1), "b.w": torch.zeros(1)}
    with pytest.raises(SameboxError, match=r"^net\.pth: b\.w and another parameter are both c\.w; "):
        renamed(state, [Rule(r"^[ab]\.", "c.")], "net.pth")
