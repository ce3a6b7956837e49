from rewriting import N, assert_same_outputs, model_at_18, rewritten

from samebox.graph.reading import all_nodes
from samebox.graph.rewrites import integer_min_max, shape_start_end


def test_new_nodes_in_a_loop_have_unique_names():
    model = model_at_18(
        """g (int64[3] n) => (int64[3] y, int64[1] s) <int64 trips = {2}, bool on = {1}, int64 one = {1}> {
          s = Shape<start = 0, end = 1>(n)
          y = Loop(trips, on, n) <body = body
            (int64 i, bool go, int64[3] a) => (bool go_on, int64[3] b)
            { go_on = Identity(go)  t = Shape<start = 0, end = 1>(a)  u = Max(t, one)  b = Add(a, u) }>
        }"""
    )
    older = rewritten(rewritten(model, shape_start_end.rewrite), integer_min_max.rewrite, 11)
    names = [name for node in all_nodes(older.graph) for name in node.output]
    assert len(names) == len(set(names))
    assert_same_outputs(model, older, {"n": N["n"][0]})
