"""Blending on a device gives the bits of blending in numpy; the device of these tests is the CPU, the code the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segflow.backends import ForwardSettings
from segflow.backends.device_band import DeviceBand, device_band
from segflow.backends.network import check_network
from segflow.backends.protocol import BlendingForward
from segflow.backends.torch_forward import TorchForward
from segflow.errors import ModelError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.normalise import Standardiser
from segflow.sweep import Head, Task, sweep
from tiling import Accumulator, Box, Layout, NumpyBand, Store, argmax, to_byte
from tiling.blend import Labelling
from tiling.strategies import layouts

CPU = torch.device("cpu")
HEADS = (
    Head(3, (3, 1, 7)),
    Head(1, (0, 5), threshold=0.4),
    Head(3, (0, 1, 2, 3), threshold=0.3, regions=((0, 1), (1, 2), (2, 3))),
    Head(3, (3, 1, 7), logits=True),
)


def two_bands(shape: tuple[int, ...], sweep: int, depth: int, store: Store) -> tuple[NumpyBand, DeviceBand]:
    box = Box.whole(shape)
    return NumpyBand(3, box, sweep, depth, store), DeviceBand(3, box, sweep, depth, store, CPU)


@settings(max_examples=40)
@given(st.integers(2, 3), st.sampled_from(["int32", "int16"]), st.integers(0, 2**32 - 1))
def test_a_band_on_a_device_has_the_sums_and_labels_of_the_one_in_numpy(ndim: int, store: Store, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(int(n) for n in random.integers(6, 16, ndim))
    sweep, side = int(random.integers(ndim)), int(random.integers(2, 7))
    depth = side + int(random.integers(0, 3))
    ours, device = two_bands(shape, sweep, depth, store)
    assert isinstance(device, Labelling)
    weight = random.integers(0, 5000, (side,) * ndim).astype(np.float32)
    for first in range(0, shape[sweep] - 1):
        for band in (ours, device):
            band.drop(first)
        for _ in range(3):
            start = [int(random.integers(-1, n - 1)) for n in shape]
            start[sweep] = first - int(random.integers(0, 2))
            where = Box(tuple(start), tuple(n + side for n in start))
            values = random.random((3, *where.shape), np.float32) * np.float32(1.0001) - np.float32(0.00005)
            values[:, ::2] = np.round(values[:, ::2], 1)  # ties
            ours.add(values, weight, where)
            device.add(torch.from_numpy(values), weight, where)
        assert ours.box == device.box
        low, high = ours.box.start[sweep], ours.box.stop[sweep]
        expected = ours.sums(low, high)
        assert np.array_equal(device.sums(low, high), expected)
        labels = argmax(expected, (4, 2, 9))
        found = device.largest(low, high, (4, 2, 9), True)
        assert np.array_equal(found.labels, labels.labels)
        assert found.confidence.tobytes() == np.ascontiguousarray(labels.confidence).tobytes()
        assert np.array_equal(device.largest(low, high, (4, 2, 9), False).labels, labels.labels)
        for scale in (2**24, 32766, 3 * 5000):
            assert np.array_equal(device.bytes(low, high, scale), to_byte(expected.astype(np.float32), scale))


def test_both_bands_refuse_the_same_in_the_same_words() -> None:
    ours, device = two_bands((8, 8), 0, 4, "int32")
    good, where = np.full((3, 4, 4), 0.5, np.float32), Box((0, 0), (4, 4))
    weight = np.ones((4, 4), np.float32)
    cases: list[tuple[NDArray[np.float32], Box, type[Exception]]] = [
        (np.where(np.arange(4) == 2, np.float32(np.nan), good), where, FloatingPointError),
        (np.where(np.arange(4) == 2, np.float32(-np.inf), good), where, FloatingPointError),
        (good + np.float32(0.6), where, ValueError),
        (good[:2], where, ValueError),
        (good, Box((2, 0), (6, 4)), IndexError),
    ]
    for values, box, kind in cases:
        with pytest.raises(kind) as one:
            ours.add(values, weight, box)
        with pytest.raises(kind) as two:
            device.add(torch.from_numpy(np.ascontiguousarray(values)), weight, box)
        assert str(one.value) == str(two.value)
    for start, stop in ((-1, 2), (2, 6), (3, 3)):
        with pytest.raises(IndexError):
            device.largest(start, stop, (0, 1, 2), False)


def test_a_weight_is_brought_to_the_device_once_for_all_patches_that_share_it() -> None:
    device = DeviceBand(1, Box.whole((4, 400)), 0, 4, "int32", CPU)
    weights = [np.full((4, 4), n, np.float32) for n in range(100)]
    for number, weight in enumerate(weights * 2):
        where = Box((0, 4 * (number % 100)), (4, 4 * (number % 100) + 4))
        device.add(torch.ones((1, 4, 4)), weight, where)
    assert len(device._weights) <= 64
    assert np.array_equal(device.sums(0, 4)[0, 0], np.repeat(2 * np.arange(100), 4))


@dataclass
class Neighbourhood:
    """A network in numpy whose output depends on the whole patch; its results lie on a device if asked for."""

    channels: int
    blends: bool
    facts: Mapping[str, str] = ()  # type: ignore[assignment]
    in_flight: int = 1

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for patch in patches:
            logits = np.stack([np.roll(patch[0], k, -1) + k * patch.mean() for k in range(self.channels)])
            yield (1 / (1 + np.exp(-logits))).astype(np.float32)

    def stream_on_device(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[Any]:
        return (torch.from_numpy(result) for result in self.stream(patches))

    def band(self, channels: int, box: Box, sweep: int, depth: int, store: Store) -> Accumulator | None:
        return device_band(channels, box, sweep, depth, store, CPU) if self.blends else None

    def close(self) -> None:
        pass


@given(
    st.integers(2, 3).flatmap(lambda n: layouts(n, 24)),
    st.sampled_from(HEADS),
    st.sampled_from(["int32", "int16"]),
    st.booleans(),
    st.data(),
)
def test_a_sweep_that_blends_on_a_device_gives_the_same_labels_confidence_and_probabilities(
    layout: Layout, head: Head, store: Store, confidence: bool, data: st.DataObject
) -> None:
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = random.integers(0, 255, (1, *layout.shape)).astype(np.uint8)
    grid = Grid("raster" if len(layout.shape) == 2 else "volume", layout.shape)
    source = ArraySource(values, grid, random.random(layout.shape) > 0.1)
    task = Task(layout, head, Standardiser((100.0,), (50.0,)), store=store, confidence=confidence)
    task = replace(task, probabilities=not confidence)
    for block in layout:
        found = [
            [
                (
                    part.chunk,
                    part.labels.tobytes(),
                    None if part.confidence is None else part.confidence.tobytes(),
                    None if part.probabilities is None else part.probabilities.tobytes(),
                )
                for part in sweep(task, source, Neighbourhood(head.channels, blends), block)
            ]
            for blends in (False, True)
        ]
        assert found[0] == found[1]


def forwards(make_model: Any, batch: int = 3) -> tuple[Any, TorchForward]:
    model = make_model()
    checked = check_network(model.network(), model.card, model.card.patch)
    return model, TorchForward(checked, ForwardSettings("torch", "cpu", "f32", batch, model.card.patch), batched=True)


def test_results_on_the_device_are_those_of_the_host_and_stay_when_the_next_batch_runs(
    make_model: Any, make_patches: Any
) -> None:
    model, forward = forwards(make_model)
    patches = make_patches(model, 7)
    patches[4][1, 3, 5] = np.inf
    host = [result.copy() for result in forward.stream(patches)]
    device = [result.numpy().copy() for result in forward.stream_on_device(patches)]
    assert [a.tobytes() for a in device] == [a.tobytes() for a in host]
    assert np.isnan(device[4][:, 3, 5]).all()


def test_only_batches_blend_on_the_device(make_model: Any) -> None:
    model, batched = forwards(make_model)
    single = TorchForward(
        check_network(model.network(), model.card, model.card.patch),
        ForwardSettings("torch", "cpu", "f32", 2, model.card.patch),
    )
    where = (5, Box.whole((64, 64)), 0, 64, "int32")
    assert isinstance(batched, BlendingForward)
    assert isinstance(batched.band(*where), DeviceBand)  # type: ignore[arg-type]
    assert single.band(*where) is None  # type: ignore[arg-type]


def test_a_sweep_names_the_place_of_a_value_that_is_not_finite_on_the_device_too(make_model: Any) -> None:
    _model, forward = forwards(make_model)
    values = np.random.default_rng(0).random((3, 96, 64), np.float32)
    values[0, 80, 10] = np.inf
    from tiling import Lattice

    lattice = Lattice.of((96, 64), (64, 64), (32, 32))
    layout = Layout(lattice, (96, 64), Box.whole((96, 64)), 0, (96, 64), 96)
    source = ArraySource(values, Grid("raster", (96, 64)), np.ones((96, 64), np.bool_))
    task = Task(layout, Head(5, (0, 1, 2, 3, 4)), Standardiser((0.0,) * 3, (1.0,) * 3))
    with pytest.raises(ModelError, match=r"\(32, 0\)"):
        list(sweep(task, source, forward, (0, 0)))
