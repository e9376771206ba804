"""Hypothesis strategies for lattices, layouts and blends: for our tests and for those of others.

Needs `hypothesis`, which segflow itself does not.
"""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from tiling.block import Layout
from tiling.box import Box
from tiling.lattice import Lattice, Rule
from tiling.window import PROFILES, Profile

profiles: st.SearchStrategy[Profile] = st.sampled_from(PROFILES)


@st.composite
def lattices(draw: st.DrawFn, ndim: int | None = None, largest: int = 40) -> Lattice:
    """Draw lattices of 1 to 3 axes, with scenes smaller and larger than a patch, overlap 0 and both rules."""
    axes = draw(st.integers(1, 3)) if ndim is None else ndim
    largest = largest if axes < 3 else min(largest, 14)
    shape = [draw(st.integers(1, largest)) for _ in range(axes)]
    patch = [draw(st.integers(1, max(2, largest // 2))) for _ in range(axes)]
    step = [draw(st.integers(max(1, n // 4), n)) for n in patch]
    rule: Rule = draw(st.sampled_from(get_args(Rule)))
    return Lattice.of(shape, patch, step, draw(profiles), rule)


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    """Draw a box inside of an array's shape."""
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    return Box(start, tuple(draw(st.integers(s + 1, n)) for s, n in zip(start, shape, strict=True)))


@st.composite
def layouts(draw: st.DrawFn, ndim: int | None = None, largest: int = 40, resampled: bool | None = None) -> Layout:
    """Draw a lattice with a cut of its output, with previews and other output grids among them."""
    lattice = draw(lattices(ndim, largest))
    shape = lattice.shape
    if draw(st.booleans()) if resampled is None else resampled:
        shape = tuple(max(1, round(n * draw(st.sampled_from((0.4, 1.0, 1.7))))) for n in shape)
    region = Box.whole(shape) if draw(st.booleans()) else draw(boxes(shape))
    sweep = draw(st.integers(0, lattice.ndim - 1))
    rows = draw(st.integers(1, max(1, shape[sweep])))
    block = [draw(st.integers(1, n + 2)) for n in shape]
    block[sweep] = rows * draw(st.integers(1, 3))
    return Layout(lattice, shape, region, sweep, tuple(block), rows)
