"""Batches of training patches: sampled, laid over, changed, and made ready ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segflow.errors import RecipeError
from segflow.recipe import Augment
from segflow.recipe.train import Border
from segflow.training.augment import change_values, draw_blur, draw_warp, resample, soften_labels
from segflow.training.border import border_map
from segflow.training.sampling import Sampler
from segflow.training.statistics import Statistics

_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's patches.

    Attributes:
        values: (batch, channel, *patch) float32, normalised.
        labels: (batch, *patch) int64, channels of the output or `IGNORED`.
        border: (batch, *patch) float32, weight map of borders between objects; None where it is not asked for.
        scenes: name of the scene of each patch.
    """

    values: Tensor
    labels: Tensor
    border: Tensor | None = None
    scenes: tuple[str, ...] = ()

    def to(self, *where: Any, **how: Any) -> Batch:
        """Return the same on a device, as `Tensor.to` does."""
        border = None if self.border is None else self.border.to(*where, **how)
        return Batch(self.values.to(*where, **how), self.labels.to(*where, **how), border, self.scenes)


@dataclass(frozen=True, slots=True)
class _Patch:
    values: Tensor
    labels: Tensor
    border: Tensor | None
    scene: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """What every step is made of. A patch depends on the seed, the step's and its own number alone.

    Attributes:
        sampler: where patches come from.
        statistics: one a scene of the sampler.
        patch: cells on each axis.
        batch: patches a step, of all processes that share it.
        augment: what is changed at random.
        zoom: range of magnification.
        seed: of all that is random.
        border: weight map that is made of the labels; None for none.
        workers: threads that make patches, each on one core.
    """

    sampler: Sampler
    statistics: tuple[Statistics, ...]
    patch: tuple[int, ...]
    batch: int
    augment: Augment = field(default_factory=lambda: Augment.model_validate({}))
    zoom: tuple[float, float] = (1.0, 1.0)
    seed: int = 0
    border: Border | None = None
    workers: int = 1

    def make(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Make a step's batch, or the part of it that a process has: patches rank, rank + world, ...

        Raises:
            RecipeError: the batch cannot be shared equally.
            InputError: a file is broken.
        """
        return _together([self._one(step, number) for number in self._share(rank, world)])

    def steps(self, start: int, stop: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield the batches of steps start .. stop - 1; two more are being made in threads while one is in use.

        Raises:
            RecipeError: the batch cannot be shared equally.
            InputError: a file is broken.
        """
        share = self._share(rank, world)
        with ThreadPoolExecutor(self.workers) as pool:
            _one_core_each(pool, self.workers)
            ahead: deque[list[Future[_Patch]]] = deque()
            try:
                for step in range(start, stop + _AHEAD):
                    if step < stop:
                        ahead.append([pool.submit(self._one, step, number) for number in share])
                    if step >= start + _AHEAD:
                        yield _together([patch.result() for patch in ahead.popleft()])
            finally:
                pool.shutdown(cancel_futures=True)

    def _share(self, rank: int, world: int) -> range:
        if self.batch % world:
            raise RecipeError(
                f"a batch of {self.batch} patches is to be shared by {world} devices",
                "a batch that they can share equally",
                f"set train.batch to a multiple of {world}",
            )
        return range(rank, self.batch, world)

    def _one(self, step: int, number: int) -> _Patch:
        rng = np.random.default_rng([self.seed, 2, step, number])
        which, box, cell = self.sampler.place(rng)
        scene, known = self.sampler.scenes[which], self.statistics[which]
        drawn = draw_warp(rng, self.augment, self.patch, self.zoom, scene.fineness)
        warp = replace(drawn, matrix=scene.to_cells(drawn.matrix))
        aside = warp.matrix @ (rng.uniform(-0.4, 0.4, len(self.patch)) * np.asarray(self.patch))
        place = tuple(float(i) for i in np.asarray(cell) + aside)
        window = self.sampler.read(which, box, place, warp.reach)
        values, valid, labels = resample(window, warp, known.mean)
        sigma = draw_blur(rng, self.augment)
        if sigma and self.augment.blur_labels:
            labels = soften_labels(labels, sigma, len(self.sampler.frequency))
        changed = change_values(values, valid, known, self.augment, rng, sigma)
        border = None if self.border is None else torch.from_numpy(border_map(labels, self.border))
        return _Patch(changed, torch.from_numpy(labels), border, scene.image.name)


def _together(patches: Sequence[_Patch]) -> Batch:
    borders = [patch.border for patch in patches if patch.border is not None]
    return Batch(
        torch.stack([patch.values for patch in patches]),
        torch.stack([patch.labels for patch in patches]),
        torch.stack(borders) if borders else None,
        tuple(patch.scene for patch in patches),
    )


def _one_core_each(pool: ThreadPoolExecutor, workers: int) -> None:
    """Let torch use one core in each of a pool's threads, and as many as before in this one.

    A patch is small: threads that wait for each other, beside those of the network, would take ten times as long.
    """
    threads, met = torch.get_num_threads(), Barrier(workers)

    def narrow() -> None:
        torch.set_num_threads(1)
        met.wait()

    for ready in [pool.submit(narrow) for _ in range(workers)]:
        ready.result()
    torch.set_num_threads(threads)  # the call above is this thread's business too, in parts of torch
