import numpy as np
import pytest
from rewriting import is_unchanged, model_at_18, operators, outputs_of, rewritten

from samebox.graph.rewrites import grid_sample


@pytest.mark.parametrize("aligned", [0, 1])
def test_points_inside_at_the_edge_and_outside(aligned):
    model = model_at_18(
        f"""g (float[n,3,h,w] x, float[n,4,5,2] grid) => (float[n,3,4,5] y)
        {{ y = GridSample<align_corners = {aligned}, mode = "bilinear", padding_mode = "zeros">(x, grid) }}"""
    )
    rng = np.random.default_rng(0)
    grid = rng.uniform(-1.4, 1.4, (2, 4, 5, 2)).astype(np.float32)
    grid[0, 0] = [[-1, -1], [1, 1], [-1, 1], [0, 0], [1, -1]]
    feed = {"x": rng.normal(size=(2, 3, 6, 7)).astype(np.float32), "grid": grid}
    older = rewritten(model, grid_sample.rewrite, 13)
    assert "GridSample" not in operators(older)
    (output,), (expected,) = outputs_of(older, feed), outputs_of(model, feed)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert (expected == 0).any()
    assert np.abs(expected).max() > 0.5


def test_another_mode_stays():
    model = model_at_18(
        """g (float[1,1,2,2] x, float[1,2,2,2] grid) => (float[1,1,2,2] y)
        { y = GridSample<mode = "nearest">(x, grid) }"""
    )
    assert is_unchanged(model, grid_sample.rewrite)
