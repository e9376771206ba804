"""Upsampling: 2 x 2 to 4 x 4 worked by hand, and PyTorch's own functions as oracles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from segflow.errors import ModelError
from segflow.models.networks.layers import pool_with_places
from segflow.models.networks.upsampling import (
    LearnedBilinear,
    Up,
    Upsampling,
    bed_of_nails,
    bilinear,
    bilinear_kernel,
    down,
    fixed_transposed,
    max_unpooling,
    nearest,
    transposed,
)

SQUARE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
WAYS: list[Upsampling] = ["nearest", "bed_of_nails", "bilinear", "max_unpooling", "transposed"]
SHAPES = st.one_of(
    st.tuples(st.integers(1, 2), st.integers(1, 3), *[st.integers(1, 5)] * 2),
    st.tuples(st.integers(1, 2), st.integers(1, 2), *[st.integers(1, 4)] * 3),
)


def up(function: Any, x: Tensor = SQUARE) -> list[Any]:
    listed: list[Any] = function(x[None, None])[0, 0].tolist()
    return listed


def drawn(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_nearest_repeats_every_value() -> None:
    assert up(nearest) == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_bed_of_nails_puts_values_in_the_first_corner_and_zero_elsewhere() -> None:
    assert up(bed_of_nails) == [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]


def test_bilinear_mixes_quarters_and_keeps_the_corners() -> None:
    assert up(bilinear) == [
        [1.0, 1.25, 1.75, 2.0],
        [1.5, 1.75, 2.25, 2.5],
        [2.5, 2.75, 3.25, 3.5],
        [3.0, 3.25, 3.75, 4.0],
    ]


def test_max_unpooling_returns_values_to_the_remembered_places() -> None:
    """The course's example: pool 4 x 4, change the values, put them back where the largest were."""
    x = torch.tensor([[1.0, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]])
    top, places = pool_with_places(x[None, None])
    assert top[0, 0].tolist() == [[5, 6], [7, 8]]
    assert max_unpooling(SQUARE[None, None], places)[0, 0].tolist() == [
        [0, 0, 2, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
        [3, 0, 0, 4],
    ]


def test_transposed_convolution_in_one_dimension_adds_where_stamps_overlap() -> None:
    """(a, b) with the kernel (p, q, r), stride 2: ap, aq, ar + bp, bq, br."""
    a, b, p, q, r = 2.0, 3.0, 5.0, 7.0, 11.0
    found = transposed(torch.tensor([a, b]), torch.tensor([p, q, r]), stride=2)
    assert found.tolist() == [a * p, a * q, a * r + b * p, b * q, b * r]


def test_transposed_convolution_is_the_transpose_of_the_convolutions_matrix() -> None:
    """Stride 2, kernel 3, one cell of padding, 4 cells in: the 4 x 2 matrix of the course, times (a, b)."""
    x, y, z, a, b = 2.0, 3.0, 5.0, 7.0, 11.0
    matrix = torch.tensor([[y, 0], [z, x], [0, y], [0, z]])
    found = transposed(torch.tensor([a, b]), torch.tensor([x, y, z]), stride=2, crop=1)
    assert found.tolist() == (matrix @ torch.tensor([a, b]))[:3].tolist()
    line = torch.tensor([1.0, 2, 3, 4])
    down_again = functional.conv1d(line[None, None], torch.tensor([[[x, y, z]]]), stride=2, padding=1)[0, 0]
    assert down_again.tolist() == (matrix.T @ line).tolist()


def test_a_kernel_of_3_with_stride_2_overlaps_once_along_edges_and_four_times_in_the_middle() -> None:
    """Ones stamped by ones: 2 x 2 becomes 5 x 5, cropped by one cell before: the 4 x 4 of the course."""
    found = transposed(torch.ones(2, 2), torch.ones(3, 3), stride=2)
    assert found.tolist() == [[1, 1, 2, 1, 1], [1, 1, 2, 1, 1], [2, 2, 4, 2, 2], [1, 1, 2, 1, 1], [1, 1, 2, 1, 1]]
    assert found[1:, 1:].shape == (4, 4)


def test_a_3x3_kernel_with_stride_2_sums_its_stamps_value_by_value() -> None:
    kernel = torch.arange(1.0, 10).reshape(3, 3)
    found = transposed(SQUARE, kernel, stride=2)
    expected = torch.zeros(5, 5)
    for row in range(2):
        for column in range(2):
            expected[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += SQUARE[row, column] * kernel
    assert torch.equal(found, expected)
    assert found[2, 2] == 1 * 9 + 2 * 7 + 3 * 3 + 4 * 1  # each stamp's corner that reaches the middle


def test_a_2x2_kernel_with_stride_2_does_not_overlap() -> None:
    found = transposed(SQUARE, torch.tensor([[1.0, 10], [100, 1000]]), stride=2)
    assert found.tolist() == [[1, 10, 2, 20], [100, 1000, 200, 2000], [3, 30, 4, 40], [300, 3000, 400, 4000]]


@given(seed=st.integers(0, 99), stride=st.integers(1, 3), size=st.integers(2, 4), axes=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_transposed_equals_a_loop_of_stamps(seed: int, stride: int, size: int, axes: int) -> None:
    x, kernel = drawn((3,) * axes, seed), drawn((size,) * axes, seed + 1)
    expected = torch.zeros((stride * 2 + size,) * axes)
    for place in torch.cartesian_prod(*[torch.arange(3)] * axes).reshape(-1, axes).tolist():
        expected[tuple(slice(stride * n, stride * n + size) for n in place)] += x[tuple(place)] * kernel
    assert torch.allclose(transposed(x, kernel, stride), expected, atol=1e-5)


@given(shape=SHAPES, seed=st.integers(0, 99), factor=st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_fixed_ways_equal_those_of_torch(shape: tuple[int, ...], seed: int, factor: int) -> None:
    x = drawn(shape, seed)
    axes = len(shape) - 2
    larger = tuple(factor * n for n in shape[2:])
    mode = "bilinear" if axes == 2 else "trilinear"
    assert torch.equal(nearest(x, factor), functional.interpolate(x, size=larger, mode="nearest"))
    expected = functional.interpolate(x, size=larger, mode=mode, align_corners=False)
    assert torch.allclose(bilinear(x, factor), expected, atol=1e-5)
    nail = torch.zeros((1,) * (axes + 2)) + 1
    stamp = functional.conv_transpose2d if axes == 2 else functional.conv_transpose3d
    nails = stamp(x, nail.repeat(shape[1], *(1,) * (axes + 1)), stride=factor, groups=shape[1])
    nails = functional.pad(nails, (0, factor - 1) * axes)
    assert torch.equal(bed_of_nails(x, factor), nails)


@given(shape=SHAPES, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_max_unpooling_equals_that_of_torch(shape: tuple[int, ...], seed: int) -> None:
    x = drawn((*shape[:2], *(2 * n for n in shape[2:])), seed)
    values = drawn(shape, seed + 1)
    if len(shape) == 4:
        _, places = functional.max_pool2d(x, 2, return_indices=True)
        expected = functional.max_unpool2d(values, places, 2)
    else:
        _, places = functional.max_pool3d(x, 2, return_indices=True)
        expected = functional.max_unpool3d(values, places, 2)
    assert torch.equal(max_unpooling(values, pool_with_places(x)[1]), expected)


def test_the_bilinear_kernel_is_the_papers() -> None:
    assert bilinear_kernel(2, 1).tolist() == [0.25, 0.75, 0.75, 0.25]
    assert torch.equal(bilinear_kernel(2, 2), torch.outer(bilinear_kernel(2, 1), bilinear_kernel(2, 1)))
    assert bilinear_kernel(8, 3).shape == (16, 16, 16)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_fixed_transposed_convolution_is_one_with_the_bilinear_kernel(axes: int, factor: int) -> None:
    x = drawn((3,) * axes)
    expected = transposed(x, bilinear_kernel(factor, axes), stride=factor, crop=factor // 2)
    assert torch.allclose(fixed_transposed(x[None, None], factor)[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_what_starts_as_bilinear_equals_it_inside_and_keeps_channels_apart(axes: int) -> None:
    x = drawn((1, 3, *(5,) * axes))
    grown = LearnedBilinear(3, axes)(x)
    inner = (slice(None), slice(None), *(slice(2, -2),) * axes)
    assert torch.allclose(grown[inner], bilinear(x)[inner], atol=1e-6)
    assert torch.allclose(grown, fixed_transposed(x, 2), atol=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("channels", [(4, 4), (4, 2)])
def test_every_way_doubles_the_size_and_changes_the_channels(
    axes: int, way: Upsampling, channels: tuple[int, int]
) -> None:
    fine = drawn((2, channels[1], *(6,) * axes))
    _, places = down(fine, way)
    grown = Up(way, *channels, axes)(drawn((2, channels[0], *(3,) * axes)), places)
    assert grown.shape == (2, channels[1], *(6,) * axes)
    assert (places is not None) == (way == "max_unpooling")


@pytest.mark.parametrize("axes", [2, 3])
def test_the_transposed_step_is_the_layer_of_torch_with_its_keys(axes: int) -> None:
    layer = (torch.nn.ConvTranspose2d if axes == 2 else torch.nn.ConvTranspose3d)(4, 2, 2, stride=2)
    step = Up("transposed", 4, 2, axes)
    step.load_state_dict(layer.state_dict())
    x = drawn((1, 4, *(3,) * axes))
    assert torch.equal(step(x), layer(x))


def test_max_unpooling_without_places_is_refused() -> None:
    with pytest.raises(ModelError, match="no places"):
        Up("max_unpooling", 2, 2, 2)(torch.zeros(1, 2, 2, 2))
