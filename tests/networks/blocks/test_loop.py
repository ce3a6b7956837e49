import torch

from samebox.networks.blocks.loop import while_loop


def halved(x, turns):
    return x // 2, turns + 1


def test_runs_while_the_condition_holds():
    x, turns = while_loop(lambda x, _: x > 1, halved, (torch.tensor(40), torch.tensor(0)))
    assert (x.item(), turns.item()) == (1, 5)


def test_a_condition_that_never_holds_leaves_the_state_alone():
    x, turns = while_loop(lambda x, _: x > 100, halved, (torch.tensor(40), torch.tensor(0)))
    assert (x.item(), turns.item()) == (40, 0)
