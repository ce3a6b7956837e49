"""samebox: the same boxes, from checkpoint to engine."""

from samebox.detections import Detections
from samebox.detector import Detector, load
from samebox.errors import SameboxError

__all__ = ["Detections", "Detector", "SameboxError", "load"]
