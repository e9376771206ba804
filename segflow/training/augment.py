"""Random changes of place and of values, by named sets. Every change is decided by a numpy generator alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from segflow.training.sampling import IGNORED, Statistics, Window

Augment = Literal["none", "aerial", "volume"]


def draw_matrix(
    rng: np.random.Generator, augment: Augment, dimensions: int, zoom: tuple[float, float], fineness: float
) -> NDArray[np.float64]:
    """Draw a linear map (dimensions, dimensions) from offsets in the patch to offsets in the scene, both in cells.

    Args:
        rng: decides all.
        augment: "aerial": any of the square's eight symmetries, half the time turned by any angle; "volume": left and
            right exchanged, turned by up to 15 degrees about every axis, sheared, stretched; "none": identity.
        dimensions: 2 or 3.
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
    matrix = np.eye(dimensions) / magnify
    if augment == "aerial":
        return matrix @ _aerial(rng, dimensions)
    if augment == "volume":
        return matrix @ _volume(rng, dimensions)
    return matrix


def _aerial(rng: np.random.Generator, dimensions: int) -> NDArray[np.float64]:
    turned = np.eye(dimensions)[rng.permutation(dimensions)] * rng.choice([-1.0, 1.0], dimensions)
    if rng.random() < 0.5:
        turned = turned @ _rotation(dimensions, 0, 1, rng.uniform(-np.pi / 4, np.pi / 4))
    stretched: NDArray[np.float64] = turned * np.exp(rng.normal(0.0, 0.05, dimensions))
    return stretched


def _volume(rng: np.random.Generator, dimensions: int) -> NDArray[np.float64]:
    matrix = np.eye(dimensions)
    matrix[0, 0] = rng.choice([-1.0, 1.0])
    for one in range(dimensions):
        for two in range(one + 1, dimensions):
            matrix = matrix @ _rotation(dimensions, one, two, np.deg2rad(rng.uniform(-15, 15)))
    matrix = matrix @ (np.eye(dimensions) + rng.normal(0.0, 0.04, (dimensions, dimensions)))
    result: NDArray[np.float64] = matrix * np.exp(rng.normal(0.0, 0.06, dimensions))
    return result


def _rotation(dimensions: int, one: int, two: int, angle: float) -> NDArray[np.float64]:
    matrix = np.eye(dimensions)
    matrix[one, one] = matrix[two, two] = np.cos(angle)
    matrix[one, two], matrix[two, one] = -np.sin(angle), np.sin(angle)
    return matrix


def reach_of(matrix: NDArray[np.float64], patch: tuple[int, ...]) -> NDArray[np.float64]:
    """Return half the extent, in the scene's cells, of what a patch covers under a map."""
    result: NDArray[np.float64] = np.abs(matrix) @ (np.asarray(patch, np.float64) / 2)
    return result


def resample(
    window: Window, matrix: NDArray[np.float64], patch: tuple[int, ...]
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Lay a patch over a window: linearly for values, by the nearest cell for labels, mirrored beyond the border.

    Where the patch is coarser than the scene, values are first averaged over whole cells, so that nothing aliases.

    Returns:
        values (channel, *patch) float32, valid (*patch) bool, labels (*patch) int64.
    """
    image = torch.from_numpy(np.ascontiguousarray(window.image, dtype=np.float32))
    flags = torch.from_numpy(np.stack((window.labels, window.valid)).astype(np.float32))
    dimensions = len(patch)
    scale = abs(float(np.linalg.det(matrix))) ** (1.0 / dimensions)
    factor = min(max(int(scale + 0.25), 1), *image.shape[1:])
    offset = np.asarray(window.centre) - np.asarray(window.box.start)
    if factor > 1:
        averaged = functional.avg_pool2d if dimensions == 2 else functional.avg_pool3d
        image = averaged(image[None], factor)[0]
        flags = flags[(slice(None), *(slice(factor // 2, n * factor, factor) for n in image.shape[1:]))]
        offset, matrix = offset / factor, matrix / factor
    size = np.asarray(image.shape[1:], np.float64)
    extent = np.asarray(patch, np.float64)
    # Both grids run from -1 to 1 over the cells' outer edges, last axis first, as grid_sample wants.
    turned = (matrix * extent[None, :] / size[:, None])[::-1, ::-1]
    moved = (2 * offset / size - 1)[::-1, None]
    theta = torch.from_numpy(np.concatenate((turned, moved), axis=1).astype(np.float32))[None]
    grid = functional.affine_grid(theta, [1, 1, *patch], align_corners=False)
    values = functional.grid_sample(image[None], grid, "bilinear", "reflection", align_corners=False)[0]
    nearest = functional.grid_sample(flags[None], grid, "nearest", "reflection", align_corners=False)[0]
    valid = nearest[1] > 0.5
    labels = torch.where(valid, nearest[0], float(IGNORED)).round().to(torch.int64)
    return values, valid, labels.numpy()


def draw_softness(rng: np.random.Generator, augment: Augment) -> float:
    """Draw the sigma, in cells, by which a volume is blurred together with its labels; 0 for none."""
    return float(rng.uniform(0.4, 3.0)) if augment == "volume" and rng.random() < 0.6 else 0.0


def soften_labels(labels: NDArray[np.int64], sigma: float, classes: int) -> NDArray[np.int64]:
    """Give each cell the class that has the largest share around it, under a Gaussian of sigma cells.

    A volume that is coarser, or an average of many, is labelled so: by the class of which there is most. Cells that
    are ignored stay so. Ties go to the lowest class.
    """
    shares = torch.from_numpy(np.stack([labels == channel for channel in range(classes)]).astype(np.float32))
    best: NDArray[np.int64] = blur(shares, sigma).argmax(0).numpy()
    return np.where(labels == IGNORED, IGNORED, best)


def change_values(
    values: Tensor,
    valid: Tensor,
    statistics: Statistics,
    augment: Augment,
    rng: np.random.Generator,
    sigma: float = 0.0,
    colour: float = 1.0,
) -> Tensor:
    """Normalise a patch and change its values at random.

    Args:
        values: (channel, *patch) float32, raw.
        valid: (*patch) bool; other cells become 0, which is the mean.
        statistics: of the scene.
        augment: "aerial": contrast, brightness, colour, blur, noise; "volume": contrast curve, bias field, blur,
            noise; the scene's statistics follow the curve, as they would for a whole scene of that contrast.
        rng: decides all.
        sigma: for "volume", the blur (see `draw_softness`).
        colour: for "aerial", strength of the changes of contrast, brightness and colour.
    """
    mean, deviation = torch.from_numpy(statistics.mean.copy()), torch.from_numpy(statistics.deviation.copy())
    if augment == "volume":
        values, mean, deviation = _change_contrast(values, statistics, rng)
    wide = (-1, *(1,) * (values.ndim - 1))
    values = (values - mean.view(wide)) / deviation.view(wide)
    if augment == "aerial":
        values = _change_colour(values, colour, rng)
        sigma = float(rng.uniform(0.3, 1.2)) if rng.random() < 0.3 else 0.0
    if augment != "none":
        values = _add_noise(blur(values, sigma) if sigma else values, rng)
    return torch.where(valid, values, torch.zeros(()))


def _change_colour(values: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    wide = (-1, *(1,) * (values.ndim - 1))
    count = values.shape[0]
    if count == 3 and rng.random() < 0.5:
        grey = values.mean(0, keepdim=True)
        values = grey + (values - grey) * float(rng.uniform(1 - 0.5 * strength, 1 + 0.5 * strength))
    gain = np.exp(strength * (rng.normal(0.0, 0.15) + rng.normal(0.0, 0.05, count))).astype(np.float32)
    shift = (strength * (rng.normal(0.0, 0.2) + rng.normal(0.0, 0.08, count))).astype(np.float32)
    return values * torch.from_numpy(gain).view(wide) + torch.from_numpy(shift).view(wide)


def _change_contrast(values: Tensor, statistics: Statistics, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Put a random curve through each channel's values, multiply by a smooth field, and follow the statistics."""
    changed: list[Tensor] = []
    sample = torch.from_numpy(statistics.sample)
    means: list[Tensor] = []
    deviations: list[Tensor] = []
    for channel in range(values.shape[0]):
        top = max(float(torch.quantile(sample[channel], 0.995)), 1e-6)
        heights = _curve(rng)
        curve = _through(values[channel] / top, heights)
        # A tighter brain mask leaves out the darkest cells, and with them moves mean and deviation.
        darkest = torch.quantile(sample[channel], float(rng.uniform(0.0, 0.35)))
        known = _through(sample[channel][sample[channel] >= darkest] / top, heights)
        means.append(known.mean())
        deviations.append(known.std().clamp_min(1e-3))
        changed.append(curve * _bias_field(tuple(values.shape[1:]), rng))
    return torch.stack(changed), torch.stack(means), torch.stack(deviations)


def _curve(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw heights at nine equal steps from 0 to 1: mostly rising, one time in twenty any."""
    if rng.random() < 0.05:
        return np.concatenate(([0.0], rng.uniform(0.1, 1.0, 8)))
    knots = np.linspace(0.0, 1.0, 9) ** np.exp(rng.normal(-0.1, 0.5))
    steps = np.diff(knots) * np.exp(rng.normal(0.0, 0.3, 8))
    return np.concatenate(([0.0], np.cumsum(steps) / steps.sum()))


def _through(x: Tensor, heights: NDArray[np.float64]) -> Tensor:
    """Put values through the broken line of nine heights; beyond its ends it goes on straight."""
    result = torch.zeros_like(x)
    for step, (low, high) in enumerate(pairwise(heights)):
        start = x * 8 - step
        last = step == len(heights) - 2
        result = result + float(high - low) * (start.clamp(min=0.0) if last else start.clamp(0.0, 1.0))
    return result


def _bias_field(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    coarse = torch.from_numpy(rng.normal(0.0, rng.uniform(0.0, 0.15), (1, 1, *(3,) * len(shape))).astype(np.float32))
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return functional.interpolate(coarse, size=shape, mode=mode, align_corners=True)[0, 0].exp()


def _add_noise(values: Tensor, rng: np.random.Generator) -> Tensor:
    if rng.random() < 0.3:
        amount = float(rng.uniform(0.0, 0.2))
        values = values + amount * torch.from_numpy(rng.standard_normal(tuple(values.shape), np.float32))
    return values * float(np.exp(rng.normal(0.0, 0.05))) + float(rng.normal(0.0, 0.05))


def blur(values: Tensor, sigma: float) -> Tensor:
    """Blur (channel, *axes) by a Gaussian of sigma cells, axis by axis, with edge cells repeated."""
    radius = max(int(3 * sigma + 0.5), 1)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float32) / sigma) ** 2)
    taps = taps / taps.sum()
    for axis in range(1, values.ndim):
        lines = values.movedim(axis, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        padded = functional.pad(flat, (radius, radius), mode="replicate")
        values = functional.conv1d(padded, taps.view(1, 1, -1)).reshape(lines.shape).movedim(-1, axis)
    return values.contiguous()
