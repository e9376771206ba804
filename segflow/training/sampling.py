"""Patches drawn from labelled scenes: balanced by class, read lazily, and never from cells that are held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.source import Pixels, Source
from segflow.metrics import reference_codes
from segflow.models.card import Normalisation
from segflow.normalise import Moments
from tiling.box import Box

IGNORED = -1
_BAND_CELLS = 1 << 22
_PLACES = 20_000
_PLACES_IN_ALL = 500_000
_SAMPLE = 4096
_SAMPLED_BANDS = 16


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene with its labels.

    Attributes:
        image: what the network sees.
        label: one channel of ids on the image's grid.
        held: boxes that no patch may touch.
        fineness: cells per length relative to the other scenes (3 for one whose cells are a third as wide), where no
            grid tells it.
        ratio: model cells per cell of the scene, on each axis, where a grid tells it; () where they are the same.
    """

    image: Source
    label: Source
    held: tuple[Box, ...] = ()
    fineness: float = 1.0
    ratio: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.ratio and len(self.ratio) != len(self.image.grid.shape):
            raise ValueError(f"ratio {self.ratio} needs a number for each of {self.image.grid.axes}")
        if self.image.grid.shape != self.label.grid.shape:
            raise InputError(
                f"{self.image.name} has {self.image.grid.shape} cells, its labels {self.label.grid.shape}",
                "labels on the image's own grid",
                "correct references.path",
            )

    def to_cells(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a map (axis, axis) whose results are in model cells as one whose results are in the scene's cells."""
        if not self.ratio:
            return matrix
        scaled: NDArray[np.float64] = matrix / np.asarray(self.ratio)[:, None]
        return scaled

    @property
    def weight(self) -> float:
        """What a cell counts beside those of other scenes: its size in model cells."""
        return prod(self.ratio) / self.fineness


def free_boxes(shape: tuple[int, ...], held: Sequence[Box]) -> list[Box]:
    """Return the largest boxes of an array that touch none of the held ones. They may overlap each other."""
    boxes = [Box.whole(shape)]
    for hole in held:
        boxes = [part for box in boxes for part in _without(box, hole)]
    unique = list(dict.fromkeys(boxes))
    return [box for box in unique if not any(other != box and other.contains(box) for other in unique)]


def _without(box: Box, hole: Box) -> Iterator[Box]:
    if box.intersect(hole) is None:
        yield box
        return
    for axis in range(box.ndim):
        if hole.start[axis] > box.start[axis]:
            yield box.replace_axis(axis, box.start[axis], hole.start[axis])
        if hole.stop[axis] < box.stop[axis]:
            yield box.replace_axis(axis, hole.stop[axis], box.stop[axis])


class LabelIndex:
    """From ids in a label file to channels of the output, read as a run reads references.

    What is not scored in a run is not trained on: `IGNORED`. Nor are ids that are no class.

    Args:
        ids: class ids, by channel.
        mapping: ids in the labels to class ids.
        ignore: ids that are not trained on.
        names: of the classes, for messages.

    Raises:
        InputError: `mapping` leads to an id that is neither a class nor ignored.
    """

    def __init__(
        self,
        ids: Sequence[int],
        mapping: Mapping[int, int] | None = None,
        ignore: Sequence[int] = (),
        names: Sequence[str] = (),
    ) -> None:
        self.ids = tuple(ids)
        self.mapping = dict(mapping or {})
        self.ignore = tuple(ignore)
        self.names = tuple(names) or tuple(str(number) for number in ids)
        self._codes = reference_codes(ids, ignore, self.mapping)
        self._channels = np.array([*range(len(ids)), IGNORED, IGNORED], np.int16)

    def __call__(self, pixels: Pixels) -> NDArray[np.int16]:
        """Return channels (*axes) int16 of label pixels (1, *axes)."""
        codes = self._codes(pixels.values[0].reshape(-1)).reshape(pixels.valid.shape)
        return np.where(pixels.valid, self._channels[codes], np.int16(IGNORED))


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of a scene's values before it is cut.

    Attributes:
        mean: (channel) float32.
        deviation: (channel) float32.
        sample: (channel, n) float32, values of cells that count, for statistics after a change of contrast.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    sample: NDArray[np.float32]


def scene_statistics(scene: Scene, normalisation: Normalisation, rng: np.random.Generator) -> Statistics:
    """Return the card's or the scene's mean and deviation, and a sample of values. Held cells do not count.

    With the card's numbers only a part of a very large scene is read, for the sample.
    """
    picks: list[NDArray[np.float32]] = []
    channels = scene.image.channels
    moments = [Moments() for _ in range(channels)]
    nonzero = normalisation.over == "nonzero"
    for box in free_boxes(scene.image.grid.shape, scene.held):
        pieces = list(bands(box))
        if normalisation.source == "card":
            pieces = pieces[:: max(1, len(pieces) // _SAMPLED_BANDS)]
        for band in pieces:
            pixels = scene.image.read(band)
            for channel, moment in zip(pixels.values, moments, strict=True):
                moment.add(channel[pixels.valid & (channel != 0)] if nonzero else channel[pixels.valid])
            keep = pixels.valid & (pixels.values != 0).any(axis=0) if nonzero else pixels.valid
            values = pixels.values[:, keep]
            if values.shape[1]:
                picks.append(values[:, rng.integers(0, values.shape[1], _SAMPLE)].astype(np.float32))
    if not picks:
        zero = np.zeros(channels, np.float32)
        return Statistics(zero, zero + 1, np.zeros((channels, 1), np.float32))
    merged = np.concatenate(picks, axis=1)
    sample = merged[:, rng.integers(0, merged.shape[1], _SAMPLE)]
    if normalisation.source == "card":
        mean = np.broadcast_to(np.asarray(normalisation.mean, np.float32), (channels,))
        deviation = np.broadcast_to(np.asarray(normalisation.deviation, np.float32), (channels,))
    else:
        mean = np.array([moment.mean for moment in moments], np.float32)
        deviation = np.array([m.deviation(scene.image.name, k) for k, m in enumerate(moments)], np.float32)
    return Statistics(mean, deviation, sample)


def bands(box: Box, cells: int = _BAND_CELLS) -> Iterator[Box]:
    """Cut a box along its first axis into pieces of at most about so many cells."""
    rows = max(cells // max(box.size // box.shape[0], 1), 1)
    for start in range(box.start[0], box.stop[0], rows):
        yield box.replace_axis(0, start, min(start + rows, box.stop[0]))


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


def labels_of(scene: Scene, index: LabelIndex, box: Box) -> NDArray[np.int16]:
    """Return channels (*box) of a scene's labels; `IGNORED` where there is no valid input, too."""
    return np.where(scene.image.read(box).valid, index(scene.label.read(box)), np.int16(IGNORED))


def class_cells(labels: NDArray[np.int16], classes: int) -> NDArray[np.int64]:
    """Return how many cells each channel has: (class) int64."""
    found: NDArray[np.int64] = np.bincount(labels.reshape(-1) + 1, minlength=classes + 1)[1:].astype(np.int64)
    return found
