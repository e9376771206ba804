"""A small picture of a raster, for reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioIOError

from segflow.errors import InputError
from segflow.io.gdalenv import environment, no_georeference_is_fine, reason, shown
from segflow.io.raster import RasterSpec, open_raster

_AVERAGED_CELLS = 1 << 26
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def overview(spec: RasterSpec, max_px: int = 1024) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Read a decimated picture of a raster.

    Of the bands that the spec names, those that the file calls red, green and blue are shown, else the first three,
    else the first; a palette is turned into its colours. Every band is stretched from the 2nd to the 98th percentile
    of the picture's valid cells. Cells are averaged where the file has overviews or is small, else the
    nearest is taken, so that a large file is not read whole.

    Args:
        spec: as for `open_raster`.
        max_px: longest side of the picture; a smaller raster comes as it is.

    Returns:
        The picture, (3, y, x) or (1, y, x) uint8, 0 where it is invalid; and which cells are valid, (y, x) bool (of
        the nearest cell; a collar is looked for in the picture itself; an area of interest does not count).

    Raises:
        InputError: as `open_raster`, or the file is broken.
    """
    with open_raster(spec) as source:
        rows, columns = source.grid.shape[0], source.grid.shape[1]
        factor = max(1.0, rows / max_px, columns / max_px)
        shape = (max(1, round(rows / factor)), max(1, round(columns / factor)))
        try:
            with environment(spec.path), no_georeference_is_fine(), rasterio.open(spec.path) as file:
                bands, palette = _shown_bands(file, source.bands)
                large = rows * columns > _AVERAGED_CELLS and not file.overviews(bands[0])
                how = Resampling.nearest if large or palette is not None else Resampling.average
                values = file.read(bands, out_shape=(len(bands), *shape), resampling=how)
                valid = source.decimated(shape).valid
        except RasterioIOError as error:
            raise InputError(
                f"{shown(spec.path)} cannot be read: {reason(error)}", "a whole file", "fetch or make the file again"
            ) from error
    if palette is not None:
        colours = np.zeros((256, 3), dtype=np.uint8)
        colours[list(palette)] = [colour[:3] for colour in palette.values()]
        picture = np.moveaxis(colours[values[0]], -1, 0)
    else:
        picture = np.stack([_stretched(band, valid) for band in values])
    return np.where(valid, picture, np.uint8(0)), valid


def _shown_bands(file: Any, bands: tuple[int, ...]) -> tuple[list[int], dict[int, tuple[int, ...]] | None]:
    """Choose the bands to show, and the palette where there is one."""
    kinds = {file.colorinterp[band - 1]: band for band in reversed(bands)}
    if all(kind in kinds for kind in _RGB):
        return [kinds[kind] for kind in _RGB], None
    if file.colorinterp[bands[0] - 1] == ColorInterp.palette and file.dtypes[bands[0] - 1] == "uint8":
        return [bands[0]], file.colormap(bands[0])
    return list(bands[:3] if len(bands) >= 3 else bands[:1]), None


def _stretched(band: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Stretch from the 2nd to the 98th percentile to 0..255."""
    seen = band[valid & np.isfinite(band)] if band.dtype.kind == "f" else band[valid]
    if not seen.size:
        return np.zeros(band.shape, dtype=np.uint8)
    low, high = np.percentile(seen, (2, 98)).astype(np.float64)
    if high <= low:
        return np.full(band.shape, 128, dtype=np.uint8)
    wide = np.nan_to_num(band.astype(np.float64), nan=low, posinf=high, neginf=low)
    stretched: NDArray[np.uint8] = np.clip(np.rint((wide - low) * (255.0 / (high - low))), 0, 255).astype(np.uint8)
    return stretched
