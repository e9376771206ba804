"""Random changes of values, from raw ones to the network's input."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from segflow.errors import ModelError
from segflow.recipe import Augment
from segflow.training.sampling import IGNORED, Statistics

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
        valid: (*patch) bool; other cells become 0, which is the mean, and are 0 to all that looks around.
        statistics: of the scene. They follow a change of contrast, as they would for a whole scene of that contrast.
        augment: what may be changed.
        rng: decides all.
        sigma: by which it is blurred (see `draw_blur`).
    """
    mean, deviation = torch.from_numpy(statistics.mean.copy()), torch.from_numpy(statistics.deviation.copy())
    if augment.contrast_curve:
        values, mean, deviation = _change_contrast(values, statistics, rng)
    if augment.bias_field:
        values = values * _bias_fields(tuple(values.shape), augment.bias_field, rng)
    wide = (-1, *(1,) * (values.ndim - 1))
    values = (values - mean.view(wide)) / deviation.view(wide)
    hidden = not bool(valid.all())
    if hidden:
        values = torch.where(valid, values, torch.zeros(()))
    if augment.colour:
        values = _change_colour(values, augment.colour, rng)
    if augment.band_noise:
        values = _each_band(values, augment.band_noise, rng)
    if sigma:
        values = torch.from_numpy(blur(values.numpy(), sigma))
    if augment.noise and rng.random() < augment.noise_chance:
        values = _add_noise(values, augment.noise, rng)
    if augment.intensity:
        values = values * float(np.exp(rng.normal(0.0, augment.intensity))) + float(rng.normal(0.0, augment.intensity))
    if augment.drop_band and len(values) > 1 and rng.random() < augment.drop_band:
        values[int(rng.integers(len(values)))] = 0.0
    return torch.where(valid, values, torch.zeros(())) if hidden else values


def blur(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur (channel, *axes) by a Gaussian of sigma cells cut at 3 sigma, with edge cells repeated."""
    result: NDArray[np.float32] = gaussian_filter(
        values, (0.0, *(sigma,) * (values.ndim - 1)), mode="nearest", truncate=max(int(3 * sigma + 0.5), 1) / sigma
    )
    return result


def _change_colour(values: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Change saturation half the time (of three bands), and gain and offset, of all bands and a little of each."""
    wide = (-1, *(1,) * (values.ndim - 1))
    count = values.shape[0]
    if count == 3 and rng.random() < 0.5:
        grey = values.mean(0, keepdim=True)
        values = grey + (values - grey) * float(rng.uniform(1 - 0.5 * strength, 1 + 0.5 * strength))
    gain = np.exp(strength * (rng.normal(0.0, 0.15) + rng.normal(0.0, 0.05, count))).astype(np.float32)
    shift = (strength * (rng.normal(0.0, 0.2) + rng.normal(0.0, 0.08, count))).astype(np.float32)
    return values * torch.from_numpy(gain).view(wide) + torch.from_numpy(shift).view(wide)


def _each_band(values: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    wide = (-1, *(1,) * (values.ndim - 1))
    gain = np.exp(rng.normal(0.0, deviation, len(values))).astype(np.float32)
    shift = rng.normal(0.0, deviation, len(values)).astype(np.float32)
    return values * torch.from_numpy(gain).view(wide) + torch.from_numpy(shift).view(wide)


def _change_contrast(values: Tensor, statistics: Statistics, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Put a random curve through each channel's values, and let the statistics follow.

    The curve runs from 0, or the smallest of values where those are less than 0, to about the largest.
    """
    changed: list[Tensor] = []
    means: list[float] = []
    deviations: list[float] = []
    for raw, known in zip(values, statistics.sample, strict=True):
        low = min(float(np.quantile(known, 0.005)), 0.0)
        span = max(float(np.quantile(known, 0.995)) - low, 1e-6)
        heights = _curve(rng)
        # A tighter brain mask leaves out the darkest cells, and with them moves mean and deviation.
        darkest = np.quantile(known, float(rng.uniform(0.0, 0.35)))
        seen = _through((torch.from_numpy(known[known >= darkest]) - low) / span, heights).double()
        means.append(float(seen.mean()))
        deviations.append(max(float(seen.std(unbiased=False)), 1e-3))
        changed.append(_through((raw - low) / span, heights))
    return torch.stack(changed), torch.tensor(means), torch.tensor(deviations)


def _curve(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw heights at nine equal steps from 0 to 1: mostly rising, one time in twenty any."""
    if rng.random() < 0.05:
        return np.concatenate(([0.0], rng.uniform(0.1, 1.0, _KNOTS)))
    knots = np.linspace(0.0, 1.0, _KNOTS + 1) ** np.exp(rng.normal(-0.1, 0.5))
    steps = np.diff(knots) * np.exp(rng.normal(0.0, 0.3, _KNOTS))
    return np.concatenate(([0.0], np.cumsum(steps) / steps.sum()))


def _through(x: Tensor, heights: NDArray[np.float64]) -> Tensor:
    """Put values through the broken line of nine heights; below 0 it is flat, beyond 1 it goes straight on."""
    place = (x * _KNOTS).clamp_min(0.0)
    piece = place.clamp_max(_KNOTS - 1).long()
    base = torch.from_numpy(heights[:-1].astype(np.float32))
    slope = torch.from_numpy(np.diff(heights).astype(np.float32))
    return base[piece] + slope[piece] * (place - piece)


def _bias_fields(shape: tuple[int, ...], largest: float, rng: np.random.Generator) -> Tensor:
    """Return a smooth field about 1 for each channel; the deviation of its logarithm is drawn, too."""
    channels, *cells = shape
    amounts = rng.uniform(0.0, largest, (channels, *(1,) * len(cells)))
    coarse = (amounts * rng.normal(size=(channels, *(3,) * len(cells)))).astype(np.float32)
    mode = "bilinear" if len(cells) == 2 else "trilinear"
    return functional.interpolate(torch.from_numpy(coarse)[None], size=cells, mode=mode, align_corners=True)[0].exp()


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
