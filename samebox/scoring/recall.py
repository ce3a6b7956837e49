"""Class-agnostic average recall of boxes: the share of the objects that any box covers."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import Params

from samebox.scoring.average_precision import Scores
from samebox.scoring.overlaps import Overlaps

LIMITS = (100, 300, 1000)  # boxes per image that count, those with the highest scores
_SIZES = ("", "s", "m", "l")
_AREAS = np.array(Params("bbox").areaRng)[:, :, None]  # least and largest area of each size
# [T,1]; the largest is just below 1, as in pycocotools, so that an IoU of exactly 1 reaches it
_IOUS = np.minimum(Params("bbox").iouThrs, 1 - 1e-10)[:, None]


def recall_scores(images: Iterable[Overlaps]) -> Scores:
    """AR100, AR300, AR1000, and ARs, ARm, ARl of small, medium and large objects at 1000 boxes.

    As in COCO, the share of the objects that a box matches, as a mean over IoU 0.50 to 0.95. By descending
    score, each box matches the unmatched object with the largest IoU. Crowds are not objects, and the recall
    of a size counts only its objects. In points from 0 to 100, None if there are no objects.
    """
    ranks = [np.empty((len(_SIZES), len(_IOUS), 0))]
    sizes = [np.empty((len(_SIZES), 0), bool)]
    for image in images:
        objects = ~image.crowds
        within = (_AREAS[:, 0] <= image.areas[objects]) & (image.areas[objects] <= _AREAS[:, 1])
        ranks.append(_ranks(image.iou[: LIMITS[-1], objects], within))
        sizes.append(within)
    return Scores(_stats(np.concatenate(ranks, -1), np.concatenate(sizes, -1)), per_class={}, precision={})


def _ranks(iou: NDArray[np.float64], within: NDArray[np.bool_]) -> NDArray[np.float64]:
    """IoU [D,G] and the objects of each size A [A,G] → the rank of the box that matches each object.

    [A,T,G] by IoU threshold T; inf for an object without a match.
    """
    ranks = np.full((len(_SIZES), len(_IOUS), iou.shape[1]), np.inf)
    free = np.repeat(within[:, None], len(_IOUS), axis=1)
    for rank in np.flatnonzero((iou >= _IOUS[0]).any(1)):
        candidates = free & (iou[rank] >= _IOUS)
        # the last of equal ones, as in pycocotools
        best = iou.shape[1] - 1 - np.where(candidates, iou[rank], -1.0)[..., ::-1].argmax(-1)
        size, threshold = np.nonzero(candidates.any(-1))
        matched = size, threshold, best[size, threshold]
        ranks[matched], free[matched] = rank, False
    return ranks


def _stats(ranks: NDArray[np.float64], sizes: NDArray[np.bool_]) -> dict[str, float | None]:
    """The scores from the ranks [A,T,G] and the objects of each size [A,G]."""
    of_all = {f"AR{limit}": _recall(ranks[0], limit) for limit in LIMITS}
    by_size = zip(_SIZES[1:], ranks[1:], sizes[1:], strict=True)
    return of_all | {
        f"AR{name}": _recall(of_size[:, within], LIMITS[-1]) for name, of_size, within in by_size
    }


def _recall(ranks: NDArray[np.float64], limit: int) -> float | None:
    return 100 * float((ranks < limit).mean()) if ranks.size else None
