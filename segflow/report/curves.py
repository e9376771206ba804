"""Line charts as inline SVG that keeps its letters' size at any width. Nothing but numbers and escaped text goes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from segflow.report.series import Axis, Values, thin, tick_text, ticks

_UNIT = 1000.0


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        name: as in the legend.
        steps: (n,) rising.
        values: (n,); NaN is a gap.
        kind: how it is drawn: "raw", "first", "second", "third", or "own" with a colour.
        colour: #RRGGBB of an own line.
        marks: a dot at each point, with its value to read.
    """

    name: str
    steps: Values
    values: Values
    kind: str
    colour: str = ""
    marks: bool = False

    @property
    def last(self) -> float | None:
        """The last finite value."""
        known = self.values[np.isfinite(self.values)]
        return float(known[-1]) if known.size else None


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one axis.

    Attributes:
        title: what is shown.
        unit: what the axis counts.
        axis: the vertical one.
        lines: drawn in this order, the last on top.
        broken: steps whose value is not a number, marked at the bottom.
    """

    title: str
    unit: str
    axis: Axis
    lines: Sequence[Line]
    broken: Sequence[int] = ()


def step_axis(first: float, last: float) -> Axis:
    """Return the horizontal axis: from 0 unless the curve begins late."""
    low = 0.0 if first <= last / 2 or first <= 1 else first
    high = max(last, low + 1.0)
    return Axis(low, high, False, ticks(low, high, 5))


def chart_html(chart: Chart, across: Axis, kept: int | None = None) -> str:
    """Return a chart with its title and legend.

    Args:
        chart: what is drawn.
        across: the axis of steps.
        kept: the step whose weights were kept, marked by a line.
    """
    drawn = [(line, *thin(line.steps, line.values)) for line in chart.lines]
    parts = [_grid(chart.axis, across)]
    if kept is not None:
        place = _percent(across.at(kept))
        parts.append(
            f'<g class="kept"><title>weights of step {kept:,} were kept</title>'
            f'<line x1="{place}" x2="{place}" y1="0" y2="100%"/></g>'
        )
    inner = "".join(_polyline(line, steps, values, chart.axis, across) for line, steps, values in drawn)
    parts.append(f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">{inner}</svg>')
    for line, steps, values in drawn:
        if line.marks or np.isfinite(values).sum() == 1:
            parts.append(_marks(line, steps, values, chart.axis, across))
    for step in chart.broken[:50]:
        parts.append(
            f'<text class="broken" x="{_percent(across.at(step))}" y="100%" dy="-4" text-anchor="middle">×'
            f"<title>step {step:,}: not a number</title></text>"
        )
    parts.append('<line class="cursor" x1="0" x2="0" y1="0" y2="100%" visibility="hidden"/>')
    scale = ", logarithmic" if chart.axis.log else ""
    return (
        f'<figure class="chart"><figcaption><b>{escape(chart.title)}</b> '
        f"<small>{escape(chart.unit)}{scale}</small>{_legend(chart)}</figcaption>"
        f'<svg class="plot" role="img" aria-label="{escape(_said(chart))}">{"".join(parts)}</svg></figure>'
    )


def _grid(axis: Axis, across: Axis) -> str:
    parts = []
    for tick in axis.ticks:
        y = _percent(1 - axis.at(tick))
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="tick" x="-8" y="{y}" dy=".33em" text-anchor="end">{tick_text(tick, axis.ticks)}</text>'
        )
    parts.append('<line class="base" x1="0" x2="100%" y1="100%" y2="100%"/>')
    for tick in across.ticks:
        x = _percent(across.at(tick))
        parts.append(f'<line class="base" x1="{x}" x2="{x}" y1="100%" y2="100%" transform="translate(0 4)"/>')
        parts.append(f'<text class="tick" x="{x}" y="100%" dy="18" text-anchor="middle">{tick:,.6g}</text>')
    parts.append('<text class="tick" x="50%" y="100%" dy="36" text-anchor="middle">optimiser step</text>')
    return "".join(parts)


def _polyline(line: Line, steps: Values, values: Values, axis: Axis, across: Axis) -> str:
    """Return a line with its gaps; what lies outside of the axis is cut off by the frame."""
    x, y = across.place(steps) * _UNIT, (1 - axis.place(values)) * _UNIT
    good = np.isfinite(values)
    breaks = np.flatnonzero(np.diff(good.astype(int))) + 1
    pieces = [part for part in np.split(np.arange(len(values)), breaks) if len(part) > 1 and good[part[0]]]
    path = "".join("M" + "L".join(f"{x[k]:.1f} {np.clip(y[k], -9e4, 9e4):.1f}" for k in part) for part in pieces)
    style = f' style="stroke:{escape(line.colour)}"' if line.colour else ""
    case = f'<path class="case" d="{path}"/>' if line.kind == "own" else ""
    data = (
        f'data-x="{" ".join(f"{step:.0f}" for step in steps)}" data-y="{" ".join(f"{value:.5g}" for value in values)}"'
    )
    return f'{case}<path class="line {line.kind}"{style} d="{path}" {data}><title>{escape(_told(line))}</title></path>'


def _marks(line: Line, steps: Values, values: Values, axis: Axis, across: Axis) -> str:
    style = f' style="fill:{escape(line.colour)}"' if line.colour else ""
    few = 3.2 if len(values) <= 60 else 1.8
    return "".join(
        f'<circle class="mark {line.kind}"{style} cx="{_percent(across.at(step))}" cy="{_percent(1 - axis.at(value))}" '
        f'r="{few}"><title>{escape(line.name)} {_number(value)} at step {step:,.0f}</title></circle>'
        for step, value in zip(steps, values, strict=True)
        if np.isfinite(value)
    )


def _legend(chart: Chart) -> str:
    items = []
    for line in chart.lines:
        style = f' style="stroke:{escape(line.colour)}"' if line.colour else ""
        case = '<line class="case" x1="0" x2="22" y1="5" y2="5"/>' if line.kind == "own" else ""
        value = "" if line.last is None else _number(line.last)
        items.append(
            f'<li><svg viewBox="0 0 22 10" aria-hidden="true">{case}<line class="line {line.kind}"{style} '
            f'x1="0" x2="22" y1="5" y2="5"/></svg>{escape(line.name)} <b data-value>{value}</b></li>'
        )
    return f"<ul>{''.join(items)}</ul>"


def _said(chart: Chart) -> str:
    told = "; ".join(_told(line) for line in chart.lines if line.kind != "raw")
    return f"{chart.title}. {told}."


def _told(line: Line) -> str:
    """Say in a sentence what a line does."""
    good = np.flatnonzero(np.isfinite(line.values))
    if not good.size:
        return f"{line.name}: no value"
    first, last = good[0], good[-1]
    low, high = good[line.values[good].argmin()], good[line.values[good].argmax()]

    def at(place: int) -> str:
        return f"{_number(float(line.values[place]))} at step {line.steps[place]:,.0f}"

    if first == last:
        return f"{line.name}: {at(int(first))}"
    return f"{line.name}: from {at(int(first))} to {at(int(last))}; lowest {at(int(low))}, highest {at(int(high))}"


def _number(value: float) -> str:
    return f"{value:.3f}" if 0.1 <= abs(value) < 10 else f"{value:.3g}"


def _percent(part: float) -> str:
    return f"{100 * part:.2f}%"
