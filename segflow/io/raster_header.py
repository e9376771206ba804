"""What a raster's header says: which file, which bands, which type, which cells count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError

from segflow.errors import InputError
from segflow.io.cutshort import require_whole_file
from segflow.io.gdalenv import environment, is_plain, is_remote, no_georeference_is_fine, reason, shown
from segflow.io.mask import MaskRule, mask_kind, nodata_range
from segflow.io.place import grid_of


@dataclass(frozen=True, slots=True)
class RasterSpec:
    """What to open and how; plain values, so that a worker can be sent it.

    Attributes:
        path: a path, /vsi path or URL that GDAL opens.
        bands: bands to read, 1-based, in this order; None = all but alpha. A band named here is an input and no
            mask, even if the file calls it alpha.
        nodata: value that means no data, in place of the file's own.
        collar: nodata counts only where it hangs together with the border.
        aoi: a vector file; only cells inside its polygons are wanted.
        mask: a one-band raster on the same grid; cells where it is 0, or has no data, are not valid.
    """

    path: str
    bands: tuple[int, ...] | None = None
    nodata: float | None = None
    collar: bool = False
    aoi: str | None = None
    mask: str | None = None


def open_file(path: str) -> Any:
    """Open a file for reading, with errors in our words."""
    if is_plain(path) and ":" not in path and not Path(path).exists():
        raise InputError(f"{path} does not exist", "a raster that GDAL opens", "check the path")
    try:
        with environment(path, _has_remote_mask(path)), no_georeference_is_fine():
            file = rasterio.open(path, sharing=False)
    except (RasterioError, OSError, ValueError) as error:
        raise InputError(
            f"{shown(path)} cannot be opened: {reason(error)}",
            "a raster that GDAL opens, such as GeoTIFF, JP2, PNG or VRT",
            "check the path, the rights and, for a URL, the network; `gdalinfo` on it says more",
        ) from error
    try:
        if file.count == 0:
            inner = ", ".join(file.subdatasets[:3])
            raise InputError(
                f"{shown(path)} holds no bands" + (f" but subdatasets: {inner}" if inner else ""),
                "a raster with at least one band",
                "name one of its subdatasets" if inner else "check the file",
            )
        require_whole_file(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _has_remote_mask(path: str) -> bool:
    """Tell whether a .msk lies beside a remote file: one request, where GDAL's own search takes thirty."""
    if not is_remote(path) or "?" in path:
        return False
    try:
        with environment(path), no_georeference_is_fine(), rasterio.open(f"{path}.msk"):
            return True
    except (RasterioError, OSError):
        return False


def choose_bands(file: Any, spec: RasterSpec) -> tuple[int, ...]:
    """Return the bands to read: those of the spec, else all but alpha (an alpha alone is read).

    Raises:
        InputError: a band is asked for that the file does not have.
    """
    if spec.bands is None:
        return _all_but_alpha(file)
    missing = [band for band in spec.bands if not 1 <= band <= file.count]
    if missing or not spec.bands:
        raise InputError(
            f"{shown(spec.path)} has {file.count} bands, asked for {', '.join(map(str, missing)) or 'none'}",
            f"bands from 1 to {file.count}",
            "correct inputs.bands, or the model's bands",
        )
    return tuple(spec.bands)


def _all_but_alpha(file: Any) -> tuple[int, ...]:
    bands = tuple(b for b, kind in zip(file.indexes, file.colorinterp, strict=True) if kind != ColorInterp.alpha)
    return bands or tuple(file.indexes)


def common_type(file: Any, bands: tuple[int, ...], path: str) -> np.dtype[Any]:
    """Return the type that holds the values of all these bands.

    Raises:
        InputError: one of them holds complex numbers.
    """
    names = {file.dtypes[band - 1] for band in bands}
    if any("complex" in name for name in names):
        raise InputError(
            f"{shown(path)} holds complex numbers ({', '.join(sorted(names))})",
            "whole or floating-point values",
            "take the magnitude or the power first (gdal: VRT pixel function mod or intensity)",
        )
    return np.result_type(*(np.dtype(name) for name in sorted(names)))


def rule_of(file: Any, bands: tuple[int, ...], spec: RasterSpec) -> MaskRule:
    """Return how validity is told: nodata of each band, alpha unless it is read, and what the file's mask adds."""
    alphas = [b for b, kind in zip(file.indexes, file.colorinterp, strict=True) if kind == ColorInterp.alpha]
    alpha = next((band for band in alphas if band not in bands), None)
    ranges = []
    for band in bands:
        nodata = spec.nodata if spec.nodata is not None else file.nodatavals[band - 1]
        ranges.append(nodata_range(nodata, np.dtype(file.dtypes[band - 1])))
    flags = [[flag.name for flag in file.mask_flag_enums[band - 1]] for band in bands]
    return MaskRule(tuple(ranges), alpha, mask_kind(flags, spec.nodata is not None))


def notices_of(file: Any, bands: tuple[int, ...], spec: RasterSpec) -> tuple[str, ...]:
    """Return what people must know of a file: a nodata value that cannot occur, a missing georeference."""
    found = []
    for band in bands:
        nodata = spec.nodata if spec.nodata is not None else file.nodatavals[band - 1]
        kind = file.dtypes[band - 1]
        if nodata is not None and nodata == nodata and nodata_range(nodata, np.dtype(kind)) is None:
            found.append(f"{shown(spec.path)}: nodata {nodata:g} cannot occur in {kind}; nothing is masked")
    if grid_of(file).affine is None:
        points = " but ground control points (gdalwarp applies them)" if file.gcps[0] else ""
        found.append(f"{shown(spec.path)} has no georeference{points}: the result will have none either")
    return tuple(dict.fromkeys(found))
