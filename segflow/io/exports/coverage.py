"""Which cells of a label map were predicted, and which of those with less context than others: `<scene>_coverage.tif`.

A predicted cell has low context where the scene's border, or a cell without valid input, lies within the margin: in the
rectangle of `margin` cells to either side of it on each axis. Cells outside of an area of interest, of a window or of a
sheet are context like any other, where their input is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import OutputError
from segflow.io.atomic import write_text
from segflow.io.cog import write_label_cog
from segflow.io.exports.protocol import Published
from segflow.io.exports.qml import style
from segflow.io.opening import open_source
from segflow.io.raster import RasterSpec, open_labels
from segflow.io.rat import sidecar_of
from segflow.models.card import LabelClass
from tiling import Box

NODATA, LOW, PREDICTED = 0, 1, 2
CLASSES = (
    LabelClass(id=LOW, name="low context", colour="#E69F00"),
    LabelClass(id=PREDICTED, name="predicted", colour="#56B4E9"),
)
_COLUMNS = 4096
"""Cells of a row that are worked on at once, so that memory does not grow with the width."""

Valid = Callable[[Box], NDArray[np.bool_]]


class Coverage:
    """The band. See `segflow.io.exports.Exporter`."""

    name = "coverage"
    settings: Mapping[str, Any] = {}

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the GeoTIFF, its table and its style."""
        path = folder / f"{scene}_coverage.tif"
        return path, sidecar_of(path), path.with_suffix(".qml")

    def require(self, published: Published) -> None:
        """Refuse volumes.

        Raises:
            OutputError: it is one.
        """
        if published.grid.kind != "raster":
            raise OutputError("a coverage band of a volume", "a raster", "remove outputs.coverage")

    def write(self, published: Published) -> None:
        """Write it, in bands of rows: `NODATA`, `LOW` and `PREDICTED` are 0, 1 and 2, so they are counted up.

        Raises:
            InputError: the label map, or the input where it is needed, cannot be read.
            OutputError: the file cannot be written.
        """
        shape, region = published.scene_shape, published.region
        path = self.files(published.scene, published.folder)[0]
        with closing(open_labels(str(published.labels))) as labels, _validity(published) as valid:

            def read(box: Box) -> NDArray[np.uint8]:
                found = np.empty(box.shape, np.uint8)
                for left in range(box.start[1], box.stop[1], _COLUMNS):
                    part = box.replace_axis(1, left, min(left + _COLUMNS, box.stop[1]))
                    predicted = labels.read(part).values[0] != published.nodata
                    whole = surrounded(valid, part.shift(region.start), shape, published.margin)
                    found[part.within(box)] = np.add(predicted, predicted & whole, dtype=np.uint8)
                return found

            tags = {"SEGFLOW_MODEL": published.card.name, "SEGFLOW_FINGERPRINT": published.fingerprint}
            write_label_cog(path, read, published.grid, CLASSES, nodata=NODATA, tags=tags, description="coverage")
        write_text(path.with_suffix(".qml"), style(CLASSES))


def surrounded(valid: Valid, box: Box, shape: tuple[int, ...], margin: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which cells of a box have valid cells alone within the margin: an erosion of the whole by a rectangle.

    Args:
        valid: gives (*box) bool of any box of the scene, True = valid.
        box: the wanted cells.
        shape: of the scene; what lies beyond is not valid.
        margin: cells to either side, on each axis.
    """
    from scipy.ndimage import minimum_filter1d

    wide = Box(
        tuple(max(0, a - m) for a, m in zip(box.start, margin, strict=True)),
        tuple(min(n, b + m) for n, b, m in zip(shape, box.stop, margin, strict=True)),
    )
    eroded = valid(wide).view(np.uint8)
    for axis, cells in enumerate(margin):
        if cells:
            eroded = minimum_filter1d(eroded, 2 * cells + 1, axis, mode="constant", cval=0)
    found: NDArray[np.bool_] = eroded[box.within(wide)] != 0
    return found


@contextmanager
def _validity(published: Published) -> Iterator[Valid]:
    """Give a function that tells where a scene's input is valid, in boxes of the scene.

    The label map tells it where it covers the scene; else the input is read.
    """
    spec = published.spec
    if published.region == Box.whole(published.scene_shape) and isinstance(spec, RasterSpec) and spec.aoi is None:
        with closing(open_labels(str(published.labels))) as labels:
            yield lambda box: labels.read(box).values[0] != published.nodata
        return
    with closing(open_source(spec)) as source:
        yield lambda box: source.read(box).valid
