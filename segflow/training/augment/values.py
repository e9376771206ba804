"""Random changes of values, from raw ones to the network's input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from segflow.errors import ModelError
from segflow.recipe import Augment
from segflow.training.augment.place import spread
from segflow.training.labelled import IGNORED
from segflow.training.statistics import Statistics

_KNOTS = 8


def draw_blur(rng: np.random.Generator, augment: Augment) -> float:
    """Draw the sigma, in cells, by which a patch is blurred; 0 for none."""
    low, high = augment.blur
    return float(rng.uniform(low, high)) if high and rng.random() < augment.blur_chance else 0.0


def soften_labels(labels: NDArray[np.int64], sigma: float, classes: int) -> NDArray[np.int64]:
    """Give each cell the class that has the largest share around it, under a Gaussian of sigma cells.

    A volume that is coarser, or an average of many, is labelled so: by the class of which there is most. Cells that
    are ignored stay so. Ties go to the lowest class.
    """
    best = np.zeros(labels.shape, np.int64)
    most = np.full(labels.shape, -1.0, np.float32)
    for channel in range(classes):
        here = labels == channel
        if here.any():
            share = blur(here[None].astype(np.float32), sigma)[0]
            larger = share > most
            best[larger], most[larger] = channel, share[larger]
    return np.where(labels == IGNORED, IGNORED, best)


def change_values(
    values: Tensor,
    valid: Tensor,
    statistics: Statistics,
    augment: Augment,
    rng: np.random.Generator,
    sigma: float = 0.0,
) -> Tensor:
    """Normalise a patch and change its values at random.

    Args:
        values: (channel, *patch) float32, raw.
        valid: (*patch) bool; other cells become 0, which is the mean, and are the mean to a blur.
        statistics: of the scene. They follow a change of contrast, as they would for a whole scene of that contrast.
        augment: what may be changed.
        rng: decides all.
        sigma: by which it is blurred (see `draw_blur`).
    """
    mean, deviation = statistics.mean, statistics.deviation
    raw = values.numpy()
    if augment.contrast_curve:
        raw, mean, deviation = _change_contrast(raw, statistics, rng)
    if augment.bias_field:
        raw = raw * _bias_fields(raw.shape, augment.bias_field, rng)
    # What is linear in the bands is put together and done at once; a blur comes to the same before or after it.
    matrix, offset = np.diag(1 / deviation.astype(np.float64)), -mean.astype(np.float64) / deviation
    for change, shift in _band_changes(len(raw), augment, rng):
        matrix, offset = change @ matrix, change @ offset + shift
    hidden = not bool(valid.numpy().all())
    if hidden:
        raw = np.where(valid.numpy(), raw, mean.reshape(-1, *(1,) * valid.ndim))
    if sigma:
        raw = blur(raw, sigma)
    result = torch.from_numpy(_mixed(raw, matrix.astype(np.float32), offset.astype(np.float32)))
    if augment.noise and rng.random() < augment.noise_chance:
        result = _add_noise(result, augment.noise, rng)
    if augment.drop_band and len(result) > 1 and rng.random() < augment.drop_band:
        result[int(rng.integers(len(result)))] = 0.0
    return result.masked_fill_(~valid, 0.0) if hidden else result


def blur(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur (channel, *axes) by a Gaussian of sigma cells cut at 3 sigma, with edge cells repeated."""
    result: NDArray[np.float32] = gaussian_filter(
        values, (0.0, *(sigma,) * (values.ndim - 1)), mode="nearest", truncate=max(int(3 * sigma + 0.5), 1) / sigma
    )
    return result


def _band_changes(
    count: int, augment: Augment, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield matrices (band, band) and offsets (band), to be applied one after another to normalised values."""
    if augment.colour:
        strength = augment.colour
        if count == 3 and rng.random() < 0.5:
            saturation = rng.uniform(1 - 0.5 * strength, 1 + 0.5 * strength)
            yield saturation * np.eye(3) + (1 - saturation) * np.full((3, 3), 1 / 3), np.zeros(3)
        gain = np.exp(strength * (rng.normal(0.0, 0.15) + rng.normal(0.0, 0.05, count)))
        yield np.diag(gain), strength * (rng.normal(0.0, 0.2) + rng.normal(0.0, 0.08, count))
    if augment.band_noise:
        gain = np.exp(rng.normal(0.0, augment.band_noise, count))
        yield np.diag(gain), rng.normal(0.0, augment.band_noise, count)
    if augment.intensity:
        yield np.eye(count) * np.exp(rng.normal(0.0, augment.intensity)), rng.normal(0.0, augment.intensity, 1)


def _mixed(
    values: NDArray[np.float32], matrix: NDArray[np.float32], offset: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return matrix @ values + offset over the channels; not by BLAS, whose bits depend on threads and alignment."""
    result = np.empty_like(values)
    for channel, (row, shift) in enumerate(zip(matrix, offset, strict=True)):
        np.multiply(values[channel], row[channel], out=result[channel])
        for other in np.flatnonzero(row):
            if other != channel:
                result[channel] += row[other] * values[other]
        result[channel] += shift
    return result


def _change_contrast(
    values: NDArray[np.float32], statistics: Statistics, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Put a random curve through each channel's values, and let the statistics follow.

    The curve runs from 0, or the smallest of values where those are less than 0, to about the largest.
    """
    changed = np.empty_like(values)
    means = np.empty(len(values), np.float32)
    deviations = np.empty(len(values), np.float32)
    for channel, known in enumerate(statistics.sample):
        # A tighter brain mask leaves out the darkest cells, and with them moves mean and deviation.
        low, high, darkest = np.quantile(known, (0.005, 0.995, rng.uniform(0.0, 0.35)))
        low = min(low, 0.0)
        span = max(high - low, 1e-6)
        heights = _curve(rng)
        seen = _through((known[known >= darkest] - np.float32(low)) / np.float32(span), heights).astype(np.float64)
        means[channel], deviations[channel] = seen.mean(), max(seen.std(), 1e-3)
        changed[channel] = _through((values[channel] - np.float32(low)) / np.float32(span), heights)
    return changed, means, deviations


def _curve(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw heights at nine equal steps from 0 to 1: mostly rising, one time in twenty any."""
    if rng.random() < 0.05:
        return np.concatenate(([0.0], rng.uniform(0.1, 1.0, _KNOTS)))
    knots = np.linspace(0.0, 1.0, _KNOTS + 1) ** np.exp(rng.normal(-0.1, 0.5))
    steps = np.diff(knots) * np.exp(rng.normal(0.0, 0.3, _KNOTS))
    return np.concatenate(([0.0], np.cumsum(steps) / steps.sum()))


def _through(x: NDArray[np.float32], heights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Put values through the broken line of nine heights; below 0 it is flat, beyond 1 it goes straight on."""
    place = np.maximum(x * np.float32(_KNOTS), np.float32(0))
    piece = np.minimum(place, np.float32(_KNOTS - 1)).astype(np.int32)
    base, slope = heights[:-1].astype(np.float32), np.diff(heights).astype(np.float32)
    place -= piece
    result: NDArray[np.float32] = slope.take(piece)
    result *= place
    result += base.take(piece)
    return result


def _bias_fields(shape: tuple[int, ...], largest: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a smooth field about 1 for each channel; the deviation of its logarithm is drawn, too.

    Normal numbers on a grid of 3 cells an axis, from edge to edge, with straight lines between them.
    """
    channels, *cells = shape
    amounts = rng.uniform(0.0, largest, (channels, *(1,) * len(cells)))
    field = (amounts * rng.normal(size=(channels, *(3,) * len(cells)))).astype(np.float32)
    apart = [np.abs(np.linspace(0, 2, length)[:, None] - np.arange(3)) for length in cells]
    return np.exp(spread(field, [np.maximum(1 - distance, 0) for distance in apart]))


def _add_noise(values: Tensor, largest: float, rng: np.random.Generator) -> Tensor:
    """Add normal noise of a deviation that is drawn from 0 to the largest, by MONAI's RandGaussianNoise."""
    try:
        from monai.transforms.intensity.array import RandGaussianNoise
    except ImportError as error:
        raise ModelError("augment.noise needs MONAI", "monai", "pip install 'segflow[train]'") from error
    noise = RandGaussianNoise(prob=1.0, std=largest, sample_std=True)
    noise.set_random_state(seed=int(rng.integers(2**31)))
    changed = torch.as_tensor(noise(values))
    return changed.as_subclass(Tensor)
