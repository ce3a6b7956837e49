"""From network outputs to detections: boxes, masks, keypoints and panoptic segments in image pixels."""
