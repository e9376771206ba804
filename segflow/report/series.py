"""Curves as numbers: thinned for drawing, smoothed for the eye, and placed on axes with round ticks. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log10

import numpy as np
from numpy.typing import NDArray

DRAWN = 1000
"""Points of one line that are drawn at most."""

_WIDE = 8.0
"""A logarithmic axis is used where the largest value is so many times the smallest."""

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values and where each lies in it.

    Attributes:
        low: value at 0.
        high: value at 1; larger than `low`.
        log: logarithmic; then `low` is positive.
        ticks: round values inside.
    """

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]

    def place(self, values: Values) -> Values:
        """Return each value's place, 0 at `low` and 1 at `high`; what a logarithm lacks is far below."""
        if not self.log:
            return (values - self.low) / (self.high - self.low)
        safe = np.log10(np.maximum(values, self.low * 1e-9))
        placed: Values = (safe - log10(self.low)) / (log10(self.high) - log10(self.low))
        return placed

    def at(self, value: float) -> float:
        """Return one value's place."""
        return float(self.place(np.array([value]))[0])


def thin(steps: Values, values: Values, most: int = DRAWN) -> tuple[Values, Values]:
    """Return at most `most` points that look as all of them do.

    The first, the last, and of every stretch between them the smallest and the largest finite value, in their order.
    A stretch without one finite value stays as one NaN, which is drawn as a gap.

    Args:
        steps: (n,) rising.
        values: (n,).
        most: at least 4.
    """
    n = len(values)
    if n <= most:
        return steps, values
    bounds = np.linspace(1, n - 1, (most - 2) // 2 + 1).astype(int)
    kept = [0]
    for start, stop in pairwise(bounds):
        part = values[start:stop]
        good = np.isfinite(part)
        if not good.any():
            kept.append(int(start))
            continue
        least = int(np.where(good, part, np.inf).argmin())
        largest = int(np.where(good, part, -np.inf).argmax())
        kept += [int(start) + place for place in sorted({least, largest})]
    kept.append(n - 1)
    return steps[kept], values[kept]


def smooth(values: Values) -> tuple[Values, int]:
    """Return the running mean of the finite values around each, and how many it is of.

    The window is a fortieth of the curve, odd, centred (so that nothing lags), and cut off at both ends. NaN
    where the window holds no finite value.
    """
    n = len(values)
    reach = max(2, n // 80)
    good = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(good)])
    here = np.arange(n)
    low, high = np.maximum(here - reach, 0), np.minimum(here + reach + 1, n)
    known = counts[high] - counts[low]
    mean = np.full(n, np.nan)
    np.divide(sums[high] - sums[low], known, out=mean, where=known > 0)
    return mean, 2 * reach + 1


def axis_of(values: Values, *, may_log: bool = False, bounds: tuple[float, float] | None = None) -> Axis:
    """Return an axis that holds the finite values, with some room, and round ticks.

    Args:
        values: what is shown.
        may_log: take a logarithmic axis if all are positive and they span a factor of 8.
        bounds: values never lie outside of these, so the axis does not either.
    """
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if may_log and low > 0 and high / low >= _WIDE:
        low, high = low / 1.15, high * 1.15
        return Axis(low, high, True, _log_ticks(low, high))
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - room, high + room
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    return Axis(low, high, False, ticks(low, high))


def ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """Return round values from low to high: multiples of 1, 2 or 5 times a power of ten, at most so many."""
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return tuple(float(f"{k * step:.12g}") for k in range(first, last + 1))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = tuple(float(f"{f}e{d}") for d in decades for f in factors if low <= float(f"{f}e{d}") <= high)
        if len(found) <= 7:
            return found
    return found[:: ceil(len(found) / 7)]


def tick_text(value: float, among: tuple[float, ...]) -> str:
    """Return a tick's label, all of one axis in one style: 2,000; 0.25; 5e-4."""
    largest = max((abs(tick) for tick in among), default=abs(value))
    if value == 0:
        return "0"
    if largest < 0.01 or largest >= 1e6:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:,.6g}" if isfinite(value) else ""
