"""Which part of a scene is made: all of it, or a window for a look."""

from __future__ import annotations

from pipelines.planning.scenes import Selection
from segflow.errors import RecipeError
from segflow.io.opening import window_of
from segflow.io.source import Source
from tiling import Box


def region_of(source: Source, whole: Box, selection: Selection) -> Box:
    """Return the cells that are asked for.

    Args:
        source: the scene, or the mosaic that it is a sheet of.
        whole: the scene's cells of it.
        selection: a part of the scene, for a look.

    Raises:
        RecipeError: a volume has no windows, or two are named.
        InputError: the window lies elsewhere.
    """
    if selection.window is None and selection.bbox is None:
        return whole
    if selection.window is not None and selection.bbox is not None:
        raise RecipeError("both a window and a bbox", "one of them", "drop one")
    if source.grid.kind != "raster":
        raise RecipeError("--window or --bbox for a volume", "a raster", "use --limit N for a look at volumes")
    return window_of(source.grid.crop(whole), selection.window, selection.bbox).shift(whole.start)


def part_of(region: Box, whole: Box, source: Source) -> tuple[str, ...]:
    """Return a notice where only a part of a raster is made."""
    if region == whole:
        return ()
    top, left = (a - b for a, b in zip(region.start, whole.start, strict=True))
    (height, width), (rows, columns) = region.shape, whole.shape
    return (
        f"only a window of {source.name}: x {left}, y {top}, width {width}, height {height} of {columns} x {rows} "
        f"(the same of another file: gdal_translate -srcwin {left} {top} {width} {height})",
    )
