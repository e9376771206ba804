"""Scenes with labels: what of them is free to train on, and from label ids to channels of the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.source import Pixels, Source
from segflow.metrics import reference_codes
from tiling.box import Box

IGNORED = -1
"""Channel of cells that are neither trained nor scored on."""
_BAND_CELLS = 1 << 22


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


def bands(box: Box, cells: int = _BAND_CELLS) -> Iterator[Box]:
    """Cut a box along its first axis into pieces of at most about so many cells."""
    rows = max(cells // max(box.size // box.shape[0], 1), 1)
    for start in range(box.start[0], box.stop[0], rows):
        yield box.replace_axis(0, start, min(start + rows, box.stop[0]))


def labels_of(scene: Scene, index: LabelIndex, box: Box) -> NDArray[np.int16]:
    """Return channels (*box) of a scene's labels; `IGNORED` where there is no valid input, too."""
    return np.where(scene.image.read(box).valid, index(scene.label.read(box)), np.int16(IGNORED))


def class_cells(labels: NDArray[np.int16], classes: int) -> NDArray[np.int64]:
    """Return how many cells each channel has: (class) int64."""
    found: NDArray[np.int64] = np.bincount(labels.reshape(-1) + 1, minlength=classes + 1)[1:].astype(np.int64)
    return found
