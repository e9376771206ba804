"""Max unpooling in its exportable form against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segflow.models.networks.layers import pool_with_places, unpool

SHAPES = st.one_of(
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
)


def oracle(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pool and unpool by PyTorch's indices."""
    if x.ndim == 4:
        top, places = functional.max_pool2d(x, 2, return_indices=True)
        return top, functional.max_unpool2d(top, places, 2)
    top, places = functional.max_pool3d(x, 2, return_indices=True)
    return top, functional.max_unpool3d(top, places, 2)


@settings(deadline=None, max_examples=60)
@given(shape=SHAPES, seed=st.integers(0, 2**31), levels=st.sampled_from([0, 1, 3]))
def test_unpooling_equals_torch_to_the_bit_ties_included(shape: tuple[int, ...], seed: int, levels: int) -> None:
    """levels: 0 draws reals, 1 and 3 draw so few values that windows are full of ties (all equal, or zeros)."""
    rng = torch.Generator().manual_seed(seed)
    doubled = (*shape[:2], *(2 * n for n in shape[2:]))
    x = torch.randn(doubled, generator=rng)
    if levels:
        x = torch.randint(0, levels, doubled, generator=rng).float()
    top, expected = oracle(x)
    mine, places = pool_with_places(x)
    assert torch.equal(mine, top)
    assert torch.equal(unpool(mine, places), expected)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_values_changed_between_pooling_and_unpooling_go_to_the_same_places(dimensions: int) -> None:
    x = torch.randn(1, 2, *(6,) * dimensions)
    top, places = pool_with_places(x)
    if dimensions == 2:
        _, indices = functional.max_pool2d(x, 2, return_indices=True)
        expected = functional.max_unpool2d(top * 3 - 1, indices, 2)
    else:
        _, indices = functional.max_pool3d(x, 2, return_indices=True)
        expected = functional.max_unpool3d(top * 3 - 1, indices, 2)
    assert torch.equal(unpool(top * 3 - 1, places), expected)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_gradients_equal_those_of_torch(dimensions: int) -> None:
    x = torch.randn(1, 1, *(4,) * dimensions, requires_grad=True)
    weight = torch.randn(1, 1, *(4,) * dimensions)
    (mine,) = torch.autograd.grad((unpool(*pool_with_places(x)) * weight).sum(), x)
    (theirs,) = torch.autograd.grad((oracle(x)[1] * weight).sum(), x)
    assert torch.equal(mine, theirs)
