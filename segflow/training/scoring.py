"""Scores on what was held back: by the sweep, the backends and the counts of `segflow run`, on a network in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segflow.backends import Forward, resolve_settings
from segflow.errors import ModelError
from segflow.metrics import Counts, Scores, count_confusion, scores
from segflow.models.card import Card
from segflow.normalise import standardiser_of
from segflow.patches import lattice_of, model_shape, patch_of
from segflow.recipe import Compute, Tiling
from segflow.report.preview import stretch, thinning
from segflow.report.training import Worst
from segflow.sweep import Sealed, Task, head_of, sweep
from segflow.training.labelled import IGNORED, LabelIndex
from segflow.training.scenes import HeldBack
from tiling import Box, Layout, cut, rows_of

log = logging.getLogger(__name__)

_NOTHING = 65535
_ACROSS = {2: 4096, 3: 512}
"""Cells of a block across the sweep, so that memory does not grow with the scene."""
_LONGEST_PX = 256
_LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a network does on cells that it was not trained on.

    Attributes:
        total: confusion counts of all that was scored.
        scenes: scene's name to its counts.
        scores: what follows from the total.
        worst: the windows with the smallest share of right cells, the worst first.
    """

    total: Counts
    scenes: Mapping[str, Counts]
    scores: Scores
    worst: tuple[Worst, ...] = ()


def score_scenes(
    network: nn.Module,
    card: Card,
    scored: Sequence[HeldBack],
    index: LabelIndex,
    tiling: Tiling,
    compute: Compute,
    limit: int | None = None,
    worst: int = 0,
) -> Scoring:
    """Score a network as `segflow run` scores the model that it will be: the same labels, cell for cell.

    The network itself is not touched: a copy of it is run. On a CPU by OpenVINO, or by PyTorch where OpenVINO does not
    know an operation and `compute.backend` is auto.

    Args:
        network: puts out raw values, as `Model.network` does.
        card: the model's.
        scored: what is held back. A scene's cells around the box are context.
        index: from label ids to classes.
        tiling: patch, overlap and blending, as in the run.
        compute: as in the run.
        limit: score at most so many of them, evenly spread.
        worst: how many windows to show. Windows are as large as the card's patch; those that are nearly without
            labels (under 5 %) come last.

    Raises:
        ModelError: the network does not fit its card, or puts out what is no probability.
        InputError: a scene or its labels are broken.
    """
    chosen = spread(scored, limit)
    forward = _forward(network, card, tiling, compute)
    try:
        run = _Run(card, tiling, index, forward)
        counts = {item.name: Counts.zero(card.ids) for item in chosen}
        windows: list[_Window] = []
        for item in chosen:
            part, found = run.count(item, worst)
            counts[item.name] += part
            windows = nsmallest(worst, [*windows, *found], key=_badness)
        total = sum(counts.values(), start=Counts.zero(card.ids))
        shown = tuple(run.show(window) for window in windows)
        return Scoring(total, counts, scores(total, card.classes), shown)
    finally:
        forward.close()


def spread(scored: Sequence[HeldBack], limit: int | None) -> list[HeldBack]:
    """Return at most `limit` items, evenly spread over all, always the same ones."""
    if limit is None or limit >= len(scored):
        return list(scored)
    return [scored[k * len(scored) // limit] for k in range(limit)]


def _forward(network: nn.Module, card: Card, tiling: Tiling, compute: Compute) -> Forward:
    from segflow.backends.network import check_network
    from segflow.backends.torch_forward import TorchForward

    settings = resolve_settings(compute, tiling.batch, patch_of(card, tiling))
    same = deepcopy(network).to(device="cpu", dtype=torch.float32)
    same = same.to(memory_format=torch.contiguous_format)
    checked = check_network(same.eval().requires_grad_(False), card, settings.patch)
    if settings.backend == "openvino":
        from segflow.backends.openvino_forward import OpenVinoForward

        try:
            return OpenVinoForward(checked, settings)
        except ModelError as error:
            if compute.backend != "auto":
                raise
            log.warning("scored with PyTorch: %s", error.found)
    return TorchForward(checked, replace(settings, backend="torch"))


@dataclass(frozen=True, slots=True)
class _Window:
    """A part of a scene, and how much of it was right."""

    item: HeldBack
    box: Box
    known: int
    right: int


def _badness(window: _Window) -> tuple[bool, float]:
    return window.known < _LEAST_SHARE * window.box.size, window.right / window.known


@dataclass(frozen=True, slots=True)
class _Run:
    """The sweep of one network over any scene."""

    card: Card
    tiling: Tiling
    index: LabelIndex
    forward: Forward
    ignore: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ignore", tuple(sorted({*self.card.ignore, *self.index.ignore})))

    def count(self, item: HeldBack, worst: int) -> tuple[Counts, list[_Window]]:
        """Count a scene's cells, and return its worst windows."""
        total = Counts.zero(self.card.ids)
        task = self._task(item, item.box)
        tally = _Tally(item, self._window(task)) if worst else None
        for part in self._sealed(task, item):
            truth = item.scene.label.read(part.chunk)
            total += count_confusion(
                truth.values[0],
                part.labels,
                self.card.ids,
                ignore=self.ignore,
                mapping=self.index.mapping,
                valid=part.valid,
                scored=truth.valid,
            )
            if tally is not None:
                reference = self._ids(self.index(truth), part.valid)
                tally.add(part.chunk, reference != _NOTHING, reference == part.labels)
        return total, [] if tally is None else nsmallest(worst, tally.windows(), key=_badness)

    def show(self, window: _Window) -> Worst:
        """Run a window once more, and make small pictures of it; of a volume its worst slice."""
        item, box = window.item, window.box
        labels = np.full(box.shape, _NOTHING, np.uint16)
        valid = np.zeros(box.shape, np.bool_)
        for part in self._sealed(self._task(item, box), item):
            labels[part.chunk.within(box)] = part.labels
            valid[part.chunk.within(box)] = part.valid
        reference = self._ids(self.index(item.scene.label.read(box)), valid)
        pixels = item.scene.image.read(box)
        values, seen = pixels.values, pixels.valid
        if box.ndim == 3:
            wrong = (reference != _NOTHING) & (reference != labels)
            at = int(wrong.sum(axis=(0, 1)).argmax())
            box = box.replace_axis(2, box.start[2] + at, box.start[2] + at + 1)
            # As in an atlas: x to the right, y up.
            values = values[..., at].swapaxes(1, 2)[:, ::-1]
            seen, labels, reference = seen[..., at].T[::-1], labels[..., at].T[::-1], reference[..., at].T[::-1]
        height, width = labels.shape
        step = thinning((height, width), _LONGEST_PX)
        thin = (slice(step // 2, None, step), slice(step // 2, None, step))
        image = stretch(values, seen)[thin]
        accuracy = window.right / window.known
        return Worst(item.name, box, accuracy, image.copy(), reference[thin].copy(), labels[thin].copy())

    def _ids(self, channels: NDArray[np.int16], valid: NDArray[np.bool_]) -> NDArray[np.uint16]:
        """Return class ids of channels; `_NOTHING` where no cell is scored."""
        table = np.array([*self.card.ids, _NOTHING], np.uint16)
        ids: NDArray[np.uint16] = table[np.where(channels == IGNORED, len(self.card.ids), channels)]
        return np.where(valid, ids, np.uint16(_NOTHING))

    def _task(self, item: HeldBack, region: Box) -> Task:
        source, card = item.scene.image, self.card
        shape = source.grid.shape
        lattice = lattice_of(model_shape(source.grid, card), card, self.tiling)
        longest = max(range(region.ndim), key=lambda axis: region.shape[axis])
        along = longest if source.sweep_axis is None else source.sweep_axis
        steps = [axis.starts[1] if len(axis.starts) > 1 else axis.patch for axis in lattice.axes]
        units = [max(1, round(n * m / k)) for n, m, k in zip(steps, shape, lattice.shape, strict=True)]
        units[along] = rows_of(units[along])
        lengths = [None if axis == along else _ACROSS[region.ndim] for axis in range(region.ndim)]
        block = tuple(cut(n, length, unit) for n, length, unit in zip(region.shape, lengths, units, strict=True))
        return Task(
            layout=Layout(lattice, shape, region, along, block, units[along]),
            head=head_of(card),
            standardise=standardiser_of(card.normalisation, source.channels, source),
            padding=card.padding,
            store=self.tiling.accumulator,
            nodata=_NOTHING,
        )

    def _sealed(self, task: Task, item: HeldBack) -> Iterator[Sealed]:
        for block in task.layout:
            yield from sweep(task, item.scene.image, self.forward, block)

    def _window(self, task: Task) -> tuple[int, ...]:
        """Return the card's patch in the scene's cells."""
        shapes = zip(self.card.patch, task.layout.shape, task.layout.lattice.shape, strict=True)
        return tuple(max(1, round(n * mine / models)) for n, mine, models in shapes)


class _Tally:
    """Counts known and right cells of a scene, window by window."""

    def __init__(self, item: HeldBack, size: tuple[int, ...]) -> None:
        self._item = item
        self._size = size
        counts = tuple(ceil(n / k) for n, k in zip(item.box.shape, size, strict=True))
        self._sums = np.zeros((2, *counts), np.int64)

    def add(self, chunk: Box, known: NDArray[np.bool_], right: NDArray[np.bool_]) -> None:
        """Count the cells of a chunk (*chunk)."""
        masks = np.stack((known, known & right))
        where: list[slice] = []
        for axis, (low, high, base, size) in enumerate(
            zip(chunk.start, chunk.stop, self._item.box.start, self._size, strict=True)
        ):
            first, last = (low - base) // size, (high - 1 - base) // size
            edges = [max(base + k * size - low, 0) for k in range(first, last + 1)]
            masks = np.add.reduceat(masks, edges, axis=axis + 1, dtype=np.int64)
            where.append(slice(first, last + 1))
        self._sums[(slice(None), *where)] += masks

    def windows(self) -> Iterator[_Window]:
        """Yield the windows that hold a known cell."""
        for place in np.argwhere(self._sums[0]):
            start = tuple(int(a + k * n) for a, k, n in zip(self._item.box.start, place, self._size, strict=True))
            stop = tuple(min(a + n, end) for a, n, end in zip(start, self._size, self._item.box.stop, strict=True))
            known, right = (int(n) for n in self._sums[(slice(None), *place)])
            yield _Window(self._item, Box(start, stop), known, right)
