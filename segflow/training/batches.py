"""Batches of training patches: sampled, laid over, changed, and made ready one step ahead."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segflow.training.augment import (
    Augment,
    change_values,
    draw_matrix,
    draw_softness,
    reach_of,
    resample,
    soften_labels,
)
from segflow.training.sampling import Sampler, Statistics


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's patches.

    Attributes:
        values: (batch, channel, *patch) float32, normalised.
        labels: (batch, *patch) int64, channels of the output or `IGNORED`.
    """

    values: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class Batches:
    """What every step is made of. A step's batch depends on the seed and the step's number alone.

    Attributes:
        sampler: where patches come from.
        statistics: one a scene of the sampler.
        patch: cells on each axis.
        batch: patches a step.
        augment: named set of changes.
        zoom: range of magnification.
        seed: of all that is random.
        colour: strength of the changes of colour.
    """

    sampler: Sampler
    statistics: tuple[Statistics, ...]
    patch: tuple[int, ...]
    batch: int
    augment: Augment = "none"
    zoom: tuple[float, float] = (1.0, 1.0)
    seed: int = 0
    colour: float = 1.0

    def make(self, step: int) -> Batch:
        """Make the batch of a step."""
        drawn = [self._one(np.random.default_rng([self.seed, 2, step, number])) for number in range(self.batch)]
        return Batch(torch.stack([item[0] for item in drawn]), torch.stack([item[1] for item in drawn]))

    def steps(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps start .. stop - 1; the next is made in a thread while one is in use."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self.make, start) if start < stop else None
            for step in range(start, stop):
                if ahead is None:
                    return
                ready = ahead.result()
                ahead = pool.submit(self.make, step + 1) if step + 1 < stop else None
                yield ready

    def _one(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        number, box, cell = self.sampler.place(rng)
        fineness = self.sampler.scenes[number].fineness
        drawn = draw_matrix(rng, self.augment, len(self.patch), self.zoom, fineness)
        matrix = self.sampler.scenes[number].to_cells(drawn)
        moved = np.asarray(cell) + matrix @ (rng.uniform(-0.4, 0.4, len(self.patch)) * np.asarray(self.patch))
        window = self.sampler.read(number, box, tuple(float(i) for i in moved), reach_of(matrix, self.patch))
        values, valid, labels = resample(window, matrix, self.patch)
        sigma = draw_softness(rng, self.augment)
        if sigma:
            labels = soften_labels(labels, sigma, len(self.sampler.frequency))
        changed = change_values(values, valid, self.statistics[number], self.augment, rng, sigma, self.colour)
        return changed, torch.from_numpy(labels)
