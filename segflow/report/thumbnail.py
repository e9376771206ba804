"""The first pictures of a scene's page, small, in one: for where a whole page is too much."""

from __future__ import annotations

import re
from base64 import b64decode
from io import BytesIO

from PIL import Image

from segflow.report.codec import saved, uri

MOST_BYTES = 90_000
"""A small picture as a data URI, at most."""
_LONGEST = 384
_PANELS = 2
_GAP = 6
_PANEL = re.compile(r'aspect-ratio:([\d.]+)/([\d.]+)"><img src="data:image/(?:png|jpeg);base64,([A-Za-z0-9+/=]+)"')


def thumbnail(page: str, most_bytes: int = MOST_BYTES) -> str | None:
    """Return input and labels of a scene's page side by side, as a data URI; None where it has no pictures.

    Args:
        page: its HTML, as `scene_page` made it.
        most_bytes: of the data URI; the picture is made smaller until it fits.
    """
    found = [match.groups() for _, match in zip(range(_PANELS), _PANEL.finditer(page), strict=False)]
    longest = _LONGEST
    while found:
        panels = [_panel(b64decode(data), float(width), float(height), longest) for width, height, data in found]
        made = uri(saved(_beside(panels), "PNG", optimize=True), "png")
        if len(made) > most_bytes:
            made = uri(saved(_beside(panels), "JPEG", quality=80, optimize=True), "jpeg")
        if len(made) <= most_bytes or longest <= 32:
            return made
        longest = longest * 3 // 4
    return None


def _panel(data: bytes, width: float, height: float, longest: int) -> Image.Image:
    """Return a picture in its true proportions, on white; label maps keep their colours."""
    with Image.open(BytesIO(data)) as opened:
        labels, whole = opened.mode == "P", opened.convert("RGBA")
    scale = longest / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    whole = whole.resize(size, Image.Resampling.NEAREST if labels else Image.Resampling.BOX)
    ground = Image.new("RGBA", size, "white")
    ground.alpha_composite(whole)
    return ground.convert("RGB")


def _beside(panels: list[Image.Image]) -> Image.Image:
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    row = Image.new("RGB", (width, max(panel.height for panel in panels)), "white")
    left = 0
    for panel in panels:
        row.paste(panel, (left, 0))
        left += panel.width + _GAP
    return row
