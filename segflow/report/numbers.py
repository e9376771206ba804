"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import floor, log10

DASH = "–"
_SPACE = "\N{NO-BREAK SPACE}"


def score(value: float | None) -> str:
    """Return a score with three decimals, a dash where there is none. 0.9996 is never shown as 1, 0.0004 never as 0."""
    if value is None:
        return DASH
    text = f"{value:.3f}"
    if text == "1.000" and value < 1:
        return "0.999"
    if text == "0.000" and value > 0:
        return f"<{_SPACE}0.001"
    return "0.000" if text == "-0.000" else text


def percent(part: float, whole: float) -> str:
    """Return a share: one decimal, and never 0 or 100 when it is not quite."""
    if not whole:
        return DASH
    share = 100 * part / whole
    if 0 < share < 0.05:
        return f"<{_SPACE}0.1{_SPACE}%"
    if 99.95 <= share < 100:
        return f">{_SPACE}99.9{_SPACE}%"
    return f"{share:.1f}{_SPACE}%"


def count(value: int) -> str:
    """Return a whole number with thousands set apart."""
    return f"{value:,}"


def seconds(value: float) -> str:
    """Return a duration: 0.42 s, 12.3 s, 4 min 07 s, 2 h 05 min."""
    if value < 59.95:
        return f"{value:.2f}{_SPACE}s" if value < 9.995 else f"{value:.1f}{_SPACE}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}{_SPACE}min {whole % 60:02d}{_SPACE}s"
    minutes = round(value / 60)
    return f"{minutes // 60}{_SPACE}h {minutes % 60:02d}{_SPACE}min"


def size(value: int) -> str:
    """Return bytes in binary units: 812 B, 1.42 GiB."""
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f}{_SPACE}B" if unit == "B" else f"{_digits(number)}{_SPACE}{unit}"
        number /= 1024
    return f"{_digits(number)}{_SPACE}TiB"


def area_column(values: Iterable[float | None]) -> tuple[str, Callable[[float | None], str]]:
    """Return the unit that suits a column of areas given in m², and what writes one of them in it."""
    known = [value for value in values if value is not None]
    largest = max(known, default=0.0)
    unit, factor = ("km²", 1e6) if largest >= 1e6 else ("ha", 1e4) if largest >= 1e4 else ("m²", 1.0)
    return unit, _column(largest / factor, factor)


def volume_column(values: Iterable[float | None]) -> tuple[str, Callable[[float | None], str]]:
    """Return the unit of a column of volumes given in mL (always mL), and what writes one of them."""
    return "mL", _column(max((value for value in values if value is not None), default=0.0), 1.0)


def distance_column(values: Iterable[float | None]) -> Callable[[float | None], str]:
    """Return what writes a column of distances, in whatever unit."""
    return _column(max((value for value in values if value is not None), default=0.0), 1.0)


def cells_column(_values: Iterable[float | None]) -> tuple[str, Callable[[float | None], str]]:
    """Return the unit of a column of cells, and what writes one of them."""
    return "cells", lambda value: DASH if value is None else f"{value:,.0f}"


def _column(largest: float, factor: float) -> Callable[[float | None], str]:
    """Write every value of a column with the decimals that give the largest four digits, so that points align."""
    decimals = 3 if largest <= 0 else max(0, min(3, 3 - floor(log10(largest))))

    def write(value: float | None) -> str:
        return DASH if value is None else f"{value / factor:,.{decimals}f}"

    return write


def _digits(number: float) -> str:
    return f"{number:.2f}" if number < 10 else f"{number:.1f}" if number < 100 else f"{number:.0f}"


def length(metres: float) -> str:
    """Return a cell's size in metres: 28.5 m, 0.3 m."""
    return f"{metres:.4g}{_SPACE}m"


def short(value: int) -> str:
    """Return a large whole number briefly: 33.7 M, 217 k, 812."""
    number = float(value)
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{value}" if not unit else f"{number:.3g}{_SPACE}{unit}"
        number /= 1000
    return f"{number:.3g}{_SPACE}T"
