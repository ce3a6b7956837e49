"""Scores of detections: COCO AP, panoptic quality, VOC mAP, recall, and bootstrap intervals of ΔAP."""
