"""A runner in place of a network with masks, which returns the annotations of a data set."""

import cv2
import numpy as np

from samebox.record.preprocess import Preprocess, Resize
from samebox.record.spec import METADATA_KEY, Spec

ROWS, SIDE = 24, 28


class TruthRunner:
    """Returns all objects except crowds of the images of `dataset`, in their order, again and again.

    Its inputs do not matter. `masks`: "true" has the accuracy of 28x28 cells, "full" fills the boxes, None
    has none.
    """

    name = "truth"
    batch = None

    def __init__(self, dataset, masks="true"):
        rule = Preprocess(Resize((320, 240)))
        spec = Spec("truth", dataset.class_names, rule, normalize={}, checkpoint_sha256="0" * 64)
        self.metadata = {METADATA_KEY: spec.to_json()}
        self._dataset, self._masks, self._next = dataset, masks, 0
        self._labels = {
            number: label for label, number in enumerate(dataset.category_ids(dataset.class_names))
        }

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._next = 0

    def __call__(self, inputs):
        answers = [self._answer(size) for size in inputs["sizes"]]
        return {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}

    def _answer(self, size):
        record = self._dataset.images[self._next % len(self._dataset.images)]
        self._next += 1
        boxes, scores = np.zeros((ROWS, 4), np.float32), np.zeros(ROWS, np.float32)
        labels, masks = np.zeros(ROWS, np.int64), np.zeros((ROWS, SIDE, SIDE), np.float32)
        truth = self._dataset.ground_truth
        for row, entry in enumerate(one for one in truth.imgToAnns[record.id] if not one["iscrowd"]):
            x, y, width, height = entry["bbox"]
            factors = np.array([size[1] / record.width, size[0] / record.height] * 2)
            boxes[row] = factors * [x, y, x + width, y + height]
            scores[row], labels[row] = 0.99 - row / 100, self._labels[entry["category_id"]]
            inside = truth.annToMask(entry)[y : y + height, x : x + width].astype(np.float32)
            masks[row] = 1 if self._masks == "full" else cv2.resize(inside, (SIDE, SIDE))
        answer = {"boxes": boxes, "scores": scores, "labels": labels}
        return answer if self._masks is None else answer | {"masks": masks}
