from rewriting import X, assert_same_outputs, attributes, is_unchanged, model_at_18, rewritten

from samebox.graph.rewrites import constant_attributes


def test_numbers_and_lists_become_tensors():
    model = model_at_18(
        """g (float[2,3,4] x) => (float[2,3,4] y, int64[2] z) {
          a = Constant<value_float = 0.5>()  y = Mul(x, a)  z = Constant<value_ints = [1, 2]>()
        }"""
    )
    older = rewritten(model, constant_attributes.rewrite, 11)
    assert [set(attributes(older, index)) for index in (0, 2)] == [{"value"}, {"value"}]
    assert_same_outputs(model, older, X)


def test_a_tensor_stays():
    model = model_at_18("g (float[2] x) => (float[2] y) { a = Constant<value = float {3}>()  y = Mul(x, a) }")
    assert is_unchanged(model, constant_attributes.rewrite)
