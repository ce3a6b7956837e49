import torch

from samebox.networks.blocks.loop import map_rows, while_loop


def halve(x, iterations):
    return x // 2, iterations + 1


def test_the_loop_runs_while_the_condition_is_true():
    x, iterations = while_loop(lambda x, _: x > 1, halve, (torch.tensor(40), torch.tensor(0)))
    assert (x.item(), iterations.item()) == (1, 5)


def test_the_state_is_unchanged_if_the_condition_is_false_at_once():
    x, iterations = while_loop(lambda x, _: x > 100, halve, (torch.tensor(40), torch.tensor(0)))
    assert (x.item(), iterations.item()) == (40, 0)


def test_map_rows_stacks_the_results_of_every_row():
    a, b = torch.arange(6.0).reshape(3, 2), torch.tensor([1.0, 2, 3])
    assert map_rows(lambda x, factor: x * factor, (a, b)).equal(a * b[:, None])
