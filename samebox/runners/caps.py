"""How often the caps on numbers of candidates and detections cut detections off."""

from collections import Counter
from types import TracebackType

import torch
from torch import Tensor, nn

from samebox.networks.blocks.nms import GreedyNMS


class Caps:
    """Counts the images in which `network`, run eagerly within the block, reaches a cap. A context manager.

    `images` maps a cap and its value, such as "max_per_img=100", to the number of images. Names are
    MMDetection's: `nms_pre` (anchor, class) pairs of a level, `max_output_boxes_per_class` and `max_per_img`
    detections.
    """

    def __init__(self, network: nn.Module) -> None:
        # in an R-CNN the RPN's NMS comes first; the last one returns the detections
        self._nms = [module for module in network.modules() if isinstance(module, GreedyNMS)][-1:]
        self._nms_pre = getattr(network, "nms_pre", None)
        self.images: Counter[str] = Counter()

    def __enter__(self) -> "Caps":
        self._hooks = [nms.register_forward_hook(self._count) for nms in self._nms]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, nms: nn.Module, candidates: tuple[Tensor, ...], kept: tuple[Tensor, ...]) -> None:
        assert isinstance(nms, GreedyNMS)
        _, scores, labels = kept
        reached = {f"max_per_img={nms.count}": scores[:, -1] > 0}
        if nms.per_class is not None:
            same_class = (labels[:, :, None] == labels[:, None]) & (scores > 0)[:, None]
            full = (same_class.sum(2) >= nms.per_class) & (scores > 0)
            reached[f"max_output_boxes_per_class={nms.per_class}"] = full.any(1)
        if self._nms_pre is not None:
            last_of_level = candidates[1].unflatten(1, (-1, self._nms_pre))[..., -1]
            reached[f"nms_pre={self._nms_pre}"] = (last_of_level > 0).any(1)
        self.images.update({cap: int(torch.count_nonzero(images)) for cap, images in reached.items()})
