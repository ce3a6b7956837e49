"""Scores of detections: COCO AP, PQ, VOC mAP, recall, and bootstrap intervals."""
