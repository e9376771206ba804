"""The mean over what is known: what is absent is in no mean."""

from __future__ import annotations

from collections.abc import Iterable


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
