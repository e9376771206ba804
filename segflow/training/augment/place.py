"""Where the cells of a patch lie in a scene: a linear map, and a smooth displacement where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from segflow.recipe import Augment
from segflow.training.labelled import IGNORED
from segflow.training.sampling import Window

_FOLD = 0.4
"""Of the spacing of control points: no cubic spline whose points move less folds in 2-D (0.48) or 3-D (0.40).

Choi and Lee, Injectivity conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 62, 2000.
"""
_SPLINE_POWER = 151 / 315
"""Mean over a cell of the sum of squares of a cubic spline's four weights."""


@dataclass(frozen=True, slots=True)
class Warp:
    """A map from a patch to a scene, about the centres of both.

    Attributes:
        matrix: (axis, axis), from offsets in the patch to offsets in the scene, both in cells.
        patch: cells on each axis.
        moved: (axis, *patch) float32, added to offsets in the patch before the matrix; None for nothing.
    """

    matrix: NDArray[np.float64]
    patch: tuple[int, ...]
    moved: NDArray[np.float32] | None = None

    @property
    def reach(self) -> NDArray[np.float64]:
        """Half the extent, in the scene's cells, of what the patch covers."""
        half = np.asarray(self.patch, np.float64) / 2
        if self.moved is not None:
            half = half + np.abs(self.moved).reshape(len(half), -1).max(axis=1)
        result: NDArray[np.float64] = np.abs(self.matrix) @ half
        return result

    @property
    def exact(self) -> bool:
        """Whether cells fall on cells: mirrored and turned by right angles at most."""
        size = np.abs(self.matrix)
        whole = bool(np.isin(size, (0.0, 1.0)).all() and (size.sum(0) == 1).all() and (size.sum(1) == 1).all())
        return whole and self.moved is None


def draw_warp(
    rng: np.random.Generator, augment: Augment, patch: tuple[int, ...], zoom: tuple[float, float], fineness: float
) -> Warp:
    """Draw a map.

    Args:
        rng: decides all.
        augment: what may be changed; axes beyond those of `flips` are not mirrored.
        patch: cells on each axis, two or three.
        zoom: range of magnification for a scene of fineness 1.
        fineness: see `Scene`. Half the time the scene keeps its own scale (within a fifth), half the time it gets any
            within the range.
    """
    low, high = zoom
    if low == high == 1.0:
        magnify = 1.0
    elif rng.random() < 0.5:
        magnify = float(np.exp(rng.uniform(np.log(low), np.log(high)))) / fineness
    else:
        magnify = float(np.exp(rng.uniform(-0.2, 0.2)))
    axes = len(patch)
    matrix = np.eye(axes) / magnify @ _symmetry(rng, augment, axes)
    if augment.rotate and rng.random() < augment.rotate_chance:
        for one in range(axes):
            for two in range(one + 1, axes):
                matrix = matrix @ _rotation(axes, one, two, np.deg2rad(rng.uniform(-augment.rotate, augment.rotate)))
    if augment.shear:
        matrix = matrix @ (np.eye(axes) + rng.normal(0.0, augment.shear, (axes, axes)))
    if augment.stretch:
        matrix = matrix * np.exp(rng.normal(0.0, augment.stretch, axes))
    warp = Warp(matrix, patch)
    if augment.elastic and rng.random() < augment.elastic_chance:
        return replace(warp, moved=draw_displacement(rng, patch, augment.elastic, augment.elastic_spacing))
    return warp


def draw_displacement(
    rng: np.random.Generator, patch: tuple[int, ...], deviation: float, spacing: float
) -> NDArray[np.float32]:
    """Draw a smooth displacement (axis, *patch) float32, in cells, that never folds.

    Control points are moved by normal numbers (Simard et al., ICDAR 2003; U-Net), a cubic spline runs between them.
    Points move by at most 0.4 of their spacing, so larger deviations come out smaller.
    """
    axes = len(patch)
    weights = [_spline(n, spacing) for n in patch]
    points = rng.normal(0.0, deviation / _SPLINE_POWER ** (axes / 2), (axes, *(w.shape[1] for w in weights)))
    return spread(points.clip(-_FOLD * spacing, _FOLD * spacing), weights)


def spread(points: NDArray[Any], weights: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Spread points (channel, *points) over cells (channel, *cells), by weights (cell, point) on each axis.

    Sums are made point by point: the bits of BLAS depend on threads and alignment.
    """
    field = points.astype(np.float32)
    for axis, weight in enumerate(weights, 1):
        shape = [1] * field.ndim
        shape[axis] = -1
        columns = weight.astype(np.float32).T.reshape(weight.shape[1], *shape)
        parts = np.split(field, weight.shape[1], axis=axis)
        field = columns[0] * parts[0]
        for column, part in zip(columns[1:], parts[1:], strict=True):
            field += column * part
    return field


def resample(window: Window, warp: Warp, fill: NDArray[np.float32]) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Lay a patch over a window: linearly for values, by the nearest cell for labels, mirrored beyond the border.

    A map that is `exact` interpolates nothing: its cells are the window's own. Where the patch is coarser than the
    scene, values are first averaged over whole cells, so that nothing aliases.

    Args:
        window: what was read.
        warp: the map.
        fill: (channel) float32, what cells without valid input are taken to be.

    Returns:
        values (channel, *patch) float32, valid (*patch) bool, labels (*patch) int64.
    """
    image = np.ascontiguousarray(window.image, np.float32)
    if not window.valid.all():
        image = np.where(window.valid, image, fill.reshape(-1, *(1,) * window.valid.ndim))
    # One number tells both: -1 is not valid, 0 is ignored, from 1 on it is a class.
    code = np.where(window.valid, window.labels - IGNORED, -1).astype(np.int16)
    values, found = (_cut if warp.exact else _lay)(image, code, window, warp)
    labels = np.where(found > 0, found + IGNORED, IGNORED).astype(np.int64)
    return values, torch.from_numpy(found >= 0), labels


def _cut(
    image: NDArray[np.float32], code: NDArray[np.int16], window: Window, warp: Warp
) -> tuple[Tensor, NDArray[np.int16]]:
    """Take whole cells, mirrored and turned as the map says."""
    source = np.abs(warp.matrix).argmax(axis=0)  # the scene's axis of each of the patch's
    for axis, size in enumerate(code.shape):
        own = int(np.flatnonzero(source == axis)[0])
        length = warp.patch[own]
        start = round(window.centre[axis] - window.box.start[axis] - length / 2)
        places = _mirrored(np.arange(start, start + length, dtype=np.int32), size)
        if warp.matrix[axis, own] < 0:
            places = places[::-1]
        image, code = image.take(places, axis + 1), code.take(places, axis)
    turned = image.transpose(0, *(source + 1))
    return torch.from_numpy(np.ascontiguousarray(turned)), np.ascontiguousarray(code.transpose(*source))


def _lay(
    image: NDArray[np.float32], code: NDArray[np.int16], window: Window, warp: Warp
) -> tuple[Tensor, NDArray[np.int16]]:
    """Interpolate."""
    axes = code.ndim
    values = torch.from_numpy(image)[None]
    offset, matrix = np.asarray(window.centre) - np.asarray(window.box.start), warp.matrix
    step = np.sqrt((matrix**2).sum(axis=1))  # cells of the scene from one of the patch to the next
    factor = tuple(min(max(int(s + 0.25), 1), n) for s, n in zip(step, code.shape, strict=True))
    if max(factor) > 1:
        values = (functional.avg_pool2d if axes == 2 else functional.avg_pool3d)(values, factor)
        code = code[tuple(slice(f // 2, n * f, f) for f, n in zip(factor, values.shape[2:], strict=True))]
        offset, matrix = offset / factor, matrix / np.asarray(factor)[:, None]
    inner = replace(warp, matrix=matrix)
    size = np.asarray(values.shape[2:])
    inside = bool(((offset - inner.reach >= 0) & (offset + inner.reach <= size)).all())
    grid = np.empty((*warp.patch, axes), np.float32)
    flat = np.zeros(warp.patch, np.int32)
    for axis, place in enumerate(_places(inner, offset)):
        length = int(size[axis])
        grid[..., axes - 1 - axis] = place * np.float32(2 / length) - np.float32(1)
        cell = np.floor(place).astype(np.int32)
        flat = flat * length + (np.clip(cell, 0, length - 1) if inside else _mirrored(cell, length))
    # Clamping to the border is quicker than mirroring, and the same where nothing lies beyond it.
    beyond = "border" if inside else "reflection"
    laid = functional.grid_sample(values, torch.from_numpy(grid)[None], "bilinear", beyond, align_corners=False)[0]
    return laid, np.ascontiguousarray(code).reshape(-1).take(flat)


def _places(warp: Warp, offset: NDArray[np.float64]) -> Iterator[NDArray[np.float32]]:
    """Yield, for each axis of the scene, where the patch's cells lie on it: (*patch) float32, in cells."""
    axes = len(warp.patch)
    lines: list[NDArray[np.float32]] = []
    for axis, length in enumerate(warp.patch):
        shape = [1] * axes
        shape[axis] = length
        line = (np.arange(length, dtype=np.float32) - np.float32((length - 1) / 2)).reshape(shape)
        lines.append(line if warp.moved is None else line + warp.moved[axis])
    for axis in range(axes):
        place = np.full((1,) * axes, offset[axis], np.float32)
        for own in range(axes):
            place = place + np.float32(warp.matrix[axis, own]) * lines[own]
        yield place


def _mirrored(cell: NDArray[np.int32], length: int) -> NDArray[np.int32]:
    """Return indices that go to and fro within 0 .. length - 1, the cells at the ends twice."""
    around = cell % (2 * length)
    return np.where(around < length, around, 2 * length - 1 - around)


def _spline(length: int, spacing: float) -> NDArray[np.float64]:
    """Return weights (cell, control point) of a uniform cubic B-spline; each row sums to 1."""
    place = np.arange(length) / spacing
    first = place.astype(np.int64)
    u = place - first
    weights = np.zeros((length, int(first[-1]) + 4))
    parts = ((1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3)
    for k, part in enumerate(parts):
        weights[np.arange(length), first + k] = part / 6
    return weights


def _symmetry(rng: np.random.Generator, augment: Augment, axes: int) -> NDArray[np.float64]:
    """Draw mirrors of the axes that allow it, and one of all turns by right angles."""
    signs = np.ones(axes)
    for axis, allowed in enumerate(augment.flips[:axes]):
        if allowed:
            signs[axis] = rng.choice([-1.0, 1.0])
    matrix = np.diag(signs)
    if augment.quarter_turns:
        turn = np.eye(axes)[rng.permutation(axes)] * rng.choice([-1.0, 1.0], axes)
        turn[0] *= np.sign(np.linalg.det(turn))  # no mirror
        matrix = matrix @ turn
    return matrix


def _rotation(axes: int, one: int, two: int, angle: float) -> NDArray[np.float64]:
    matrix = np.eye(axes)
    matrix[one, one] = matrix[two, two] = np.cos(angle)
    matrix[one, two], matrix[two, one] = -np.sin(angle), np.sin(angle)
    return matrix
