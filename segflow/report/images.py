"""Previews to pictures that a page can hold: palette PNG for labels, PNG or JPEG for the input, as data URIs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segflow.report.codec import saved, uri
from segflow.report.numbers import percent
from segflow.report.preview import LONGEST_PX, Preview
from segflow.report.schema import ClassReport

BUDGET_BYTES = 2_200_000
"""All pictures of one page together, as base64; the page stays under 3 MB."""

_PNG_LIMIT = 160_000
_RIGHT = (150, 158, 168)
_WRONG = (214, 40, 57)


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        kind: "input", "labels", "reference" or "difference".
        title: heading.
        alt: what a reader who cannot see it is told.
        uri: the picture itself, as a data URI.
        note: what follows the heading.
    """

    kind: str
    title: str
    alt: str
    uri: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """The panels of one preview, all of the same shape.

    Attributes:
        title: of the preview.
        note: of the preview.
        width: in cells of equal sides, for the layout.
        height: likewise.
        panels: one to four.
    """

    title: str
    note: str
    width: float
    height: float
    panels: tuple[Panel, ...]


NAMES = ("Prediction", "Reference")
"""How labels, and what they are compared with, are called."""


def figures(
    previews: Sequence[Preview],
    classes: Sequence[ClassReport],
    budget: int = BUDGET_BYTES,
    names: tuple[str, str] = NAMES,
) -> tuple[Figure, ...]:
    """Return the pictures of previews, thinned until together they fit the budget (bytes of base64)."""
    longest = LONGEST_PX
    while True:
        made = tuple(_figure(preview.thinned(longest), classes, names) for preview in previews)
        if longest <= 64 or sum(len(panel.uri) for figure in made for panel in figure.panels) <= budget:
            return made
        longest = longest * 3 // 4


def _figure(preview: Preview, classes: Sequence[ClassReport], names: tuple[str, str]) -> Figure:
    height, width = preview.image.shape[:2]
    panels = [Panel("input", "Input", f"The input. {preview.title}.", _photograph(preview))]
    prediction = reference = None
    if preview.labels is not None:
        prediction = _positions(preview.labels, preview.valid, classes)
        alt = f"{names[0]}. {preview.title}. {_shares(prediction, classes)}"
        panels.append(Panel("labels", names[0], alt, _coloured(prediction, classes)))
    if preview.reference is not None:
        reference = _positions(preview.reference, None, classes)
        alt = f"{names[1]}. {preview.title}. {_shares(reference, classes)}"
        panels.append(Panel("reference", names[1], alt, _coloured(reference, classes)))
    if prediction is not None and reference is not None:
        panels.append(_difference(preview.title, prediction, reference, len(classes)))
    return Figure(preview.title, preview.note, float(width), height * preview.aspect, tuple(panels))


def _positions(
    labels: NDArray[Any], valid: NDArray[np.bool_] | None, classes: Sequence[ClassReport]
) -> NDArray[np.int64]:
    """Return (y, x) positions in `classes`; len(classes) where there is no class."""
    positions = np.full(labels.shape, len(classes), np.int64)
    for place, item in enumerate(classes):
        positions[labels == item.id] = place
    if valid is not None:
        positions[~valid] = len(classes)
    return positions


def _shares(positions: NDArray[np.int64], classes: Sequence[ClassReport]) -> str:
    """Say what a label map shows: the largest classes with their shares of what is labelled."""
    counts = np.bincount(positions.reshape(-1), minlength=len(classes) + 1)[: len(classes)]
    total = int(counts.sum())
    if not total:
        return "Nothing is labelled."
    largest = sorted(range(len(classes)), key=lambda place: -int(counts[place]))[:5]
    named = [f"{classes[place].name} {100 * counts[place] / total:.0f} %" for place in largest if counts[place]]
    return ", ".join(named) + "."


def _difference(title: str, prediction: NDArray[np.int64], reference: NDArray[np.int64], nothing: int) -> Panel:
    scored = (prediction != nothing) & (reference != nothing)
    wrong = scored & (prediction != reference)
    share = percent(int(wrong.sum()), int(scored.sum()))
    picture = np.where(wrong, 1, np.where(scored, 0, 2)).astype(np.uint8)
    return Panel(
        "difference",
        "Difference",
        f"Where the two differ: {share} of the cells that are shown and scored. {title}.",
        _palette(picture, [_RIGHT, _WRONG], 2),
        f"red where different, {share}",
    )


def _coloured(positions: NDArray[np.int64], classes: Sequence[ClassReport]) -> str:
    colours = [tuple(bytes.fromhex(item.colour[1:])) for item in classes]
    if len(classes) < 256:
        return _palette(positions.astype(np.uint8), colours, len(classes))
    table = np.array([(*colour, 255) for colour in colours] + [(0, 0, 0, 0)], np.uint8)
    return uri(saved(Image.fromarray(table[positions]), "PNG"), "png")


def _palette(picture: NDArray[np.uint8], colours: Sequence[tuple[int, ...]], transparent: int) -> str:
    image = Image.frombytes("P", picture.shape[::-1], picture.tobytes())
    image.putpalette([value for colour in (*colours, (0, 0, 0)) for value in colour])
    return uri(saved(image, "PNG", compress_level=6, transparency=transparent), "png")


def _photograph(preview: Preview) -> str:
    pixels = preview.image
    if preview.valid is not None and not preview.valid.all():
        pixels = np.where(preview.valid[..., None], pixels, np.uint8(128))
    grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
    if pixels.size <= 4 * _PNG_LIMIT:  # a photograph of more is over the limit as a PNG
        exact = saved(image, "PNG")
        if len(exact) <= _PNG_LIMIT:
            return uri(exact, "png")
    return uri(saved(image, "JPEG", quality=88, optimize=True), "jpeg")
