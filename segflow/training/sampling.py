"""Patches drawn from labelled scenes: balanced by class, read lazily, and never from cells that are held back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.training.labelled import IGNORED, LabelIndex, Scene, bands, class_cells, free_boxes, labels_of
from tiling.box import Box

_PLACES = 20_000
_PLACES_IN_ALL = 500_000


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a class occurs in one free box."""

    scene: int
    box: Box
    count: int
    cells: NDArray[np.int32] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Window:
    """What was read around a place.

    Attributes:
        scene: index of the scene.
        box: what was read, in the scene's cells.
        centre: where the patch is to be centred, in the scene's cells.
        image: (channel, *box) in the file's dtype.
        valid: (*box) bool.
        labels: (*box) int16, channels of the output or `IGNORED`.
    """

    scene: int
    box: Box
    centre: tuple[float, ...]
    image: NDArray[Any]
    valid: NDArray[np.bool_]
    labels: NDArray[np.int16]


class Sampler:
    """Draws windows around cells of a class.

    Args:
        scenes: where to draw from.
        index: from label ids to channels.
        classes: number of channels.
        balance: 0 draws classes as often as they occur, 1 all equally often; between, by frequency^(1 - balance).
        seed: of the choice of places kept: labels are read once, and up to 20,000 cells a class and box kept, fewer
            where there are many scenes.

    Attributes:
        scenes: the same.
        counts: (scene, class) int64, labelled cells with valid input that are free to train on, each once.
        frequency: (class) float64, shares of the classes, a cell weighted by its size in model cells.

    Raises:
        InputError: no cell is free, or none of a class.
    """

    def __init__(self, scenes: Sequence[Scene], index: LabelIndex, classes: int, balance: float, seed: int) -> None:
        self.scenes = tuple(scenes)
        self._index = index
        self._kept = max(100, min(_PLACES, _PLACES_IN_ALL // max(len(self.scenes), 1)))
        rng = np.random.default_rng([seed, 1])
        self.counts: NDArray[np.int64] = np.zeros((len(self.scenes), classes), np.int64)
        self._places: list[list[_Places]] = [[] for _ in range(classes)]
        for number, scene in enumerate(self.scenes):
            boxes = free_boxes(scene.label.grid.shape, scene.held)
            for place, box in enumerate(boxes):
                self._survey(number, box, boxes[:place], rng)
        self._require_all()
        chances = [np.array([p.count * self.scenes[p.scene].weight for p in places]) for places in self._places]
        weights = np.array([chance.sum() for chance in chances])
        frequency = weights / weights.sum()
        scaled = frequency ** (1.0 - balance)
        self.frequency: NDArray[np.float64] = frequency
        self._class_chance = scaled / scaled.sum()
        self._chances = [chance / chance.sum() for chance in chances]

    def place(self, rng: np.random.Generator) -> tuple[int, Box, tuple[float, ...]]:
        """Return a random scene, the free box there, and a cell of a random class in it."""
        channel = int(rng.choice(len(self._class_chance), p=self._class_chance))
        places = self._places[channel]
        chosen = places[int(rng.choice(len(places), p=self._chances[channel]))]
        cell = chosen.cells[int(rng.integers(len(chosen.cells)))]
        return chosen.scene, chosen.box, tuple(float(i) for i in cell)

    def read(self, scene: int, box: Box, cell: tuple[float, ...], reach: NDArray[np.float64]) -> Window:
        """Read a window around a cell, moved so that it stays inside its free box, or cut to it where that is less."""
        centre: list[float] = []
        start: list[int] = []
        stop: list[int] = []
        for at, half, low, high in zip(cell, reach, box.start, box.stop, strict=True):
            middle = (low + high) / 2 if 2 * half >= high - low else min(max(at, low + half), high - half)
            centre.append(middle)
            start.append(max(int(np.floor(middle - half)) - 1, low))
            stop.append(min(int(np.ceil(middle + half)) + 1, high))
        window = Box(tuple(start), tuple(stop))
        pixels = self.scenes[scene].image.read(window)
        labels = self._index(self.scenes[scene].label.read(window))
        return Window(
            scene, window, tuple(centre), pixels.values, pixels.valid, np.where(pixels.valid, labels, np.int16(IGNORED))
        )

    def _survey(self, number: int, box: Box, before: Sequence[Box], rng: np.random.Generator) -> None:
        """Count a free box's classes, and keep some cells of each. What lies in a box before it is counted already."""
        classes = len(self._places)
        kept: list[list[NDArray[np.int32]]] = [[] for _ in range(classes)]
        counts = np.zeros(classes, np.int64)
        pieces = list(bands(box))
        for band in pieces:
            labels = labels_of(self.scenes[number], self._index, band)
            for channel in range(classes):
                flat = np.flatnonzero(labels == channel)
                counts[channel] += len(flat)
                if len(flat):
                    some = rng.choice(flat, min(len(flat), max(self._kept // len(pieces), 1)), replace=False)
                    cells = np.stack(np.unravel_index(some, labels.shape), axis=1) + np.asarray(band.start)
                    kept[channel].append(cells.astype(np.int32))
            for other in before:
                shared = band.intersect(other)
                if shared is not None:
                    labels[shared.within(band)] = IGNORED
            self.counts[number] += class_cells(labels, classes)
        for channel, cells_of in enumerate(kept):
            if cells_of:
                self._places[channel].append(_Places(number, box, int(counts[channel]), np.concatenate(cells_of)))

    def _require_all(self) -> None:
        missing = [name for name, places in zip(self._index.names, self._places, strict=True) if not places]
        if not missing:
            return
        if len(missing) == len(self._places):
            raise InputError("no training cell has a label", "labels with the ids of train.classes", "check references")
        raise InputError(
            f"no training cell is of the class {', '.join(missing)}",
            "cells of every class in what is trained on",
            "train on more scenes, hold others back (train.validation), map ids to the class (references.map), "
            "or take it out of train.classes",
        )
