"""Whether a model's normalisation suits an input: seen on a sample of its values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.models.card import Normalisation

_FAR_MEAN = 2.0
_NARROW, _WIDE = 0.2, 4.0
_BYTE = 255.0


@dataclass(frozen=True, slots=True)
class Sampled:
    """Statistics of a sample, one number a channel, in raw units."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype: str

    @classmethod
    def of(cls, values: NDArray[Any]) -> Sampled:
        """Return the statistics of finite values (channel, n)."""
        numbers = values.astype(np.float64)
        rows = (numbers.mean(axis=1), numbers.std(axis=1), numbers.min(axis=1), numbers.max(axis=1))
        mean, deviation, low, high = (tuple(row.tolist()) for row in rows)
        return cls(mean, deviation, low, high, str(values.dtype))


def scaling_warning(rule: Normalisation, found: Sampled) -> str | None:
    """Return what is wrong where normalised values are far from what the normalisation aims at, with the likely cause.

    A rule with mean and deviation aims at mean 0, deviation 1: far is a mean beyond 2 or a deviation outside of 0.2
    to 4 in any channel. A rule that only divides aims at 0 to 1: far is a sample that reaches beyond 2, or stays
    under 0.02. Nothing is said of raw values, nor of the scene's own statistics, which fit by construction.
    """
    count = len(found.mean)
    mean, deviation = _wide(rule.mean, count), _wide(rule.deviation, count)
    if rule.source == "scene" or (set(mean) == {0.0} and set(deviation) == {1.0}):
        return None
    now = [(m - a) / s for m, a, s in zip(found.mean, mean, deviation, strict=True)]
    spread = [d / s for d, s in zip(found.deviation, deviation, strict=True)]
    if set(mean) == {0.0}:
        top = max(high / s for high, s in zip(found.high, deviation, strict=True))
        if 0.02 <= top <= 2.0:
            return None
        said = f"divided by {_numbers(deviation)}, the input reaches {top:.3g} instead of about 1"
    else:
        if all(abs(m) <= _FAR_MEAN and _NARROW <= d <= _WIDE for m, d in zip(now, spread, strict=True)):
            return None
        said = (
            f"normalised, the input has mean {_numbers(now)} and deviation {_numbers(spread)}; the model expects about "
            "0 and 1"
        )
    return f"{said}. {_cause(mean, deviation, found)}"


def _cause(mean: Sequence[float], deviation: Sequence[float], found: Sampled) -> str:
    """Guess from the ranges of both what happened."""
    made_for = max(m + 3 * d for m, d in zip(mean, deviation, strict=True))
    top = max(found.high)
    held = f"The input is {found.dtype} from {min(found.low):.5g} to {top:.5g}"
    if made_for <= 4 and top > 2:
        rest = f"multiply mean and deviation by {_BYTE:.0f}" if top <= _BYTE else "bring the input to that scale"
        return f"{held}, the normalisation is for values from 0 to 1: {rest}."
    if 20 <= made_for <= 4 * _BYTE and top <= 2:
        return f"{held}, the normalisation is for values from 0 to 255: divide mean and deviation by 255."
    if made_for <= 4 * _BYTE and top > 2 * _BYTE:
        return (
            f"{held}, the normalisation is for 8-bit values from 0 to 255: scale the input to 8 bit as the training "
            "images were, or give mean and deviation in the input's own units."
        )
    return (
        f"{held}, with mean {_numbers(found.mean)}: another sensor or unit, bands in another order, or a border of "
        "nodata that the file does not declare."
    )


def _wide(values: Sequence[float], count: int) -> tuple[float, ...]:
    return tuple(values) * count if len(values) == 1 else tuple(values)


def _numbers(values: Sequence[float]) -> str:
    shown = [f"{value:.3g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else "(" + ", ".join(shown) + ")"
