import pytest
import torch
from torch import nn

from samebox.checkpoints.weights import Rename, load_strictly, rename_parameters
from samebox.core.errors import SameboxError


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def state_of(network):
    return {name: torch.rand(value.shape) for name, value in network.state_dict().items()}


def test_all_values_are_copied(network):
    state = state_of(network) | {"1.num_batches_tracked": torch.tensor(7)}
    load_strictly(network, state, "net.pth")
    assert all(torch.equal(network.state_dict()[name], state[name]) for name in state)


def test_values_are_converted_to_the_networks_dtype(network):
    state = {name: value.half() for name, value in state_of(network).items()}
    load_strictly(network, state, "net.pth")
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, state["0.weight"].float())


def test_num_batches_tracked_may_be_missing(network):
    state = state_of(network)
    del state["1.num_batches_tracked"]
    load_strictly(network, state, "net.pth")
    assert torch.equal(network[1].running_var, state["1.running_var"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_that_are_not_finite_are_listed_and_nothing_is_copied(network, value):
    state = state_of(network)
    before = network[0].weight.detach().clone()
    state["0.bias"][1] = value
    with pytest.raises(SameboxError, match=r"net\.pth: 1 parameters are NaN or infinite: 0\.bias; choose"):
        load_strictly(network, state, "net.pth")
    assert torch.equal(network[0].weight, before)


def test_differences_are_listed_in_one_line_and_nothing_is_copied(network):
    state = state_of(network)
    before = network[0].bias.detach().clone()
    del state["1.weight"]
    state |= {f"head.{i}\n": torch.zeros(1) for i in range(5)} | {"0.weight": torch.zeros(4, 3, 1, 1)}
    with pytest.raises(SameboxError) as error:
        load_strictly(network, state, "net.pth")
    assert str(error.value) == (
        "net.pth: does not fit the network: 1 missing: 1.weight; 5 unexpected: head.0 , head.1 , head.2 , …; "
        "1 of another shape: 0.weight (file (4, 3, 1, 1), network (4, 3, 3, 3)); "
        "choose the detector that the checkpoint was trained as, with the same number of classes"
    )
    assert torch.equal(network[0].bias, before)


def test_the_statistics_of_all_norms_may_be_missing(network):
    """Detectron folds them into scale and bias, which leaves mean 0 and variance 1."""
    state = {name: value for name, value in state_of(network).items() if "running" not in name}
    load_strictly(network, state, "net.pkl")
    assert network[1].running_mean.tolist() == [0] * 4
    assert network[1].running_var.tolist() == [1] * 4
    assert torch.equal(network[1].weight, state["1.weight"])


def test_a_single_statistic_must_not_be_missing(network):
    state = state_of(network)
    del state["1.running_var"]
    with pytest.raises(SameboxError, match=r"1 missing: 1\.running_var"):
        load_strictly(network, state, "net.pth")


def test_renames_are_applied_one_after_the_other():
    renames = (
        Rename(r"^old\.", "new."),
        Rename(r"^new\.(w)$", r"head.\1", lambda value: value * 2),
        Rename("^spare", None),
    )
    state = {"old.w": torch.tensor([1.0]), "old.b": torch.tensor([2.0]), "spare.x": torch.zeros(1)}
    assert {name: value.item() for name, value in rename_parameters(state, renames).items()} == {
        "head.w": 2,
        "new.b": 2,
    }


def test_the_prefix_of_parallel_training_is_removed_if_all_names_have_it():
    both = {"module.a": torch.zeros(1), "module.b": torch.ones(1)}
    assert list(rename_parameters(both, ())) == ["a", "b"]
    mixed = {"module.a": torch.zeros(1), "b": torch.ones(1)}
    assert list(rename_parameters(mixed, ())) == ["module.a", "b"]


def test_two_parameters_with_the_same_new_name_are_an_error():
    state = {"a.w": torch.zeros(1), "b.w": torch.zeros(1)}
    with pytest.raises(
        SameboxError, match=r"^net\.pth: b\.w and another parameter are both renamed to c\.w; "
    ):
        rename_parameters(state, [Rename(r"^[ab]\.", "c.")], "net.pth")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_moving_averages_of_mmdetection_2_are_dropped(network, prefix):
    state = state_of(network)
    averages = {f"ema_{name.replace('.', '_')}": torch.rand(1) for name in state}
    stored = {f"{prefix}{name}": value for name, value in (state | averages).items()}
    assert list(rename_parameters(stored, ())) == list(state)
    assert list(rename_parameters({"ema_weight": torch.rand(1)}, ())) == ["ema_weight"]
