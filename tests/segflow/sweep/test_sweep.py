"""The sweep gives the same labels however a scene is cut, fed and resumed, and the labels that a plain blend gives."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segflow.backends.protocol import Forward
from segflow.errors import ModelError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.normalise import Standardiser
from segflow.sweep import Head, Task, sweep
from tiling import Box, Layout
from tiling.strategies import layouts

IDS = (3, 1, 7)


@dataclass
class Neighbourhood:
    """A network in numpy whose output depends on the whole patch, so that blending matters; `ahead` are in flight."""

    ahead: int = 1
    facts: Mapping[str, str] = ()  # type: ignore[assignment]
    seen: int = 0

    @property
    def in_flight(self) -> int:
        return self.ahead

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        waiting: deque[NDArray[np.float32]] = deque()
        for patch in patches:
            self.seen += 1
            waiting.append(self.run(patch))
            if len(waiting) >= self.ahead:
                yield waiting.popleft()
        yield from waiting

    @staticmethod
    def run(patch: NDArray[np.float32]) -> NDArray[np.float32]:
        smooth = patch[0] + 0.5 * np.roll(patch[0], 1, -1)
        logits = np.stack([smooth, -smooth + patch.mean(), np.float32(0.3) * patch[0] ** 2])
        powers = np.exp(logits - logits.max(axis=0))
        out: NDArray[np.float32] = (powers / powers.sum(axis=0)).astype(np.float32)
        return out

    def close(self) -> None:
        pass


def test_the_networks_of_these_tests_keep_the_protocol() -> None:
    assert isinstance(Neighbourhood(), Forward)


def task_of(layout: Layout, **changes: object) -> Task:
    task = Task(layout, Head(3, IDS), Standardiser((100.0,), (50.0,)), confidence=True, probabilities=True)
    return replace(task, **changes)  # type: ignore[arg-type]


def grid_of(shape: tuple[int, ...]) -> Grid:
    return Grid("raster" if len(shape) == 2 else "volume", shape)


class Made(NamedTuple):
    """Labels (*shape), confidence (*shape) and probabilities (class, *shape) of a scene."""

    labels: NDArray[np.uint16]
    sure: NDArray[np.uint8]
    each: NDArray[np.uint8]


def run(task: Task, source: ArraySource, forward: Neighbourhood) -> Made:
    """Sweep all blocks and put the chunks together; checks that each cell comes once."""
    shape = task.layout.shape
    labels, sure, times = np.full(shape, 999, np.uint16), np.zeros(shape, np.uint8), np.zeros(shape, int)
    each = np.zeros((3, *shape), np.uint8)
    for block in task.layout:
        for sealed in sweep(task, source, forward, block):
            labels[sealed.chunk.slices] = sealed.labels
            assert sealed.confidence is not None
            sure[sealed.chunk.slices] = sealed.confidence
            assert sealed.probabilities is not None
            each[(slice(None), *sealed.chunk.slices)] = sealed.probabilities
            times[sealed.chunk.slices] += 1
    region = np.zeros(shape, int)
    region[task.layout.region.slices] = 1
    np.testing.assert_array_equal(times, region)
    return Made(labels, sure, each)


def scene(layout: Layout, seed: int, holes: bool) -> ArraySource:
    """A scene with blank patches, scattered holes and garbage under them."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 255, (1, *layout.shape)).astype(np.uint8)
    valid = np.ones(layout.shape, bool)
    if holes:
        valid = random.random(layout.shape) > 0.3
        cut = tuple(slice(n // 3, None) for n in layout.shape)
        valid[cut] = False
    return ArraySource(values, grid_of(layout.shape), valid)


@st.composite
def two_cuts(draw: st.DrawFn) -> tuple[Layout, Layout]:
    """One lattice and output, cut in two ways."""
    one = draw(layouts(draw(st.integers(2, 3)), 24))
    sweep_axis = draw(st.integers(0, one.lattice.ndim - 1))
    rows = draw(st.integers(1, 9))
    block = [draw(st.integers(1, n + 2)) for n in one.shape]
    block[sweep_axis] = rows * draw(st.integers(1, 3))
    return one, replace(one, sweep=sweep_axis, rows=rows, block=tuple(block))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(two_cuts(), st.integers(0, 99), st.booleans(), st.sampled_from((1, 2, 5)))
def test_labels_and_probabilities_do_not_depend_on_the_cut_nor_on_the_patches_in_flight(
    cuts: tuple[Layout, Layout], seed: int, holes: bool, ahead: int
) -> None:
    source = scene(cuts[0], seed, holes)
    one = run(task_of(cuts[0]), source, Neighbourhood())
    two = run(task_of(cuts[1]), source, Neighbourhood(ahead))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])
    np.testing.assert_array_equal(one.each, two.each)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(2, 30), st.integers(0, 99), st.booleans())
def test_every_valid_cell_gets_a_class_and_no_other_cell_does(layout: Layout, seed: int, holes: bool) -> None:
    source = scene(layout, seed, holes)
    labels, sure, each = run(task_of(layout), source, Neighbourhood())
    inside = labels[layout.region.slices]
    valid = source.read(layout.region).valid
    assert np.isin(inside[valid], IDS).all()
    assert (inside[~valid] == 255).all()
    assert (sure[layout.region.slices][~valid] == 0).all()
    assert (sure[layout.region.slices][valid] >= 255 // 3).all()
    assert (each[(slice(None), *layout.region.slices)][:, ~valid] == 0).all()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(2, 24, resampled=False), st.integers(0, 99), st.booleans())
def test_labels_are_those_of_a_float64_blend_of_the_whole_scene(layout: Layout, seed: int, holes: bool) -> None:
    layout = replace(layout, region=Box.whole(layout.shape))
    source = scene(layout, seed, holes)
    labels, _, each = run(task_of(layout), source, Neighbourhood())
    blend = plain_blend(layout, source)
    valid = source.read(layout.region).valid
    ordered = np.sort(blend, axis=0)
    clear = (ordered[-1] - ordered[-2] > 1e-5) & valid
    np.testing.assert_array_equal(labels[clear], np.take(IDS, blend.argmax(axis=0))[clear])
    assert np.abs(each[:, valid] - 255 * blend[:, valid]).max(initial=0) < 0.5001


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(2, 24), st.integers(0, 99))
def test_the_largest_probability_is_the_confidence_and_that_of_the_label(layout: Layout, seed: int) -> None:
    made = run(task_of(layout), scene(layout, seed, holes=True), Neighbourhood())
    np.testing.assert_array_equal(made.each.max(axis=0), made.sure)
    for number, label in enumerate(IDS):
        at = made.labels == label
        np.testing.assert_array_equal(made.each[number][at], made.sure[at])


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(2, 24), st.integers(0, 99))
def test_asking_for_probabilities_changes_no_label(layout: Layout, seed: int) -> None:
    source = scene(layout, seed, holes=True)
    with_them = run(task_of(layout), source, Neighbourhood())
    for block in layout:
        for sealed in sweep(task_of(layout, probabilities=False), source, Neighbourhood(), block):
            assert sealed.probabilities is None
            np.testing.assert_array_equal(sealed.labels, with_them.labels[sealed.chunk.slices])


def plain_blend(layout: Layout, source: ArraySource) -> NDArray[np.float64]:
    """The blend as a textbook would do it: float sums over the whole scene, and a map of summed windows."""
    from tiling.window import window

    lattice = layout.lattice
    extent = tuple(axis.starts[-1] + axis.patch for axis in lattice.axes)
    sums, hits = np.zeros((3, *extent)), np.zeros(extent)
    pixels = source.read(Box.whole(layout.shape))
    values = np.where(pixels.valid, (pixels.values.astype(np.float64) - 100) / 50, 0.0)
    for index in itertools.product(*map(range, lattice.counts)):
        box = lattice.box(index)
        part = values[(slice(None), *(slice(a, b) for a, b in zip(box.start, box.stop, strict=True)))]
        patch = np.pad(part, [(0, 0), *((0, p - n) for p, n in zip(box.shape, part.shape[1:], strict=True))], "reflect")
        weight = np.ones(())
        for axis, k in zip(lattice.axes, index, strict=True):
            profile = window(axis.profile, axis.patch)
            profile[: axis.margin if k > 0 else 0] = 0
            profile[axis.patch - (axis.margin if k < len(axis.starts) - 1 else 0) :] = 0
            weight = np.multiply.outer(weight, profile)
        sums[(slice(None), *box.slices)] += weight * Neighbourhood.run(patch.astype(np.float32))
        hits[box.slices] += weight
    whole = tuple(slice(0, n) for n in layout.shape)
    out: NDArray[np.float64] = (sums / hits)[(slice(None), *whole)]
    return out


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(2, 24), st.integers(0, 99), st.booleans(), st.data())
def test_a_resume_from_any_chunk_gives_the_same_chunks(
    layout: Layout, seed: int, holes: bool, data: st.DataObject
) -> None:
    source, task = scene(layout, seed, holes), task_of(layout)
    block = data.draw(st.sampled_from(list(layout)))
    whole = list(sweep(task, source, Neighbourhood(), block))
    first = data.draw(st.integers(0, len(whole)))
    rest = list(sweep(task, source, Neighbourhood(2), block, first))
    assert [part.chunk for part in rest] == [part.chunk for part in whole[first:]]
    for one, two in zip(rest, whole[first:], strict=True):
        np.testing.assert_array_equal(one.labels, two.labels)
        np.testing.assert_array_equal(one.confidence, two.confidence)
        np.testing.assert_array_equal(one.probabilities, two.probabilities)
        assert one.forwards_minimum == two.forwards_minimum


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(two_cuts(), st.integers(0, 99))
def test_the_minimum_of_forwards_counts_each_non_blank_patch_once(cuts: tuple[Layout, Layout], seed: int) -> None:
    source = scene(cuts[0], seed, holes=True)
    for layout in cuts:
        if layout.resampled:
            continue
        forward = Neighbourhood()
        sealed = [part for block in layout for part in sweep(task_of(layout), source, forward, block)]
        wanted = source.read(Box.whole(layout.shape)).valid
        brute = 0
        for index in itertools.product(*layout.lattice.touching(layout.region)):
            brute += bool(wanted[layout.lattice.box(index).intersect(Box.whole(layout.shape)).slices].any())
        assert sum(part.forwards for part in sealed) == forward.seen
        assert sum(part.forwards_minimum for part in sealed) == brute


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(layouts(2, 24), st.integers(0, 99))
def test_labels_inside_an_area_of_interest_are_those_of_the_whole_run(layout: Layout, seed: int) -> None:
    plain = scene(layout, seed, holes=False)
    pixels = plain.read(Box.whole(layout.shape))
    area = np.zeros(layout.shape, bool)
    area[tuple(slice(n // 4, n // 4 + max(1, n // 3)) for n in layout.shape)] = True
    cropped = ArraySource(pixels.values, plain.grid, pixels.valid, wanted=area)
    whole, *_ = run(task_of(layout), plain, Neighbourhood())
    some, *_ = run(task_of(layout), cropped, Neighbourhood())
    inside = np.zeros(layout.shape, bool)
    inside[layout.region.slices] = area[layout.region.slices]
    np.testing.assert_array_equal(some[inside], whole[inside])
    assert (some[layout.region.slices][~area[layout.region.slices]] == 255).all()


def test_an_output_that_is_not_finite_stops_with_its_place() -> None:
    layout = Layout(lattice_of(), (20, 20), Box.whole((20, 20)), 0, (20, 20), 20)
    values = np.full((1, 20, 20), 100.0, np.float32)
    values[0, 13, 13] = 1e38

    class Broken(Neighbourhood):
        @staticmethod
        def run(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            out = np.full((3, *patch.shape[1:]), 1 / 3, np.float32)
            out[:, patch[0] > 1e30] = np.nan
            return out

    with pytest.raises(ModelError, match=r"\(6, 6\)"):
        run(task_of(layout), ArraySource(values, grid_of((20, 20))), Broken())


def lattice_of():  # type: ignore[no-untyped-def]
    from tiling import Lattice

    return Lattice.of((20, 20), (8, 8), (6, 6))
