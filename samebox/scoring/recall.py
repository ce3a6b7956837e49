"""Average recall of boxes whatever their class: how many of the objects are among what was proposed."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import Params

from samebox.scoring.average_precision import Scores
from samebox.scoring.overlaps import Overlaps

LIMITS = (100, 300, 1000)  # boxes of an image that count, those of the highest scores
_SIZES = ("", "s", "m", "l")
_AREAS = np.array(Params("bbox").areaRng)[:, :, None]  # of each size the least and the largest
# [T,1]; as in pycocotools, where an IoU of exactly 1 would else be none
_IOUS = np.minimum(Params("bbox").iouThrs, 1 - 1e-10)[:, None]


def recall_scores(images: Iterable[Overlaps]) -> Scores:
    """AR100, AR300 and AR1000, and ARs, ARm and ARl of small, medium and large objects at 1000 boxes.

    As COCO counts: the share of the objects that a box matches, each by descending score the free object of
    the largest IoU, as a mean over IoU 0.50 to 0.95. Crowds are no objects, and of a size only its own are.
    In points from 0 to 100, None where there are none.
    """
    ranks = [np.empty((len(_SIZES), len(_IOUS), 0))]
    sizes = [np.empty((len(_SIZES), 0), bool)]
    for image in images:
        own = ~image.crowds
        within = (_AREAS[:, 0] <= image.areas[own]) & (image.areas[own] <= _AREAS[:, 1])
        ranks.append(_ranks(image.iou[: LIMITS[-1], own], within))
        sizes.append(within)
    return Scores(_stats(np.concatenate(ranks, -1), np.concatenate(sizes, -1)), per_class={}, precision={})


def _ranks(iou: NDArray[np.float64], within: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU [D,G], and of each size A the objects [A,G] → the rank of the box that matches each.

    [A,T,G] by IoU threshold T; inf where none does.
    """
    ranks = np.full((len(_SIZES), len(_IOUS), iou.shape[1]), np.inf)
    free = np.repeat(within[:, None], len(_IOUS), axis=1)
    for rank in np.flatnonzero((iou >= _IOUS[0]).any(1)):
        wanted = free & (iou[rank] >= _IOUS)
        # of equal ones the last, as in pycocotools
        best = iou.shape[1] - 1 - np.where(wanted, iou[rank], -1.0)[..., ::-1].argmax(-1)
        size, threshold = np.nonzero(wanted.any(-1))
        matched = size, threshold, best[size, threshold]
        ranks[matched], free[matched] = rank, False
    return ranks


def _stats(ranks: NDArray[np.float64], sizes: NDArray[np.bool_]) -> dict[str, float | None]:
    """From the ranks [A,T,G] and the objects of each size [A,G]."""
    of_all = {f"AR{limit}": _recall(ranks[0], limit) for limit in LIMITS}
    of_sizes = zip(_SIZES[1:], ranks[1:], sizes[1:], strict=True)
    return of_all | {f"AR{name}": _recall(own[:, within], LIMITS[-1]) for name, own, within in of_sizes}


def _recall(ranks: NDArray[np.float64], limit: int) -> float | None:
    return 100 * float((ranks < limit).mean()) if ranks.size else None
