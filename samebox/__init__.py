"""samebox: the same boxes, from checkpoint to engine."""

from samebox.core.errors import SameboxError
from samebox.detector import Detector, load
from samebox.postprocess.detections import Detections

__all__ = ["Detections", "Detector", "SameboxError", "load"]
