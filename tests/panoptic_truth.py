"""A runner in place of a network with segments, which returns the demo's annotations."""

from dataclasses import replace

import cv2
import demo_forms
import numpy as np
from truth_runner import TruthRunner

from samebox.coco.panoptic import PanopticSet
from samebox.record.decoding import Decoding, PanopticRule
from samebox.record.spec import METADATA_KEY, Spec

STUFF = ("water", "sky", "field")  # not in the data set's order
SEGMENTS = (
    demo_forms.ROOT / "demo/shapes/annotations/panoptic_val.json",
    demo_forms.ROOT / "demo/shapes/panoptic_val",
)


class PanopticTruth(TruthRunner):
    """Also returns the semantics of the annotations: things, or the class of stuff, for every point.

    With `none`, every point is sky.
    """

    def __init__(self, dataset, none=False, stuff=STUFF):
        super().__init__(dataset)
        spec = Spec.from_metadata(self.metadata, "truth")
        rule = PanopticRule(stuff, stuff_area=64)
        self.metadata = {METADATA_KEY: replace(spec, decoding=Decoding(panoptic=rule)).to_json()}
        self._truth, self._none = PanopticSet(*SEGMENTS), none

    def __call__(self, inputs):
        first = self._next
        answer = super().__call__(inputs)
        height, width = inputs["images"].shape[2] // 4, inputs["images"].shape[3] // 4
        semantics = np.zeros((len(inputs["sizes"]), 1 + len(STUFF), height, width), np.float32)
        for index, size in enumerate(inputs["sizes"]):
            record = self._dataset.images[(first + index) % len(self._dataset.images)]
            classes = self._classes(record.id)
            rows, columns = (-(-int(side) // 4) for side in size)
            for number, values in enumerate(semantics[index]):
                one = (classes == number).astype(np.float32)
                values[:rows, :columns] = cv2.resize(one, (columns, rows), interpolation=cv2.INTER_AREA)
        return answer | {"semantics": semantics}

    def _classes(self, image_id):
        truth = self._truth.segment_map(image_id)
        if self._none:
            return np.full(truth.ids.shape, 1 + STUFF.index("sky"))
        numbers = dict(zip(self._truth.category_ids(STUFF, is_thing=False), range(1, 4), strict=True))
        classes = np.zeros(truth.ids.shape, int)
        for number, category in truth.categories.items():
            classes[truth.ids == number] = numbers.get(category, 0)
        return classes
