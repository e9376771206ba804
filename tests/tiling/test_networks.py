"""Tiled networks against the same network on the whole image, and against MONAI's sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from torch import nn

from tiling import Lattice, Profile, Store, scale_of, window

Sums = Callable[..., Any]
SCALE = scale_of("int32", 1)
NETS = {2: (nn.Conv2d, nn.MaxPool2d), 3: (nn.Conv3d, nn.MaxPool3d)}


class Strided(nn.Module):
    """Conv, pool, conv, upsample, conv: total stride 2, receptive radius 5 (1 + 1 + 2 + 1, and the pooling's phase)."""

    RADIUS = 5
    STRIDE = 2

    def __init__(self, ndim: int, padding: str, classes: int = 4) -> None:
        super().__init__()
        conv, pool = NETS[ndim]
        torch.manual_seed(ndim)
        self.first = conv(1, 6, 3, padding=1, padding_mode=padding)
        self.pool = pool(2)
        self.inner = conv(6, 6, 3, padding=1, padding_mode=padding)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = conv(6, classes, 3, padding=1, padding_mode=padding)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2 if ndim == 3 else 0.4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities (batch, class, *axes)."""
        x = torch.relu(self.first(x))
        x = self.up(torch.relu(self.inner(self.pool(x))))
        return torch.softmax(self.last(x), dim=1)


def run(network: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(image)[None, None])[0].numpy()


def padded(image: np.ndarray, lattice: Lattice, mode: str) -> np.ndarray:
    """The scene with what the last patches need beyond its end."""
    beyond = [(0, axis.starts[-1] + axis.patch - axis.size) for axis in lattice.axes]
    beyond = [(0, n + (axis.size + n) % 2) for (_, n), axis in zip(beyond, lattice.axes, strict=True)]
    return np.pad(image, beyond, mode=mode)  # type: ignore[call-overload]


def largest_difference(whole: Sums, lattice: Lattice, network: nn.Module, image: np.ndarray, mode: str) -> float:
    scene = padded(image, lattice, mode)
    sums = whole(lattice, lambda index: run(network, scene[lattice.box(index).slices]), 4, SCALE)
    expected = run(network, scene)[(slice(None), *(slice(0, n) for n in lattice.shape))]
    return float(np.abs(sums / SCALE - expected).max())


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small forwards on a machine that others use are many times slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@given(
    st.lists(st.integers(1, 70), min_size=2, max_size=2),
    st.lists(st.sampled_from(((16, 6), (24, 14), (32, 8), (32, 22), (30, 20))), min_size=2, max_size=2),
    st.sampled_from(("zeros", "reflect")),
    st.sampled_from(("constant", "edge", "reflect")),
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_crop_equals_the_whole_image_where_the_margin_holds_the_receptive_field(
    whole: Sums, shape: list[int], tiles: list[tuple[int, int]], inside: str, beyond: str
) -> None:
    lattice = Lattice.of(shape, [patch for patch, _ in tiles], [step for _, step in tiles], "crop")
    assert all(axis.margin >= Strided.RADIUS for axis in lattice.axes)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert largest_difference(whole, lattice, Strided(2, inside), image, beyond) < 2e-6


def test_crop_equals_the_whole_volume_too(whole: Sums) -> None:
    lattice = Lattice.of((37, 20, 11), (20, 16, 18), (10, 6, 8), "crop")
    image = np.random.default_rng(0).normal(size=lattice.shape).astype(np.float32)
    assert largest_difference(whole, lattice, Strided(3, "zeros"), image, "reflect") < 2e-6


@pytest.mark.parametrize(("patch", "step"), [(16, 8), (26, 15)])
def test_a_small_margin_and_steps_off_the_stride_would_be_seen(whole: Sums, patch: int, step: int) -> None:
    image = np.random.default_rng(0).normal(size=(61, 70)).astype(np.float32)
    lattice = Lattice.of(image.shape, (patch, patch), (step, step), "crop")
    assert largest_difference(whole, lattice, Strided(2, "zeros"), image, "reflect") > 1e-3


@pytest.mark.parametrize("profile", ["constant", "gaussian", "hann"])
@pytest.mark.parametrize(
    ("shape", "patch", "overlap"),
    [
        ((140, 133), (48, 64), 0.5),
        ((96, 130), (96, 32), 0.25),
        ((81, 122), (40, 40), 0.0),
        ((36, 41, 44), (20, 16, 24), 0.5),
    ],
)
def test_blends_are_monais(
    whole: Sums, profile: Profile, shape: tuple[int, ...], patch: tuple[int, ...], overlap: float
) -> None:
    network = Strided(len(shape), "zeros").eval()
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    # a weight map of one's own is taken as it is; MONAI's own gaussian is clamped to 1e-3
    weights = np.ones(())
    for n in patch:
        weights = weights[..., None] * window(profile, n)
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(image)[None, None].double(),
            patch,
            1,
            lambda x: network(x.float()).double(),
            overlap=overlap,
            roi_weight_map=torch.from_numpy(weights),
        )[0].numpy()
    lattice = Lattice.of(shape, patch, [int(n * (1 - overlap)) for n in patch], profile, "shifted")
    stores: tuple[Store, ...] = ("int32", "int16")
    for store in stores:
        scale = scale_of(store, lattice.most)
        tolerance = 1.5 * lattice.most / scale + 1e-6
        sums = whole(lattice, lambda index: run(network, image[lattice.box(index).slices]), 4, scale, store)
        assert np.abs(sums / scale - theirs).max() <= tolerance
        agree = sums.argmax(axis=0) == theirs.argmax(axis=0)
        second, best = np.sort(theirs, axis=0)[-2:]
        assert agree[best - second > 2 * tolerance].all()
        assert agree.mean() >= (0.9999 if store == "int32" else 0.999)
    assert len(np.unique(theirs.argmax(axis=0))) == 4
