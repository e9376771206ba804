"""Prepared scenes: the model's grid lies in a part of the scene, padded; labels do not depend on the cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.normalise import AS_IT_IS
from segflow.sweep import Head, Task, sweep
from tiling import Box, Filter, Frame, Lattice, Layout

IDS = (4, 9)


class Prepared(ArraySource):
    """A scene whose model's grid is an array of its own."""

    def __init__(self, shape: tuple[int, ...], model: NDArray[np.float32]) -> None:
        super().__init__(np.zeros((1, *shape), np.float32), Grid("volume", shape))
        self._model = model

    def read_model(self, box: Box) -> NDArray[np.float32]:
        return self._model[(slice(None), *box.slices)]


class Same:
    """Puts out what comes in, as a probability and its rest."""

    facts: Mapping[str, str] = MappingProxyType({})
    in_flight = 1

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for patch in patches:
            yield np.concatenate([patch, 1 - patch])

    def close(self) -> None:
        pass


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Layout, Layout, NDArray[np.float32]]:
    """A prepared scene under two cuts."""
    patch = tuple(draw(st.integers(2, 5)) for _ in range(3))
    inner = tuple(draw(st.integers(1, 9)) for _ in range(3))
    padded = tuple(max(n, p) for n, p in zip(inner, patch, strict=True))
    before = tuple((n - m) // 2 for n, m in zip(padded, inner, strict=True))
    outer = tuple(draw(st.integers(1, 12)) for _ in range(3))
    start = tuple(draw(st.integers(0, 5)) for _ in range(3))
    shape = tuple(a + n + draw(st.integers(0, 5)) for a, n in zip(start, outer, strict=True))
    rules = tuple(draw(st.sampled_from(get_args(Filter))) for _ in range(3))
    frame = Frame(
        Box(start, tuple(a + n for a, n in zip(start, outer, strict=True))),
        Box(before, tuple(a + n for a, n in zip(before, inner, strict=True))),
        rules,
    )
    lattice = Lattice.of(padded, patch, [p / 2 if p > 2 else 1 for p in patch], "nnunet", "even")
    layouts = []
    for _ in range(2):
        axis, rows = draw(st.integers(0, 2)), draw(st.integers(1, 6))
        block = [draw(st.integers(1, n + 1)) for n in shape]
        block[axis] = rows * draw(st.integers(1, 3))
        layouts.append(Layout(lattice, shape, Box.whole(shape), axis, tuple(block), rows, frame))
    values = np.random.default_rng(draw(st.integers(0, 9))).random((1, *padded)).astype(np.float32)
    return layouts[0], layouts[1], values


def run(layout: Layout, values: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    task = Task(layout, Head(2, IDS), AS_IT_IS, "constant", confidence=True, nodata=0, probabilities=True)
    labels, sure = np.full(layout.shape, 999, np.uint16), np.zeros(layout.shape, np.uint8)
    for block in layout:
        for part in sweep(task, Prepared(layout.shape, values), Same(), block):
            assert part.confidence is not None
            assert part.valid.all()
            assert part.probabilities is not None
            np.testing.assert_array_equal(part.probabilities.max(axis=0), part.confidence)
            np.testing.assert_array_equal(np.take(IDS, part.probabilities.argmax(axis=0)), part.labels)
            labels[part.chunk.slices], sure[part.chunk.slices] = part.labels, part.confidence
    return labels, sure


@given(scenes())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_labels_do_not_depend_on_the_cut_and_lie_where_they_belong(
    made: tuple[Layout, Layout, NDArray[np.float32]],
) -> None:
    one, two, values = made
    labels, sure = run(one, values)
    for ours, theirs in zip((labels, sure), run(two, values), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    frame = one.frame
    assert frame is not None
    outside = np.ones(one.shape, bool)
    outside[frame.outer.slices] = False
    assert (labels[outside] == IDS[0]).all()
    assert (sure[outside] == 255).all()
    if "triangle" in frame.rules:
        return
    grids = []
    for n, m, rule in zip(frame.inner.shape, frame.outer.shape, frame.rules, strict=True):
        centres = (np.arange(m) + 0.5) * n / m - 0.5
        # the nearest cell in whole numbers: between two cells floats would decide
        grids.append(np.floor((2 * np.arange(m) + 1) * n / (2 * m)) if rule == "nearest" else centres)
    inner = values[0][frame.inner.slices].astype(float)
    wanted = map_coordinates(inner, np.meshgrid(*grids, indexing="ij"), order=1, mode="nearest")
    found = labels[frame.outer.slices]
    clear = np.abs(wanted - 0.5) > 1e-4
    np.testing.assert_array_equal(found[clear], np.where(wanted > 0.5, *IDS)[clear])


def test_a_frame_that_does_not_fit_is_refused() -> None:
    lattice = Lattice.of((4, 4, 4), (4, 4, 4), (2, 2, 2))
    layout = Layout(lattice, (8, 8, 8), Box.whole((8, 8, 8)), 0, (8, 8, 8), 8)
    for outer, inner in (((9, 8, 8), (4, 4, 4)), ((8, 8, 8), (5, 4, 4))):
        frame = Frame(Box.whole(outer), Box.whole(inner), ("linear",) * 3)
        with pytest.raises(ValueError, match="reaches out"):
            replace(layout, frame=frame)
