"""Mask pasting and run-length encoding on one core, against grid_sample and pycocotools.

python -m benchmarks.masks [--quick]
"""

import argparse
import os

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch.nn import functional as F

from benchmarks.common import how_timed, interleaved, ratio, show
from benchmarks.sheets import Sheet, Spread, write
from samebox.coco.results import encode_masks
from samebox.postprocess.masks import paste_sampled

COUNT, HEIGHT, WIDTH = 100, 480, 640
# The side of a map, and the smallest and largest side of a box as a share of the image's
CASES = {
    "28×28, boxes of 10–60 %": (28, 0.1, 0.6),
    "28×28, boxes that cover the image": (28, 1.0, 1.0),
    "224×224, boxes of 10–60 %": (224, 0.1, 0.6),
    "224×224, boxes that cover the image": (224, 1.0, 1.0),
}


def drawn_boxes(least: float, largest: float) -> NDArray[np.float32]:
    """Random boxes [COUNT,4] in the image, x1 y1 x2 y2; sides between two shares of the image's."""
    generator = np.random.default_rng(0)
    image = np.array([WIDTH, HEIGHT])
    sides = generator.uniform(least, largest, (COUNT, 2)) * image
    corners = generator.uniform(0, 1, (COUNT, 2)) * (image - sides)
    return np.concatenate([corners, corners + sides], 1).astype(np.float32)


def drawn_maps(side: int) -> NDArray[np.float32]:
    """Probabilities [COUNT,side,side] of smooth shapes that fill a little more than half of their box."""
    generator = torch.Generator().manual_seed(0)
    coarse = 3 * torch.randn(COUNT, 1, 6, 6, generator=generator)
    distance = torch.linspace(-1, 1, side).square()
    shape = 6 - 8 * (distance[:, None] + distance)
    return (F.interpolate(coarse, (side, side), mode="bicubic")[:, 0] + shape).sigmoid().numpy()


def by_grid_sample(probabilities: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The masks as MMDetection pastes them on the CPU, box by box in its window, [HEIGHT,WIDTH,COUNT]."""
    masks = np.zeros((COUNT, HEIGHT, WIDTH), np.uint8)
    for mask, values, (x1, y1, x2, y2) in zip(masks, torch.from_numpy(probabilities), boxes, strict=True):
        left, top = max(int(np.floor(x1)) - 1, 0), max(int(np.floor(y1)) - 1, 0)
        right, bottom = min(int(np.ceil(x2)) + 1, WIDTH), min(int(np.ceil(y2)) + 1, HEIGHT)
        x = (torch.arange(left, right) + 0.5 - x1) / (x2 - x1) * 2 - 1
        y = (torch.arange(top, bottom) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
        sampled = F.grid_sample(values[None, None], grid, align_corners=False)[0, 0]
        mask[top:bottom, left:right] = (sampled >= 0.5).numpy()
    return np.asfortranarray(masks.transpose(1, 2, 0))


def timed(side: int, least: float, largest: float, rounds: int) -> list[str]:
    """Milliseconds of pasting, encoding, both, and of the other way; and the ratio of the two ways."""
    probabilities, boxes = drawn_maps(side), drawn_boxes(least, largest)
    pasted = paste_sampled(probabilities, boxes, HEIGHT, WIDTH)
    times = interleaved(
        {
            "paste": lambda: paste_sampled(probabilities, boxes, HEIGHT, WIDTH),
            "encode": lambda: encode_masks(pasted),
            "both": lambda: encode_masks(paste_sampled(probabilities, boxes, HEIGHT, WIDTH)),
            "other": lambda: rle.encode(by_grid_sample(probabilities, boxes)),
        },
        rounds,
    )
    milliseconds = [f"{Spread.of([1000 * t for t in seconds]):.1f}" for seconds in times.values()]
    return [*milliseconds, f"{ratio(times, 'both', 'other'):.2f}"]


def main() -> None:
    """Measure on one core, print, and write the results unless quick."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masks", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds; nothing is written")
    quick = parser.parse_args().quick
    rounds = 3 if quick else 31
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    headings = [
        "map and boxes",
        "paste ms",
        "run lengths ms",
        "together ms",
        "grid_sample + pycocotools ms",
        "together / that",
    ]
    rows = [[name, *timed(*case, rounds)] for name, case in CASES.items()]
    sheet = Sheet(f"{COUNT} masks on an image of {HEIGHT}×{WIDTH}", headings, rows)
    show([sheet])
    if not quick:
        write("masks", "Masks after the network", [sheet], notes(rounds))


def notes(rounds: int) -> list[str]:
    """How the figures were measured."""
    return [
        *how_timed(rounds),
        "Everything runs on one core.",
        "The maps are smooth random shapes; a mask head returns 28×28, PointRend 224×224.",
        "grid_sample + pycocotools is MMDetection's way on the CPU: each mask is sampled in the window of "
        "its box, then pycocotools.mask.encode runs over all pixels. Both give the same codes, except for "
        "pixels whose probability is 0.5 to within rounding.",
    ]


if __name__ == "__main__":
    main()
