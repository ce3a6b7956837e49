"""MMDetection 2 and 3 configs; keys that are absent have MMDetection's own defaults.

`detectors` and `rcnn` read a whole detector: its backbone by `backbones`, its neck by `necks`, its heads by
`dense_heads` and `roi_heads`, and its test settings by `test_settings`. `images` reads the test pipeline.
"""

from samebox.adopt.mmdetection.detectors import adopt

__all__ = ["adopt"]
