"""RoIAlign (He et al., 2017, arXiv:1703.06870) over a pyramid, from plain operators."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from samebox.networks.blocks.boxes import areas, as_continuous
from samebox.networks.blocks.loop import State, map_rows, while_loop
from samebox.networks.blocks.nms import gather_rows

# Side of the squares of cells that are read at once: most regions of a pyramid need one to four of them
TILE = 16

# Samples in a row that a tile serves: they lie at most one cell apart, and the last needs one cell more
SAMPLES = TILE - 1

# Regions that eager PyTorch aligns at once
EAGER_BLOCK = 32

# Blocks that a graph's regions are aligned in: with more, fewer wait for one that needs many tiles, but a GPU
# has less to do at once
BLOCKS = 8

# Cells that are read at once where each sample's are read for themselves
CELLS = 128 * 28 * 28

# Half the side, in strides of the finest level, from which on a region is the second finest level's
CANONICAL = 14


def block_size(count: int) -> int:
    """How many of `count` regions are aligned at once.

    Eager PyTorch takes few, because its allocator asks the system anew for each tensor of more than 32 MB.
    """
    return -(-count // BLOCKS) if torch.compiler.is_exporting() else min(EAGER_BLOCK, count)


class Grid(NamedTuple):
    """Where the samples of regions lie, each field [B,N,2], x before y, in cells of the region's level.

    `start`: of the region. `length`: of a bin. `samples`: in a bin. `extent`: cells of the level.
    """

    start: Tensor
    length: Tensor
    samples: Tensor
    extent: Tensor

    def rows(self, index: Tensor) -> "Grid":
        """The regions of `index` [B,M] alone."""
        return Grid(*(gather_rows(field, index) for field in self))

    def sampled(self, size: int, samples: int) -> tuple[Tensor, Tensor]:
        """The two cells about each of `samples` a bin and direction, int64, and what either counts.

        Both [B,N,2,size,samples,2].
        """
        number = torch.arange(size * samples, device=self.start.device)
        at = self.start[..., None] + (number + 0.5) / samples * self.length[..., None]
        extent = self.extent[..., None]
        counts = (at >= -1) & (at <= extent)
        at = torch.minimum(at.clamp(min=0), extent - 1)
        low = at.floor()
        cells = torch.stack([low, torch.minimum(low + 1, extent - 1)], 4)  # [B,N,2,size*samples,2]
        shares = torch.stack([1 - (at - low), at - low], 4) * (counts[..., None] / samples)
        bins = (size, samples)
        return cells.to(torch.int64).unflatten(3, bins), shares.unflatten(3, bins)

    def tiles(self, size: int) -> Tensor:
        """How many tiles the samples of `size` bins take: [B,N,2]."""
        return torch.ceil(self.samples * size / SAMPLES)

    def weights(self, size: int, tile: Tensor) -> tuple[Tensor, Tensor]:
        """What each cell of a tile counts in each bin; tile [B,N,2], its number → [B,N,2,size,TILE].

        And the cells [B,N,2,TILE], int64, that the tile covers, those beyond the level at its border.
        """
        per_bin = self.samples.clamp(min=1)[..., None]
        number = tile[..., None] * SAMPLES + torch.arange(SAMPLES, device=tile.device)
        owner = torch.floor(number / per_bin)  # [B,N,2,SAMPLES]: the bin
        within = (number - owner * per_bin + 0.5) / per_bin
        at = self.start[..., None] + (owner + within) * self.length[..., None]
        extent = self.extent[..., None]
        counts = (number < self.samples[..., None] * size) & (at >= -1) & (at <= extent)
        at = torch.minimum(at.clamp(min=0), extent - 1)
        cells = at[..., :1].floor() + torch.arange(TILE, device=tile.device)
        hats = (1 - (at[..., None] - cells[..., None, :]).abs()).clamp(min=0)  # [B,N,2,SAMPLES,TILE]
        bins = torch.arange(size, device=tile.device)[:, None]
        shares = ((owner[..., None, :] == bins) & counts[..., None, :]) / per_bin[..., None]
        return shares @ hats, torch.minimum(cells, extent - 1).to(torch.int64)


class RoIAlign(nn.Module):
    """The features of regions, `size` x `size` bins each, from the pyramid level that suits their area.

    `strides`: of the levels that regions may come from, finest first, each twice the one before. A bin is
    the average of bilinear samples at most one cell apart, as many as that takes; coordinates are those of
    cell centres ("aligned"). A sample more than one cell outside its level is 0, and so is a region without
    area.

    That is MMDetection's and detectron2's. With `samples`, as in maskrcnn-benchmark, a bin has so many of
    them in each direction however large it is; unless `aligned`, coordinates are those of cell corners, and
    no region is smaller than a cell. The area may be that of `inclusive` boxes, see `blocks.boxes`.

    The samples of a region form a grid, so that it is a product of two small matrices of weights with the
    cells under it. Cells are read in tiles, and a loop takes as many of them as the regions need: sorted by
    that number and in blocks, most do not wait for the few that need many.
    """

    def __init__(
        self,
        size: int,
        strides: Sequence[int],
        samples: int | None = None,
        aligned: bool = True,
        inclusive: bool = False,
    ) -> None:
        super().__init__()
        self.size = size
        self.strides = tuple(strides)
        self.samples = samples
        self.aligned = aligned
        self.inclusive = inclusive

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """maps [B,C,H,W], finest first, boxes [B,N,4] x1 y1 x2 y2 in pixels → [B,N,C,size,size].

        Maps beyond the strides are left alone.
        """
        batch, count, _ = boxes.shape
        maps = maps[: len(self.strides)]
        grid, first = self._placed(maps, boxes)
        # [B*cells,C]; contiguous, or eager PyTorch would gather number by number
        cells = torch.cat([one.flatten(2) for one in maps], 2).transpose(1, 2).flatten(0, 1).contiguous()
        aligned = (
            self._tiled(cells, grid, first) if self.samples is None else self._single(cells, grid, first)
        )
        return aligned.reshape(batch, count, self.size, self.size, -1).movedim(4, 2)

    def levels(self, boxes: Tensor) -> Tensor:
        """boxes [B,N,4] → [B,N] int64, the map of each: by the square root of its area (FPN, equation 1)."""
        sides = areas(as_continuous(boxes, self.inclusive)).sqrt() / (CANONICAL * self.strides[0])
        return torch.log2(sides + 1e-6).floor().clamp(0, len(self.strides) - 1).to(torch.int64)

    def _placed(self, maps: Sequence[Tensor], boxes: Tensor) -> tuple[Grid, Tensor]:
        """The samples of boxes [B,N,4], and the row [B,N] of the first cell of their image and level."""
        level = self.levels(boxes)
        scale = widths = heights = offset = torch.zeros_like(level)
        before = 0
        for index, (stride, one) in enumerate(zip(self.strides, maps, strict=True)):
            mine = (level == index).to(torch.int64)
            height, width = one.shape[2:]
            scale = scale + mine / stride
            widths, heights, offset = widths + mine * width, heights + mine * height, offset + mine * before
            before = before + height * width
        start, end = (boxes * scale[..., None] - (0.5 if self.aligned else 0.0)).split(2, -1)
        sides = end - start if self.aligned else (end - start).clamp(min=1)
        length = sides / self.size
        extent = torch.stack([widths, heights], 2).to(boxes.dtype)
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
        return Grid(start, length, length.ceil().clamp(min=0), extent), offset + image * before

    def _single(self, cells: Tensor, grid: Grid, first: Tensor) -> Tensor:
        """All regions, a fixed number of samples a bin: as `_sampled`, a part of them at once."""
        size, samples = self.size, cast(int, self.samples)
        covered, shares = grid.sampled(size, samples)
        width = grid.extent[..., 0].to(torch.int64)[..., None, None, None]
        rows = first[..., None, None, None] + covered[:, :, 1] * width
        bins = torch.eye(size, device=cells.device)[..., None, None]
        across = (shares[:, :, :1] * bins).flatten(3)
        step = max(CELLS // (4 * size**2 * samples), 1)
        fields = rows, covered[:, :, 0].flatten(2), shares[:, :, 1], across
        parts = zip(*(field.split(step, 1) for field in fields), strict=True)
        return torch.cat([self._sampled(cells, *part) for part in parts], 1)

    def _sampled(self, cells: Tensor, rows: Tensor, columns: Tensor, down: Tensor, across: Tensor) -> Tensor:
        """Some regions: a turn for each of the samples that a bin has above one another.

        rows [B,N,size,samples,2], by their first cell in cells [B*cells,C], and columns [B,N,T], their bins'
        from left to right, T = size*samples*2; what they count: down, as rows, and across [B,N,size,T] →
        [B,N,size,size,C].

        What a turn reads is large. In a loop one turn has the memory of the one before; TensorRT-RTX gives
        each its own where they stand in a row.
        """
        samples, channels = rows.shape[3], cells.shape[1]

        def unfinished(sample: Tensor, _features: Tensor) -> Tensor:
            return sample < samples

        def next_sample(sample: Tensor, features: Tensor) -> State:
            mine = sample[None]
            index = rows.index_select(3, mine).transpose(3, 4) + columns[:, :, None, None]  # [B,N,size,2,T]
            window = cells.index_select(0, index.flatten()).reshape(-1, 2 * columns.shape[2], channels)
            # [B,N,size,size,2,T]
            weights = down.index_select(3, mine)[..., None] * across[:, :, None, :, None]
            products = torch.bmm(weights.flatten(4).flatten(0, 2), window)
            return sample + 1, features + products.reshape(features.shape)

        empty = cells.new_zeros(*rows.shape[:2], self.size, self.size, channels)
        start = torch.zeros((), dtype=torch.int64, device=cells.device)
        return while_loop(unfinished, next_sample, (start, empty))[1]

    def _tiled(self, cells: Tensor, grid: Grid, first: Tensor) -> Tensor:
        """All regions, as many samples a bin as it takes: as `_block`, those alike in tiles at once."""
        batch, count = first.shape
        size = block_size(count)
        order = grid.tiles(self.size).prod(2).topk(count).indices
        # the last block is filled up with its last region, which is aligned as often for nothing
        filled = torch.cat([order, order[:, -1:].expand(-1, -count % size)], 1)
        fields = [
            field.unflatten(1, (-1, size)).transpose(0, 1)  # [blocks,B,size,…]
            for field in (*grid.rows(filled), first.gather(1, filled))
        ]

        def aligned(*block: Tensor) -> Tensor:
            # of rank 5: with its last dimensions made one in the loop, TensorRT-RTX builds no int8 engine
            return self._block(cells, Grid(*block[:-1]), block[-1])

        rows = map_rows(aligned, tuple(fields)).flatten(0, 2)  # [blocks*B*size,…]
        ranks = torch.arange(count, device=order.device).expand_as(order)
        rank = torch.zeros_like(order).scatter(1, order, ranks)
        image = torch.arange(batch, device=order.device)[:, None]
        block = rank // size
        row = (block * batch + image) * size + rank - block * size
        return rows.index_select(0, row.flatten())

    def _product(self, cells: Tensor, grid: Grid, first: Tensor, weights: Tensor, covered: Tensor) -> Tensor:
        """What cells `covered` [B,N,2,T] make of bins by `weights` [B,N,2,size,T] → [B,N,size,size,C]."""
        channels, across = cells.shape[1], covered.shape[3]
        width = grid.extent[..., 0].to(torch.int64)[..., None]
        rows = first[..., None] + covered[:, :, 1] * width  # [B,N,T]
        index = rows[..., None] + covered[:, :, :1]
        window = cells.index_select(0, index.flatten()).reshape(-1, across, across * channels)
        by_row = torch.bmm(weights[:, :, 1].flatten(0, 1), window)
        return weights[:, :, :1] @ by_row.reshape(*first.shape, self.size, across, channels)

    def _block(self, cells: Tensor, grid: Grid, first: Tensor) -> Tensor:
        """Some regions: cells [B*cells,C], first [B,N] the row of a level's origin → [B,N,size,size,C]."""
        channels = cells.shape[1]
        across, down = grid.tiles(self.size).unbind(2)
        most = (across * down).max()
        across = across.clamp(min=1)

        def unfinished(tile: Tensor, _features: Tensor) -> Tensor:
            return tile < most

        def next_tile(tile: Tensor, features: Tensor) -> State:
            row = torch.floor(tile / across)
            weights, covered = grid.weights(self.size, torch.stack([tile - row * across, row], 2))
            return tile + 1, features + self._product(cells, grid, first, weights, covered)

        empty = cells.new_zeros(*first.shape, self.size, self.size, channels)
        return while_loop(unfinished, next_tile, (torch.zeros_like(most), empty))[1]
