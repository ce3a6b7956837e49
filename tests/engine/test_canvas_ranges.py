import pytest

from samebox.engine.profile import canvas_ranges
from samebox.record.preprocess import Preprocess, Resize


@pytest.mark.parametrize(
    ("rule", "heights", "widths"),
    [
        (Preprocess(Resize((1333, 800))), (32, 800, 1344), (32, 1344, 1344)),
        (Preprocess(Resize((1333, 800)), divisor=1), (1, 800, 1333), (1, 1333, 1333)),
        (Preprocess(None, divisor=128, less=1), (127, 511, 767), (127, 767, 767)),
        (Preprocess(Resize((300, 300), keep_ratio=False), canvas=(300, 320)), (300,) * 3, (320,) * 3),
    ],
    ids=["resized", "not padded", "not resized", "a fixed canvas"],
)
def test_ranges_of_the_canvases_of_a_preprocessing_rule(rule, heights, widths):
    assert canvas_ranges(rule) == (heights, widths)
