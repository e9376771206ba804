"""A prediction and a reference on one grid, read window by window as positions of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segflow.metrics.counts import prediction_codes, reference_codes
from tiling import Box

Codes = NDArray[np.unsignedinteger[Any]]
_ALIGNED = 512


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared.

    Attributes:
        shape: of both.
        classes: how many there are, n; codes are 0 to n - 1 in their order, and n = not scored.
        read: gives a box as (prediction, reference), both (*box) codes; what is not scored is n in both.
        confidence: gives a box of the largest probability x 255, (*box) uint8; None where there is none.
    """

    shape: tuple[int, ...]
    classes: int
    read: Callable[[Box], tuple[Codes, Codes]]
    confidence: Callable[[Box], NDArray[np.uint8]] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a pair with some cells around it.

    Attributes:
        box: the part; the parts of all windows cover the pair once.
        around: what was read: the part and its halo, cut at the borders of the pair.
        prediction: (*around) codes.
        reference: (*around) codes.
        confidence: (*box) uint8, or None.
    """

    box: Box
    around: Box
    prediction: Codes
    reference: Codes
    confidence: NDArray[np.uint8] | None

    @property
    def core(self) -> tuple[slice, ...]:
        """The part as an index into what was read."""
        return self.box.within(self.around)


class Meter(Protocol):
    """Something that is added up window by window; the sum does not depend on how the pair is cut."""

    @property
    def halo(self) -> int:
        """How many cells around a window it must see."""

    def add(self, window: Window) -> None:
        """Take a window; they come in order, each once."""


def run_meters(pair: Pair, meters: Sequence[Meter], cells: int = 1 << 22) -> None:
    """Read a pair once, band by band along its first axis, and give each band to all meters.

    Args:
        pair: what is read.
        meters: who wants it.
        cells: about how many cells a band has; memory is a few times that, whatever the size of the pair.
    """
    halo = max((meter.halo for meter in meters), default=0)
    for box in _bands(pair.shape, cells):
        around = box.replace_axis(0, max(0, box.start[0] - halo), min(pair.shape[0], box.stop[0] + halo))
        prediction, reference = pair.read(around)
        confidence = None if pair.confidence is None else pair.confidence(box)
        window = Window(box, around, prediction, reference, confidence)
        for meter in meters:
            meter.add(window)


def _bands(shape: tuple[int, ...], cells: int) -> Iterator[Box]:
    """Yield bands of rows; where they are large they begin at multiples of 512, so that tiles are unpacked once."""
    whole = Box.whole(shape)
    rows = max(1, cells // prod(shape[1:]))
    if rows > _ALIGNED:
        rows = rows // _ALIGNED * _ALIGNED
    for start in range(0, shape[0], rows):
        yield whole.replace_axis(0, start, min(start + rows, shape[0]))


def pair_of(
    shape: tuple[int, ...],
    ours: Callable[[Box], tuple[NDArray[Any], NDArray[np.bool_]]],
    theirs: Callable[[Box], tuple[NDArray[Any], NDArray[np.bool_]]],
    ids: Sequence[int],
    *,
    ignore: Sequence[int] = (),
    mapping: Mapping[int, int] | None = None,
    confidence: Callable[[Box], NDArray[np.uint8]] | None = None,
) -> Pair:
    """Return a pair of which the same cells are scored as `count_confusion` counts.

    Args:
        shape: of both.
        ours: gives a box of the prediction: ids, and where they are valid.
        theirs: gives a box of the reference: ids, and where it has something to say.
        ids: class ids, in the order of the codes.
        ignore: ids that are not scored.
        mapping: ids in the reference to ids of the model.
        confidence: as in `Pair`.
    """
    n = len(ids)
    kind = np.uint8 if n < 255 else np.uint16  # n, and n + 1 for what lies outside
    of_prediction, of_reference = prediction_codes(ids, ignore), reference_codes(ids, ignore, mapping or {})

    def read(box: Box) -> tuple[Codes, Codes]:
        (values, valid), (truth, scored) = ours(box), theirs(box)
        prediction = of_prediction(values.reshape(-1)).reshape(box.shape)
        reference = of_reference(truth.reshape(-1)).reshape(box.shape)
        void = ~valid | ~scored | (prediction >= n) | (reference >= n)
        return np.where(void, n, prediction).astype(kind), np.where(void, n, reference).astype(kind)

    return Pair(shape, n, read, confidence)
