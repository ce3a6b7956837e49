"""Panoptic data sets of one small image, written as digits."""

import json

import cv2
import numpy as np

from samebox.coco.panoptic import PanopticSet

# COCO's segment ids are colours of three bytes, larger than any category id
SHIFT = 1 << 16
IMAGE = 7
CATEGORIES = [
    {"id": 1, "name": "disc", "isthing": 1},
    {"id": 3, "name": "ring", "isthing": 1},
    {"id": 8, "name": "sky", "isthing": 0},
    {"id": 9, "name": "water", "isthing": 0},
]


def grid(*rows):
    """Rows of digits → segment ids [H,W], digit * (SHIFT + 1); 0 is void."""
    digits = np.array([[int(digit) for digit in row] for row in rows])
    return digits * (SHIFT + 1)


def panoptic_set(folder, ids, categories, crowds=(), image=IMAGE):
    """The data set of one image: `ids` [H,W] from `grid`, `categories` and `crowds` by digit."""
    colours = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], -1).astype(np.uint8)
    (folder / "png").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"png/{image}.png"), colours)
    segments = [
        {"id": digit * (SHIFT + 1), "category_id": category, "iscrowd": int(digit in crowds)}
        for digit, category in categories.items()
    ]
    entry = {"image_id": image, "file_name": f"{image}.png", "segments_info": segments}
    document = {"annotations": [entry], "categories": CATEGORIES}
    (folder / "panoptic.json").write_text(json.dumps(document))
    return PanopticSet(folder / "panoptic.json", folder / "png")
