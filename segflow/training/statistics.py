"""What is known of a scene's values before patches are cut from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segflow.models.card import Normalisation
from segflow.normalise import Moments
from segflow.training.labelled import Scene, bands, free_boxes

_SAMPLE = 4096
_SAMPLED_BANDS = 16


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of a scene's values before it is cut.

    Attributes:
        mean: (channel) float32.
        deviation: (channel) float32.
        sample: (channel, n) float32, values of cells that count, for statistics after a change of contrast.
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    sample: NDArray[np.float32]


def scene_statistics(scene: Scene, normalisation: Normalisation, rng: np.random.Generator) -> Statistics:
    """Return the card's or the scene's mean and deviation, and a sample of values. Held cells do not count.

    With the card's numbers only a part of a very large scene is read, for the sample.
    """
    picks: list[NDArray[np.float32]] = []
    channels = scene.image.channels
    moments = [Moments() for _ in range(channels)]
    nonzero = normalisation.over == "nonzero"
    for box in free_boxes(scene.image.grid.shape, scene.held):
        pieces = list(bands(box))
        if normalisation.source == "card":
            pieces = pieces[:: max(1, len(pieces) // _SAMPLED_BANDS)]
        for band in pieces:
            pixels = scene.image.read(band)
            for channel, moment in zip(pixels.values, moments, strict=True):
                moment.add(channel[pixels.valid & (channel != 0)] if nonzero else channel[pixels.valid])
            keep = pixels.valid & (pixels.values != 0).any(axis=0) if nonzero else pixels.valid
            values = pixels.values[:, keep]
            if values.shape[1]:
                picks.append(values[:, rng.integers(0, values.shape[1], _SAMPLE)].astype(np.float32))
    if not picks:
        zero = np.zeros(channels, np.float32)
        return Statistics(zero, zero + 1, np.zeros((channels, 1), np.float32))
    merged = np.concatenate(picks, axis=1)
    sample = merged[:, rng.integers(0, merged.shape[1], _SAMPLE)]
    if normalisation.source == "card":
        mean = np.broadcast_to(np.asarray(normalisation.mean, np.float32), (channels,))
        deviation = np.broadcast_to(np.asarray(normalisation.deviation, np.float32), (channels,))
    else:
        mean = np.array([moment.mean for moment in moments], np.float32)
        deviation = np.array([m.deviation(scene.image.name, k) for k, m in enumerate(moments)], np.float32)
    return Statistics(mean, deviation, sample)
