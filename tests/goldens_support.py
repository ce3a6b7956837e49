"""Reference cases: what the original model code answered for a checkpoint. See `goldens.py` among them.

They lie beside the project; the environment variable SAMEBOX_GOLDENS names another folder.
"""

import importlib.util
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samebox.agreement import agreement
from samebox.detections import Detections
from samebox.preprocess import Batch, read_image
from stages.compose import compose
from stages.networks import Loaded, load_network

FOLDER = Path(os.environ.get("SAMEBOX_GOLDENS", Path(__file__).parents[2] / "shared" / "goldens"))
PRESENT = (FOLDER / "goldens.py").is_file()
ABSENT = f"no reference cases in {FOLDER}; name their folder in SAMEBOX_GOLDENS"

# Of the detections, how many have to agree, and how far two that do may differ at least
SHARE, BOX, SCORE = 0.99, 0.05, 1e-4


def samples(tensor: NDArray[Any] | torch.Tensor) -> NDArray[Any]:
    """The 256 values of a tensor that a case stores."""
    flat = np.asarray(tensor).reshape(-1)
    return flat[np.linspace(0, flat.size - 1, 256).astype(int)]


class Golden:
    """One case beside the detector of `conf/detector` that is to answer alike, its weights loaded strictly.

    `folder`: of the case, within the cases. `work`: where the checkpoint is written.
    """

    def __init__(self, folder: str, detector: str, work: Path) -> None:
        module = importlib.util.spec_from_file_location("goldens", FOLDER / "goldens.py")
        goldens = importlib.util.module_from_spec(module)
        module.loader.exec_module(goldens)
        self._draw = goldens.draw
        case = goldens.Case(FOLDER / folder)
        self.meta: dict[str, Any] = case.meta
        self.outputs: dict[str, NDArray[Any]] = case.outputs()
        checkpoint = work / "checkpoint.pth"
        torch.save(case.checkpoint(), checkpoint)
        self.loaded: Loaded = load_network(compose("export", [f"detector={detector}"]), checkpoint)
        checkpoint.unlink()

    @cached_property
    def batches(self) -> list[Batch]:
        """The case's images, each a batch of its own, as the detector's own rule prepares them."""
        images = (read_image(FOLDER / "images" / entry["image"]) for entry in self.meta["inputs"])
        return [self.loaded.spec.preprocess([image]) for image in images]

    def probe(self) -> torch.Tensor:
        """The fixed input of the backbone for which the case stores the values of every part."""
        asked = self.meta["probe"]["input"]
        drawn = self._draw(asked["name"], tuple(asked["shape"]), asked["scale"], asked["offset"])
        return torch.from_numpy(drawn)

    def detections(self, index: int) -> Detections:
        """What the original code found in image `index`."""
        boxes, scores, labels = (self.outputs[f"{index}/{name}"] for name in ("boxes", "scores", "labels"))
        return Detections(boxes, scores, labels, self.loaded.spec.class_names)

    def assert_detections(self, index: int, found: Detections) -> None:
        """`found` is what the original code found in image `index`.

        Detections are matched by class and overlap. They may differ thrice as far as two correct runs of
        the original code do, or by the project's own limits where those are wider.
        """
        noise = self.meta["numerical_noise"]
        compared = agreement(self.detections(index), found)
        share = compared.share(
            box=max(BOX, 3 * noise["max_box_difference_pixels"]),
            score=max(SCORE, 3 * noise["max_score_difference"]),
        )
        assert compared.reference > 0
        assert share >= SHARE, f"image {index}: only {share:.1%} agree; {compared}"

    def assert_tensor(self, name: str, found: torch.Tensor) -> None:
        """`found` is the probe's tensor `name`, to a thousandth of its own spread."""
        stated, stored = self.meta["probe"]["values"][name], self.outputs[f"probe/{name}"]
        assert list(found.shape) == stated["shape"], name
        limit = 1e-3 * stated["std"]
        np.testing.assert_allclose(samples(found), stored, rtol=0, atol=limit, err_msg=name)
        np.testing.assert_allclose(found.mean().item(), stated["mean"], rtol=0, atol=limit, err_msg=name)
        np.testing.assert_allclose(found.std().item(), stated["std"], rtol=1e-3, err_msg=name)
