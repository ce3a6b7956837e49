from rewriting import N, assert_same_outputs, is_unchanged, model_at_18, operators, rewritten

from samebox.graph.rewrites import integer_min_max


def test_integers_are_compared():
    model = model_at_18(
        """g (int64[2,3] n) => (int64[2,3] y, int64[2,3] z, int64[2,3] c, int64[2,3] d)
        <int64 one = {1}, int64 four = {4}> {
          y = Max(n, one, four)  z = Min(n, one)  c = Clip(n, one, four)  d = Clip(n, , four)
        }"""
    )
    older = rewritten(model, integer_min_max.rewrite, 11)
    assert set(operators(older)) == {"Identity", "Greater", "Less", "Where"}
    assert_same_outputs(model, older, N)


def test_a_maximum_of_floats_stays():
    model = model_at_18("g (float[2] x) => (float[2] y) { y = Max(x, x) }")
    assert is_unchanged(model, integer_min_max.rewrite)
