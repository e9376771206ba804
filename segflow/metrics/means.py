"""The mean over what is known: what is absent is in no mean, and is named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None where there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def named(names: Sequence[str], most: int = 12) -> str:
    """Return names as a list; of many the first, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
