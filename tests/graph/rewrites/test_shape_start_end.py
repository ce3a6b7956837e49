import pytest
from rewriting import X, assert_same_outputs, is_unchanged, model_at_18, operators, rewritten

from samebox.graph.rewrites import shape_start_end


@pytest.mark.parametrize(
    ("attributes", "length", "expected"),
    [
        ("start = 0, end = -1", 2, ["Shape", "Constant", "Constant", "Slice"]),
        ("start = -1", 1, ["Shape", "Constant", "Constant", "Slice"]),
        ("start = 0", 3, ["Shape"]),
    ],
)
def test_start_and_end_become_a_slice(attributes, length, expected):
    model = model_at_18(f"g (float[2,3,4] x) => (int64[{length}] y) {{ y = Shape<{attributes}>(x) }}")
    older = rewritten(model, shape_start_end.rewrite, 11)
    assert operators(older) == expected
    assert_same_outputs(model, older, X)


def test_a_shape_without_start_and_end_stays():
    model = model_at_18("g (float[2] x) => (int64[1] y) { y = Shape(x) }")
    assert is_unchanged(model, shape_start_end.rewrite)
