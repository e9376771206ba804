"""One door to every format: a spec is plain data and goes to workers; opening it gives a `Source`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from segflow.errors import RecipeError
from segflow.grid import Grid
from segflow.io.gdalenv import environment
from segflow.io.identity import raster_files
from segflow.io.place import bbox_window, compare_rasters
from segflow.io.prepared import PreparedVolume
from segflow.io.raster import RasterSpec, open_raster
from segflow.io.raster_header import open_file
from segflow.io.source import Source
from segflow.io.volume import VolumeSource, VolumeSpec, compare_volumes, open_volume
from segflow.io.volume_formats import files_of_volume
from tiling import Box

Spec = RasterSpec | VolumeSpec


def load_libraries(kind: str) -> None:
    """Load what opens scenes of a kind and comes with the first of them, so that its memory can be measured before."""
    if kind == "volume":
        import nibabel  # noqa: F401


def open_source(spec: Spec) -> Source:
    """Open a scene; reads headers only.

    Raises:
        InputError: a file is missing or broken.
    """
    if isinstance(spec, RasterSpec):
        return open_raster(spec)
    volume = open_volume(spec)
    return volume if spec.settled is None else PreparedVolume(volume, spec.settled, spec.scratch)


def files_of(spec: Spec) -> Iterator[Path]:
    """Yield the local files that a scene is read from, a VRT's sources among them; of what is remote, none.

    Raises:
        InputError: a file is missing or broken.
    """
    if isinstance(spec, VolumeSpec):
        for path in spec.paths:
            yield from files_of_volume(path)
        return
    with environment(spec.path), open_file(spec.path) as file:
        yield from raster_files(file)
    if spec.mask is not None:
        yield from files_of(RasterSpec(spec.mask))
    if spec.aoi is not None and Path(spec.aoi).is_file():
        yield Path(spec.aoi)


def compare_places(one: Source, two: Source) -> str | None:
    """Check that a reference lies on its scene's grid, cell for cell.

    Returns:
        A notice where both say so in different words, such as two spellings of one CRS; None where all agrees.

    Raises:
        GridMismatchError: they lie on different grids.
    """
    if isinstance(one, VolumeSource) and isinstance(two, VolumeSource):
        compare_volumes(one, two)
        return None
    reference = f"the reference {two.name}" if two.name == one.name else two.name
    return compare_rasters(one.grid, two.grid, one.name, reference)


def window_of(
    grid: Grid, window: tuple[int, int, int, int] | None, bbox: tuple[float, float, float, float] | None
) -> Box:
    """Return the cells of a window (x, y, width, height in cells) or of a box in the raster's CRS.

    Raises:
        RecipeError: it lies outside of the raster.
    """
    if bbox is not None:
        return bbox_window(grid, bbox)
    if window is None:
        return Box.whole(grid.shape)
    x, y, width, height = window
    wanted = Box((y, x), (y + height, x + width)) if width > 0 and height > 0 else None
    inside = None if wanted is None else wanted.intersect(Box.whole(grid.shape))
    if inside is None or x < 0 or y < 0:
        raise RecipeError(
            f"the window {window} (x, y, width, height) lies outside of the raster",
            f"cells of {grid.named(grid.shape)}",
            "correct the window",
        )
    return inside
