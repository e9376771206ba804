"""Patches of a scene as the network sees them, spread over all of it, always the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from segflow.io.source import Source
from segflow.sweep.engine import sweep
from segflow.sweep.task import Task
from tiling import Box


class NoForward:
    """A `Forward` that keeps the first patch of a stream and runs nothing.

    Args:
        in_flight: patches that a plan reckons with.
    """

    def __init__(self, in_flight: int = 1) -> None:
        self.found: list[NDArray[np.float32]] = []
        self._in_flight = in_flight

    @property
    def facts(self) -> Mapping[str, str]:
        """Nothing decides bits."""
        return {}

    @property
    def in_flight(self) -> int:
        """What a plan reckons with; one patch is taken."""
        return self._in_flight

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Take one patch and yield nothing."""
        for patch in patches:
            self.found.append(patch.copy())
            return
        yield from ()

    def close(self) -> None:
        """Do nothing."""


def sample_patches(task: Task, source: Source, count: int) -> list[NDArray[np.float32]]:
    """Return up to `count` patches (channel, *patch), standardised and padded, evenly spread over the task's region.

    Places without a wanted cell give none, so there may be fewer.

    Args:
        task: how the scene is swept.
        source: the scene.
        count: at most so many; reads the surroundings of so many cells.
    """
    region = task.layout.region
    lattice = [max(1, round(n / step)) for n, step in zip(region.shape, _steps(task), strict=True)]
    places = prod(lattice)
    collector = NoForward()
    for number in range(min(count, places)):
        index = np.unravel_index(number * places // min(count, places), lattice)
        cell = tuple(
            low + int((2 * int(k) + 1) * n // (2 * m))
            for low, n, k, m in zip(region.start, region.shape, index, lattice, strict=True)
        )
        here = Box(cell, tuple(n + 1 for n in cell))
        layout = replace(task.layout, region=here, block=here.shape, rows=1)
        for _ in sweep(replace(task, layout=layout), source, collector, (0,) * here.ndim):
            pass
    return collector.found


def _steps(task: Task) -> Iterator[float]:
    """Yield the step between patches on each axis, in cells of the output."""
    layout = task.layout
    for axis, n, m in zip(layout.lattice.axes, layout.shape, layout.lattice.shape, strict=True):
        step = axis.starts[1] - axis.starts[0] if len(axis.starts) > 1 else axis.patch
        yield step * n / m
