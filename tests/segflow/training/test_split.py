"""The split: every scene has one place, folds depend on names and seed alone, and no scored cell is ever trained on."""

from __future__ import annotations

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
from segflow.recipe import Validation
from segflow.training.labelled import LabelIndex, Scene
from segflow.training.sampling import Sampler
from segflow.training.split import deal, fits, grown, held_box, split
from segflow.training.statistics import scene_statistics
from tiling import Box


class Watched(ArraySource):
    """A source in memory that remembers which cells were read."""

    def __init__(self, values: NDArray[Any], grid: Grid) -> None:
        super().__init__(values, grid)
        self.touched: NDArray[np.bool_] = np.zeros(grid.shape, np.bool_)

    def read(self, box: Box) -> Pixels:
        self.touched[box.slices] = True
        return super().read(box)


@settings(max_examples=150)
@given(
    shape=st.one_of(
        st.tuples(*[st.integers(4, 40)] * 2),
        st.tuples(*[st.integers(4, 14)] * 3),
    ),
    data=st.data(),
    margin=st.integers(0, 6),
    seed=st.integers(0, 999),
)
def test_no_cell_within_the_margin_of_a_scored_box_is_read_for_training(
    shape: tuple[int, ...], data: st.DataObject, margin: int, seed: int
) -> None:
    """For any linear map that augmentation may draw, any patch, any scale between model and scene."""
    x, y = (data.draw(st.floats(0, 0.9)) for _ in range(2))
    width, height = data.draw(st.floats(0.05, 1 - x)), data.draw(st.floats(0.05, 1 - y))
    how = Validation(region=(x, y, width, height), margin=margin)
    try:
        (part,) = split(["a"], [shape], how, seed)
    except RecipeError:  # nothing is left
        assert grown(held_box(Box.whole(shape), (x, y, width, height)), margin, Box.whole(shape)) == Box.whole(shape)
        return
    assert part.scored is not None
    rng = np.random.default_rng(seed)
    kind: Kind = "raster" if len(shape) == 2 else "volume"
    image = Watched(rng.normal(size=(1, *shape)).astype(np.float32), Grid(kind, shape))
    label = Watched(np.ones((1, *shape), np.uint8), Grid(kind, shape))
    ratio = tuple(rng.uniform(0.2, 5, len(shape))) if seed % 2 else ()
    scene = Scene(image, label, part.barred, 1.0, ratio)
    sampler = Sampler([scene], LabelIndex((1,)), 1, 0.5, seed)
    scene_statistics(scene, Normalisation(source="scene"), rng)
    for _ in range(8):
        matrix = scene.to_cells(rng.normal(0, 2, (len(shape), len(shape))))
        number, box, cell = sampler.place(rng)
        moved = tuple(np.asarray(cell) + rng.normal(0, 30, len(shape)))
        sampler.read(number, box, moved, np.abs(matrix) @ (rng.integers(1, 60, len(shape)) / 2))
    for source in (image, label):
        assert source.touched.any()
        read = np.argwhere(source.touched)
        low, high = np.asarray(part.scored.start), np.asarray(part.scored.stop) - 1
        apart = np.maximum(np.maximum(low - read, read - high), 0).max(axis=1)
        assert apart.min() > margin


@given(
    count=st.integers(2, 60),
    folds=st.integers(2, 8),
    seed=st.integers(0, 99),
    order=st.randoms(use_true_random=False),
)
def test_every_scene_is_in_one_fold_whatever_the_order_of_files(count: int, folds: int, seed: int, order: Any) -> None:
    names = [f"case{k}" for k in range(count)]
    if folds > count:
        with pytest.raises(RecipeError, match="folds of"):
            deal(names, folds, seed)
        return
    dealt = dict(zip(names, deal(names, folds, seed), strict=True))
    sizes = np.bincount(list(dealt.values()), minlength=folds)
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1
    mixed = list(names)
    order.shuffle(mixed)
    assert dict(zip(mixed, deal(mixed, folds, seed), strict=True)) == dealt
    held: list[str] = []
    for k in range(folds):
        parts = split(names, [(4, 4)] * count, Validation(folds=folds, fold=k), seed)
        held += [name for name, part in zip(names, parts, strict=True) if part.scored is not None]
    assert sorted(held) == sorted(names)
    for k, part in enumerate(split(names, [(4, 4)] * count, Validation(folds=folds, fold=0), seed)):
        assert part.learned == (part.scored is None)
        assert (part.scored is not None) == (dealt[names[k]] == 0)


def test_folds_change_with_the_seed() -> None:
    names = [f"case{k}" for k in range(40)]
    assert deal(names, 4, 0) != deal(names, 4, 1)


def test_scenes_are_held_back_by_name_or_by_folder() -> None:
    names = ["tile6/part1", "tile6/part2", "tile7/part1"]
    parts = split(names, [(4, 4)] * 3, Validation(scenes=("tile6/*",)), 0)
    assert [part.learned for part in parts] == [False, False, True]
    assert [part.scored for part in parts] == [Box.whole((4, 4)), Box.whole((4, 4)), None]
    assert fits("tile6/part1", "part1")
    assert not fits("tile6/part1", "part")


def test_a_region_is_held_back_in_every_scene_with_its_margin() -> None:
    parts = split(["a", "b"], [(100, 50), (10, 200)], Validation(region=(0.5, 0, 0.5, 1), margin=4), 0)
    assert [part.scored for part in parts] == [Box((0, 25), (100, 50)), Box((0, 100), (10, 200))]
    assert [part.barred for part in parts] == [(Box((0, 21), (100, 50)),), (Box((0, 96), (10, 200)),)]
    assert all(part.learned for part in parts)


def test_a_scene_that_the_margin_swallows_is_not_trained_on_but_scored() -> None:
    small, large = split(["a", "b"], [(10, 10), (10, 100)], Validation(region=(0.5, 0, 0.5, 1), margin=8), 0)
    assert (small.learned, small.scored) == (False, Box((0, 5), (10, 10)))
    assert large.learned


def test_without_validation_all_is_trained_on_and_nothing_scored() -> None:
    assert all(p.learned and p.scored is None for p in split(["a", "b"], [(4, 4)] * 2, Validation(), 0))


def test_a_scene_may_lack_classes_that_others_have() -> None:
    grid = Grid("raster", (4, 4))

    def scene(value: int) -> Scene:
        return Scene(
            ArraySource(np.ones((1, 4, 4), np.uint8), grid), ArraySource(np.full((1, 4, 4), value, np.uint8), grid)
        )

    index = LabelIndex((1, 2), names=("wood", "town"))
    assert Sampler([scene(1), scene(2)], index, 2, 0.5, 0).counts.tolist() == [[16, 0], [0, 16]]
    with pytest.raises(InputError, match="class town"):
        Sampler([scene(1), scene(1)], index, 2, 0.5, 0)
