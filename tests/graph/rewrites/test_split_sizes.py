from rewriting import X, assert_same_outputs, attributes, is_unchanged, model_at_18, rewritten

from samebox.graph.rewrites import split_sizes


def test_constant_sizes_become_an_attribute():
    model = model_at_18(
        """g (float[2,3,4] x) => (float[2,3,1] y, float[2,3,3] z) <int64[2] sizes = {1, 3}>
        { y, z = Split<axis = 2>(x, sizes) }"""
    )
    older = rewritten(model, split_sizes.rewrite, 11)
    assert attributes(older) == {"axis": 2, "split": [1, 3]}
    assert_same_outputs(model, older, X)


def test_sizes_known_only_at_run_time_stay():
    text = "g (float[4] x, int64[2] s) => (float[p] y, float[q] z) { y, z = Split(x, s) }"
    assert is_unchanged(model_at_18(text), split_sizes.rewrite)
