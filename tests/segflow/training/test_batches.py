"""Batches: a patch depends on the seed, the step and its own number alone, however it is made."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segflow.errors import InputError, RecipeError
from segflow.grid import Grid, Kind
from segflow.io.array import ArraySource
from segflow.io.source import Pixels
from segflow.models.card import Normalisation
from segflow.recipe import Augment
from segflow.recipe.train import Border
from segflow.training.batches import Batch, Batches
from segflow.training.border import border_map
from segflow.training.labelled import IGNORED, LabelIndex, Scene
from segflow.training.sampling import Sampler
from segflow.training.statistics import scene_statistics
from tiling.box import Box


def scene(shape: tuple[int, ...], seed: int, name: str) -> Scene:
    """Smooth values with a tenth of the cells not valid, and blocks of three classes."""
    rng = np.random.default_rng(seed)
    kind: Kind = "raster" if len(shape) == 2 else "volume"
    values = rng.integers(1, 255, (3 if kind == "raster" else 1, *shape)).astype(np.uint8)
    labels = np.kron(rng.integers(0, 3, tuple(-(-n // 6) for n in shape)), np.ones((6,) * len(shape), np.uint8))
    cut = labels[tuple(slice(n) for n in shape)].astype(np.uint8)
    grid = Grid(kind, shape)
    return Scene(ArraySource(values, grid, rng.random(shape) > 0.1, name=name), ArraySource(cut[None], grid))


def batches(preset: Any = "aerial", **changes: Any) -> Batches:
    volume = preset == "volume"
    shapes = [(30, 28, 26), (24, 33, 20)] if volume else [(70, 60), (50, 90)]
    scenes = [scene(shape, seed, f"scene{seed}") for seed, shape in enumerate(shapes)]
    rng = np.random.default_rng(0)
    made = Batches(
        sampler=Sampler(scenes, LabelIndex((0, 1, 2)), 3, 0.5, 0),
        statistics=tuple(scene_statistics(one, Normalisation(source="scene"), rng) for one in scenes),
        patch=(10, 12, 8) if volume else (24, 20),
        batch=4,
        augment=Augment(preset=preset, elastic=1.0, elastic_spacing=8.0),
        zoom=(0.8, 1.25),
        seed=5,
    )
    return replace(made, **changes)


def same(one: Batch, two: Batch) -> bool:
    borders = [b for b in (one.border, two.border) if b is not None]
    return (
        torch.equal(one.values, two.values)
        and torch.equal(one.labels, two.labels)
        and len(borders) != 1
        and (not borders or torch.equal(*borders))
        and one.scenes == two.scenes
    )


@pytest.mark.parametrize("preset", ["none", "aerial", "volume", "street"])
def test_a_batch_is_normalised_labelled_and_named(preset: Any) -> None:
    made = batches(preset)
    batch = made.make(3)
    assert batch.values.shape == (4, 1 if preset == "volume" else 3, *made.patch)
    assert batch.values.dtype == torch.float32
    assert batch.labels.shape == (4, *made.patch)
    assert batch.labels.dtype == torch.int64
    assert set(batch.labels.unique().tolist()) <= {IGNORED, 0, 1, 2}
    assert torch.isfinite(batch.values).all()
    assert not batch.values.movedim(1, -1)[
        batch.labels == IGNORED
    ].any()  # all valid cells of these scenes are labelled
    assert set(batch.scenes) <= {"scene0", "scene1"}
    assert batch.border is None


@pytest.mark.parametrize("preset", ["aerial", "volume"])
@pytest.mark.parametrize("workers", [1, 3])
def test_threads_and_where_a_run_starts_change_no_bit(preset: Any, workers: int) -> None:
    made = batches(preset, border=Border(sigma=2.0))
    straight = list(batches(preset, border=Border(sigma=2.0), workers=workers).steps(0, 6))
    assert len(straight) == 6
    assert all(same(batch, made.make(step)) for step, batch in enumerate(straight))
    resumed = list(made.steps(4, 6))
    assert all(same(*pair) for pair in zip(resumed, straight[4:], strict=True))


@settings(max_examples=20)
@given(world=st.sampled_from([1, 2, 4]), step=st.integers(0, 1000))
def test_devices_together_have_the_batch_of_one(world: int, step: int) -> None:
    made = batches()
    whole = made.make(step)
    parts = [made.make(step, rank, world) for rank in range(world)]
    for number in range(4):
        part, place = parts[number % world], number // world
        assert torch.equal(part.values[place], whole.values[number])
        assert torch.equal(part.labels[place], whole.labels[number])
        assert part.scenes[place] == whole.scenes[number]
    assert all(len(part.values) == 4 // world for part in parts)


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(RecipeError, match="4 patches"):
        next(iter(batches().steps(0, 1, rank=0, world=3)))


def test_steps_seeds_and_patches_differ() -> None:
    made = batches()
    assert not torch.equal(made.make(0).values, made.make(1).values)
    assert not torch.equal(made.make(0).values, batches(seed=6).make(0).values)
    values = made.make(0).values
    assert not torch.equal(values[0], values[1])


def test_the_border_map_is_that_of_the_labels_of_each_patch() -> None:
    border = Border(weight=3.0, sigma=2.0)
    batch = batches(border=border).make(0)
    assert batch.border is not None
    assert batch.border.any()
    for labels, found in zip(batch.labels, batch.border, strict=True):
        assert np.array_equal(found.numpy(), border_map(labels.numpy(), border))


def test_a_batch_moves_as_a_tensor_does() -> None:
    batch = batches(border=Border()).make(0).to("meta", non_blocking=True)
    assert batch.border is not None
    assert {batch.values.device.type, batch.labels.device.type, batch.border.device.type} == {"meta"}
    assert len(batch.scenes) == 4


class Counting(ArraySource):
    """A source that counts what was read, and breaks after so many reads."""

    reads = 0
    breaks_after = 10**9

    def read(self, box: Box) -> Pixels:
        self.reads += 1
        if self.reads > self.breaks_after:
            raise InputError("scene0 is broken", "a whole file", "copy it again")
        return super().read(box)


def counted() -> tuple[Batches, Counting]:
    made = batches("none")
    first = made.sampler.scenes[0]
    whole = first.image.read(Box.whole(first.image.grid.shape))
    source = Counting(whole.values, first.image.grid, whole.valid, name="scene0")
    one = Scene(source, first.label)
    sampler = Sampler([one], LabelIndex((0, 1, 2)), 3, 0.5, 0)
    return replace(made, sampler=sampler, statistics=made.statistics[:1]), source


def test_no_more_than_two_batches_are_made_ahead() -> None:
    made, source = counted()
    before = source.reads
    taken = made.steps(0, 50)
    next(taken)
    taken.close()
    assert source.reads - before <= 3 * made.batch


def test_a_file_that_breaks_while_training_is_told_of_and_ends_the_threads() -> None:
    made, source = counted()
    source.breaks_after = source.reads + 9
    threads = threading.active_count()
    with pytest.raises(InputError, match="broken"):
        list(made.steps(0, 50))
    assert threading.active_count() == threads


def test_torch_keeps_its_threads_outside_of_the_pool() -> None:
    before = torch.get_num_threads()
    list(batches().steps(0, 2))
    assert torch.get_num_threads() == before
