import numpy as np
import onnxruntime
import pytest
import torch

from samebox.networks.blocks.topk import stable_topk


def by_stable_sort(row, count):
    """Indices of the `count` largest values, equal values in the order of the row."""
    return sorted(range(len(row)), key=lambda i: -row[i])[:count]


def rows_with_ties(levels, number=500):
    """Rows of `levels` different values, so that most values are equal to another."""
    values = np.random.default_rng(levels).integers(0, levels, (3, number)) / levels
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("count", [1, 7, 100, 499, 500])
@pytest.mark.parametrize("levels", [1, 2, 40, 10**6])
def test_equal_values_keep_their_order(levels, count):
    x = rows_with_ties(levels)
    values, index = stable_topk(x, count)
    assert index.tolist() == [by_stable_sort(row, count) for row in x.tolist()]
    assert values.equal(x.gather(1, index))


def test_a_row_with_ties_at_the_last_value_next_to_one_without():
    x = torch.tensor([[0.1, 0.9, 0.5, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]])
    assert stable_topk(x, 2)[1].tolist() == [[1, 2], [4, 3]]


# torch.export itself causes deprecation warnings
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_onnx_selects_the_same_of_equal_values():
    class TopK(torch.nn.Module):
        def forward(self, x):
            return stable_topk(x, 100)

    x = rows_with_ties(40)
    program = torch.onnx.export(TopK().eval(), (x,), dynamo=True, opset_version=18, verbose=False)
    assert [node.op_type for node in program.model_proto.graph.node] == ["TopK"]
    session = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values, index = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    expected = stable_topk(x, 100)
    np.testing.assert_array_equal(values, expected[0].numpy())
    np.testing.assert_array_equal(index, expected[1].numpy())
