"""Sampling: what is held back is never read, classes are balanced, labels are mapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segflow.errors import InputError, RecipeError
from segflow.grid import Grid, Kind
from segflow.io.array import ArraySource
from segflow.io.source import Pixels
from segflow.models.card import Normalisation
from segflow.recipe import Augment
from segflow.training.batches import Batches
from segflow.training.labelled import IGNORED, LabelIndex, Scene, free_boxes
from segflow.training.sampling import Sampler
from segflow.training.split import held_box
from segflow.training.statistics import scene_statistics
from tiling.box import Box


@dataclass
class Watched(ArraySource):
    """A source in memory that remembers which cells were read."""

    def __init__(self, values: NDArray[Any], grid: Grid) -> None:
        super().__init__(values, grid)
        self.touched: NDArray[np.bool_] = np.zeros(grid.shape, np.bool_)

    touched: NDArray[np.bool_] = field(init=False)

    def read(self, box: Box) -> Pixels:
        self.touched[box.slices] = True
        return super().read(box)


def watched(shape: tuple[int, ...], seed: int, held: Sequence[Box], classes: int = 3) -> Scene:
    """A scene of noise with labels, whose held cells are NaN: a single one that slips through shows."""
    rng = np.random.default_rng(seed)
    kind: Kind = "raster" if len(shape) == 2 else "volume"
    values = rng.normal(size=(2, *shape)).astype(np.float32)
    labels = rng.integers(0, classes, (1, *shape)).astype(np.uint8)
    return Scene(Watched(values, Grid(kind, shape)), Watched(labels, Grid(kind, shape)), tuple(held))


@st.composite
def shapes_and_holes(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Box]]:
    axes = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.lists(st.integers(3, 24 if axes == 2 else 10), min_size=axes, max_size=axes)))
    holes = []
    for _ in range(draw(st.integers(0, 2))):
        start = tuple(draw(st.integers(0, n - 2)) for n in shape)
        stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
        if stop != shape or any(start):
            holes.append(Box(start, stop))
    return shape, holes


@settings(deadline=None, max_examples=60)
@given(case=shapes_and_holes(), seed=st.integers(0, 1000), augment=st.sampled_from(["none", "aerial", "volume"]))
def test_no_cell_that_is_held_back_is_ever_read(
    case: tuple[tuple[int, ...], list[Box]], seed: int, augment: Any
) -> None:
    shape, holes = case
    scene = watched(shape, seed, holes)
    rng = np.random.default_rng(seed)
    scene = replace(scene, ratio=tuple(rng.uniform(0.3, 3.0, len(shape))) if seed % 2 else ())
    try:
        sampler = Sampler([scene], LabelIndex((0, 1, 2)), 3, 0.5, seed)
    except InputError:  # nothing, or not every class, is left
        return
    statistics = scene_statistics(scene, Normalisation(source="scene"), np.random.default_rng(0))
    patch = (4,) * len(shape)
    batches = Batches(
        sampler=sampler,
        statistics=(statistics,),
        patch=patch,
        batch=3,
        augment=Augment(preset=augment, elastic=2.0, elastic_spacing=2.0),
        zoom=(0.5, 2.0),
        seed=seed,
    )
    batch = batches.make(0)
    assert batch.values.shape == (3, 2, *patch)
    for source in (scene.image, scene.label):
        assert isinstance(source, Watched)
        for hole in holes:
            assert not source.touched[hole.slices].any()


@settings(deadline=None, max_examples=100)
@given(case=shapes_and_holes())
def test_free_boxes_cover_all_that_is_free_and_nothing_else(case: tuple[tuple[int, ...], list[Box]]) -> None:
    shape, holes = case
    free = np.ones(shape, np.bool_)
    for hole in holes:
        free[hole.slices] = False
    covered = np.zeros(shape, np.bool_)
    for box in free_boxes(shape, holes):
        covered[box.slices] = True
    assert np.array_equal(covered, free)


@settings(deadline=None, max_examples=100)
@given(
    shape=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    x=st.floats(0, 0.99),
    width=st.floats(0.01, 1),
)
def test_a_held_region_is_never_smaller_than_its_fractions(shape: tuple[int, int], x: float, width: float) -> None:
    width = min(width, 1 - x)
    box = held_box(Box.whole(shape), (x, 0.0, width, 1.0))
    assert box.start[1] <= x * shape[1] + 1e-5
    assert box.stop[1] >= (x + width) * shape[1] - 1e-5
    assert (box.start[0], box.stop[0]) == (0, shape[0])


def test_the_eastern_two_fifths_start_at_the_column_that_the_card_names() -> None:
    assert held_box(Box.whole((443, 489)), (0.6, 0.0, 0.4, 1.0)) == Box((0, 293), (443, 489))


@pytest.mark.parametrize("region", [(0.5, 0.0, 0.6, 1.0), (-0.1, 0, 0.5, 0.5), (0, 0, 0, 1)])
def test_a_region_that_leaves_the_scene_is_refused(region: tuple[float, float, float, float]) -> None:
    with pytest.raises(RecipeError, match="region"):
        held_box(Box.whole((10, 10)), region)


def rare(share: int = 400) -> Scene:
    labels = np.zeros((1, 80, 80), np.uint8)
    labels.reshape(-1)[::share] = 1
    values = np.zeros((1, 80, 80), np.float32)
    return Scene(ArraySource(values, Grid("raster", (80, 80))), ArraySource(labels, Grid("raster", (80, 80))))


@pytest.mark.parametrize(("balance", "low", "high"), [(0.0, 0.0, 0.02), (1.0, 0.4, 0.6)])
def test_balance_decides_how_often_a_rare_class_is_drawn(balance: float, low: float, high: float) -> None:
    scene = rare()
    sampler = Sampler([scene], LabelIndex((0, 1)), 2, balance, 0)
    rng = np.random.default_rng(0)
    cells = [sampler.place(rng)[2] for _ in range(400)]
    labels = scene.label.read(Box.whole((80, 80))).values[0]
    share = np.mean([labels[int(y), int(x)] for y, x in cells])
    assert low <= share <= high


def test_places_are_uniform_over_a_class() -> None:
    """Every cell of a class is as likely as another: quarters of the scene are drawn equally often."""
    sampler = Sampler([rare(2)], LabelIndex((0, 1)), 2, 0.0, 3)
    rng = np.random.default_rng(1)
    quarters = np.zeros(4)
    for _ in range(4000):
        y, x = sampler.place(rng)[2]
        quarters[2 * (y >= 40) + (x >= 40)] += 1
    assert np.all(np.abs(quarters - 1000) < 150)


def test_labels_are_mapped_as_in_a_run_and_every_other_id_is_ignored() -> None:
    index = LabelIndex((1, 3), {2: 3, 1: 9}, (9,))
    values = np.array([[[0, 1, 2, 3, 7, 300]]], np.int32)
    valid = np.array([[True, True, True, True, True, False]])
    assert index(Pixels(values, valid)).tolist() == [[IGNORED, IGNORED, 1, 1, IGNORED, IGNORED]]
    floats = np.array([[[1.0, np.nan, -3.0, 1e9]]], np.float32)
    assert LabelIndex((1,))(Pixels(floats, np.ones((1, 4), np.bool_))).tolist() == [[0, -1, -1, -1]]


def test_a_scene_without_any_label_is_refused() -> None:
    with pytest.raises(InputError, match="no training cell"):
        Sampler([rare()], LabelIndex((5, 6)), 2, 0.5, 0)


def test_labels_on_another_grid_are_refused() -> None:
    one = rare()
    two = ArraySource(np.zeros((1, 8, 8), np.uint8), Grid("raster", (8, 8)))
    with pytest.raises(InputError, match="labels"):
        Scene(one.image, two)


@pytest.mark.parametrize("over", ["valid", "nonzero"])
def test_scene_statistics_equal_numpys_over_what_is_free(over: Any) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4, (2, 40, 30)).astype(np.uint8)
    grid = Grid("raster", (40, 30))
    scene = Scene(ArraySource(values, grid), ArraySource(values[:1], grid), (Box((0, 20), (40, 30)),))
    found = scene_statistics(scene, Normalisation(source="scene", over=over), rng)
    free = values[:, :, :20].astype(np.float64)
    for channel in range(2):
        cells = free[channel] if over == "valid" else free[channel][free[channel] != 0]
        assert found.mean[channel] == pytest.approx(cells.mean(), abs=1e-5)
        assert found.deviation[channel] == pytest.approx(cells.std(), abs=1e-5)
