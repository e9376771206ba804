"""Label maps to compare, made at random, and how they are read in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from segflow.metrics.windows import Pair
from tiling import Box

Maps = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def blobs(shape: tuple[int, ...], classes: int, seed: int, smooth: float = 2.0) -> NDArray[np.uint8]:
    """Smooth regions of some classes."""
    noise = np.random.default_rng(seed).normal(size=(classes, *shape))
    return np.stack([gaussian_filter(one, smooth) for one in noise]).argmax(axis=0).astype(np.uint8)


def pair_of(
    prediction: NDArray[Any], reference: NDArray[Any], classes: int, confidence: NDArray[np.uint8] | None = None
) -> Pair:
    """A pair of arrays of codes; where the reference is `classes` or more nothing is scored."""
    void = (reference >= classes) | (prediction >= classes)
    ours = np.where(void, classes, prediction).astype(np.uint8)
    theirs = np.where(void, classes, reference).astype(np.uint8)

    def read(box: Box) -> Maps:
        return ours[box.slices], theirs[box.slices]

    return Pair(ours.shape, classes, read, None if confidence is None else lambda box: confidence[box.slices])


@st.composite
def label_pairs(draw: st.DrawFn, axes: tuple[int, ...] = (2, 3), void: bool = True) -> tuple[Maps, int]:
    """Prediction and reference of some classes, as codes; the code after the last is not scored."""
    ndim = draw(st.sampled_from(axes))
    shape = tuple(draw(st.integers(1, 24 if ndim == 2 else 10)) for _ in range(ndim))
    classes = draw(st.integers(1, 4))
    seed = draw(st.integers(0, 1 << 20))
    smooth = draw(st.sampled_from((0.0, 0.7, 2.0)))
    reference = blobs(shape, classes, seed, smooth)
    prediction = reference.copy()
    changed = np.random.default_rng(seed + 1).random(shape) < draw(st.sampled_from((0.0, 0.05, 0.5)))
    prediction[changed] = blobs(shape, classes, seed + 2, smooth)[changed]
    if void and draw(st.booleans()):
        reference[np.random.default_rng(seed + 3).random(shape) < 0.1] = classes
    return (prediction, reference), classes
