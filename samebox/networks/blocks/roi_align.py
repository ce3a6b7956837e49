"""RoIAlign (He et al., 2017, arXiv:1703.06870) over a feature pyramid, from plain operators."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from samebox.networks.blocks.boxes import areas, as_continuous
from samebox.networks.blocks.loop import State, map_rows, while_loop
from samebox.networks.blocks.nms import gather_rows

# Side of a tile, the square of cells that one iteration reads. Most regions of a pyramid need one to four
# tiles.
TILE = 16

# Consecutive samples, along one axis, that a tile covers: they lie at most one cell apart, and bilinear
# interpolation of the last one reads one cell more
SAMPLES = TILE - 1

# Number of regions that eager PyTorch aligns at once
EAGER_BLOCK = 32

# Number of blocks into which an exported graph divides the regions. With more blocks, fewer regions wait for
# one that needs many tiles, but a GPU has less to do at once.
BLOCKS = 8

# Number of cells that one iteration reads at most if the number of samples is fixed
CELLS = 128 * 28 * 28

# A region of side CANONICAL * 2^k strides of the finest level, up to twice that, belongs to level k. This is
# FPN's equation 1: 224 pixels are 14 strides of the level k0.
CANONICAL = 14


def block_size(count: int) -> int:
    """How many of `count` regions are aligned at once.

    Few in eager PyTorch, because its allocator requests every tensor of more than 32 MB from the system.
    """
    return -(-count // BLOCKS) if torch.compiler.is_exporting() else min(EAGER_BLOCK, count)


class SampleGrid(NamedTuple):
    """Sampling positions of regions, each field [B,N,2], x before y, in cells of the region's level.

    `start`: top left corner of the region. `length`: side of a bin. `samples`: number of samples in a bin.
    `extent`: number of cells of the level.
    """

    start: Tensor
    length: Tensor
    samples: Tensor
    extent: Tensor

    def select(self, index: Tensor) -> "SampleGrid":
        """The grid of the regions `index` [B,M]."""
        return SampleGrid(*(gather_rows(field, index) for field in self))

    def bilinear_weights(self, size: int, samples: int) -> tuple[Tensor, Tensor]:
        """The two cells around every sample along each axis, int64, and their weights.

        `size` bins have `samples` samples each. Both results are [B,N,2,size,samples,2].
        """
        number = torch.arange(size * samples, device=self.start.device)
        position = self.start[..., None] + (number + 0.5) / samples * self.length[..., None]
        extent = self.extent[..., None]
        inside = (position >= -1) & (position <= extent)
        position = torch.minimum(position.clamp(min=0), extent - 1)
        low = position.floor()
        cells = torch.stack([low, torch.minimum(low + 1, extent - 1)], 4)  # [B,N,2,size*samples,2]
        weights = torch.stack([1 - (position - low), position - low], 4) * (inside[..., None] / samples)
        bins = (size, samples)
        return cells.to(torch.int64).unflatten(3, bins), weights.unflatten(3, bins)

    def tile_counts(self, size: int) -> Tensor:
        """Number of tiles along each axis that cover the samples of `size` bins: [B,N,2]."""
        return torch.ceil(self.samples * size / SAMPLES)

    def tile_weights(self, size: int, tile: Tensor) -> tuple[Tensor, Tensor]:
        """The weight [B,N,2,size,TILE] of every cell of a tile in every bin along each axis.

        tile [B,N,2]: its number along each axis. Also returns the indices [B,N,2,TILE], int64, of the tile's
        cells, clamped to the level.
        """
        per_bin = self.samples.clamp(min=1)[..., None]
        number = tile[..., None] * SAMPLES + torch.arange(SAMPLES, device=tile.device)
        bin_index = torch.floor(number / per_bin)  # [B,N,2,SAMPLES]
        within = (number - bin_index * per_bin + 0.5) / per_bin
        position = self.start[..., None] + (bin_index + within) * self.length[..., None]
        extent = self.extent[..., None]
        inside = (number < self.samples[..., None] * size) & (position >= -1) & (position <= extent)
        position = torch.minimum(position.clamp(min=0), extent - 1)
        cells = position[..., :1].floor() + torch.arange(TILE, device=tile.device)
        # bilinear weights: [B,N,2,SAMPLES,TILE]
        hats = (1 - (position[..., None] - cells[..., None, :]).abs()).clamp(min=0)
        bins = torch.arange(size, device=tile.device)[:, None]
        shares = ((bin_index[..., None, :] == bins) & inside[..., None, :]) / per_bin[..., None]
        return shares @ hats, torch.minimum(cells, extent - 1).to(torch.int64)


class RoIAlign(nn.Module):
    """Features of regions, `size` x `size` bins each, from the pyramid level that matches their area.

    `strides`: of the levels that regions are assigned to, finest first, each twice the one before. A bin is
    the average of bilinear samples. A sample more than one cell outside its level is 0, and a region without
    area gives 0.

    The defaults are those of MMDetection and detectron2: a bin has as many samples along each axis as place
    them at most one cell apart, and coordinates refer to cell centres (`aligned`). maskrcnn-benchmark has a
    fixed number of `samples` along each axis of a bin, coordinates that refer to cell corners with regions of
    at least one cell (not `aligned`), and the area of `inclusive` boxes, see `blocks.boxes`.

    The samples of a region form a grid, so the features are a product of two small weight matrices and the
    cells under the region. Cells are read in tiles, in a loop over the tiles that a region needs. Regions are
    sorted by that number and processed in blocks, so that most do not wait for the few that need many tiles.
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

        Maps beyond `strides` are not read.
        """
        batch, count, _ = boxes.shape
        maps = maps[: len(self.strides)]
        grid, origins = self._sample_grid(maps, boxes)
        # [B*cells,C]; contiguous, because eager PyTorch would otherwise gather single values
        cells = torch.cat([level.flatten(2) for level in maps], 2).transpose(1, 2).flatten(0, 1).contiguous()
        features = (
            self._align_by_tiles(cells, grid, origins)
            if self.samples is None
            else self._align_by_samples(cells, grid, origins)
        )
        return features.reshape(batch, count, self.size, self.size, -1).movedim(4, 2)

    def levels(self, boxes: Tensor) -> Tensor:
        """The level of each box by the square root of its area (FPN, equation 1): [B,N,4] → [B,N] int64."""
        sides = areas(as_continuous(boxes, self.inclusive)).sqrt() / (CANONICAL * self.strides[0])
        return torch.log2(sides + 1e-6).floor().clamp(0, len(self.strides) - 1).to(torch.int64)

    def _sample_grid(self, maps: Sequence[Tensor], boxes: Tensor) -> tuple[SampleGrid, Tensor]:
        """The sample grid of boxes [B,N,4], and their origins [B,N].

        An origin is the row of cells [B*cells,C] that holds the first cell of the box's image and level.
        """
        level = self.levels(boxes)
        scale = widths = heights = offset = torch.zeros_like(level)
        before = 0
        for index, (stride, features) in enumerate(zip(self.strides, maps, strict=True)):
            selected = (level == index).to(torch.int64)
            height, width = features.shape[2:]
            scale = scale + selected / stride
            widths, heights = widths + selected * width, heights + selected * height
            offset = offset + selected * before
            before = before + height * width
        start, end = (boxes * scale[..., None] - (0.5 if self.aligned else 0.0)).split(2, -1)
        sides = end - start if self.aligned else (end - start).clamp(min=1)
        length = sides / self.size
        extent = torch.stack([widths, heights], 2).to(boxes.dtype)
        image = torch.arange(boxes.shape[0], device=boxes.device)[:, None]
        return SampleGrid(start, length, length.ceil().clamp(min=0), extent), offset + image * before

    def _align_by_samples(self, cells: Tensor, grid: SampleGrid, origins: Tensor) -> Tensor:
        """All regions with a fixed number of samples, in parts that read at most CELLS cells at once."""
        size, samples = self.size, cast(int, self.samples)
        covered, weights = grid.bilinear_weights(size, samples)
        width = grid.extent[..., 0].to(torch.int64)[..., None, None, None]
        rows = origins[..., None, None, None] + covered[:, :, 1] * width
        bins = torch.eye(size, device=cells.device)[..., None, None]
        across = (weights[:, :, :1] * bins).flatten(3)
        step = max(CELLS // (4 * size**2 * samples), 1)
        fields = rows, covered[:, :, 0].flatten(2), weights[:, :, 1], across
        parts = zip(*(field.split(step, 1) for field in fields), strict=True)
        return torch.cat([self._align_part(cells, *part) for part in parts], 1)

    def _align_part(
        self, cells: Tensor, rows: Tensor, columns: Tensor, down: Tensor, across: Tensor
    ) -> Tensor:
        """Some regions with a fixed number of samples: one iteration for each sample down a bin.

        cells [B*cells,C]. rows [B,N,size,samples,2]: index in cells of the first cell of a row. columns
        [B,N,T]: of the samples from left to right, T = size*samples*2. Weights: down, shaped as rows, and
        across [B,N,size,T]. Returns [B,N,size,size,C].

        An iteration reads large tensors. In a loop, iterations share their memory; TensorRT-RTX would
        allocate it for each of them in an unrolled graph.
        """
        samples, channels = rows.shape[3], cells.shape[1]

        def unfinished(sample: Tensor, _features: Tensor) -> Tensor:
            return sample < samples

        def next_sample(sample: Tensor, features: Tensor) -> State:
            current = sample[None]
            # [B,N,size,2,T]
            index = rows.index_select(3, current).transpose(3, 4) + columns[:, :, None, None]
            window = cells.index_select(0, index.flatten()).reshape(-1, 2 * columns.shape[2], channels)
            # [B,N,size,size,2,T]
            weights = down.index_select(3, current)[..., None] * across[:, :, None, :, None]
            products = torch.bmm(weights.flatten(4).flatten(0, 2), window)
            return sample + 1, features + products.reshape(features.shape)

        empty = cells.new_zeros(*rows.shape[:2], self.size, self.size, channels)
        start = torch.zeros((), dtype=torch.int64, device=cells.device)
        return while_loop(unfinished, next_sample, (start, empty))[1]

    def _align_by_tiles(self, cells: Tensor, grid: SampleGrid, origins: Tensor) -> Tensor:
        """All regions with as many samples as they need: blocks of regions with similar numbers of tiles."""
        batch, count = origins.shape
        size = block_size(count)
        order = grid.tile_counts(self.size).prod(2).topk(count).indices
        # copies of the last region, whose results are not used, fill up the last block
        filled = torch.cat([order, order[:, -1:].expand(-1, -count % size)], 1)
        fields = [
            field.unflatten(1, (-1, size)).transpose(0, 1)  # [blocks,B,size,…]
            for field in (*grid.select(filled), origins.gather(1, filled))
        ]

        def align_block(*block: Tensor) -> Tensor:
            # rank 5: if the loop flattens the last dimensions, TensorRT-RTX builds no int8 engine
            return self._align_block(cells, SampleGrid(*block[:-1]), block[-1])

        rows = map_rows(align_block, tuple(fields)).flatten(0, 2)  # [blocks*B*size,…]
        ranks = torch.arange(count, device=order.device).expand_as(order)
        rank = torch.zeros_like(order).scatter(1, order, ranks)
        image = torch.arange(batch, device=order.device)[:, None]
        block = rank // size
        row = (block * batch + image) * size + rank - block * size
        return rows.index_select(0, row.flatten())

    def _tile_product(
        self, cells: Tensor, grid: SampleGrid, origins: Tensor, weights: Tensor, covered: Tensor
    ) -> Tensor:
        """A tile's share of the bins: covered cells [B,N,2,T], weights [B,N,2,size,T] → [B,N,size,size,C]."""
        channels, across = cells.shape[1], covered.shape[3]
        width = grid.extent[..., 0].to(torch.int64)[..., None]
        rows = origins[..., None] + covered[:, :, 1] * width  # [B,N,T]
        index = rows[..., None] + covered[:, :, :1]
        window = cells.index_select(0, index.flatten()).reshape(-1, across, across * channels)
        by_row = torch.bmm(weights[:, :, 1].flatten(0, 1), window)
        return weights[:, :, :1] @ by_row.reshape(*origins.shape, self.size, across, channels)

    def _align_block(self, cells: Tensor, grid: SampleGrid, origins: Tensor) -> Tensor:
        """One block of regions: cells [B*cells,C], grid and origins [B,N] → [B,N,size,size,C]."""
        channels = cells.shape[1]
        across, down = grid.tile_counts(self.size).unbind(2)
        iterations = (across * down).max()
        across = across.clamp(min=1)

        def unfinished(tile: Tensor, _features: Tensor) -> Tensor:
            return tile < iterations

        def next_tile(tile: Tensor, features: Tensor) -> State:
            row = torch.floor(tile / across)
            weights, covered = grid.tile_weights(self.size, torch.stack([tile - row * across, row], 2))
            return tile + 1, features + self._tile_product(cells, grid, origins, weights, covered)

        empty = cells.new_zeros(*origins.shape, self.size, self.size, channels)
        return while_loop(unfinished, next_tile, (torch.zeros_like(iterations), empty))[1]
