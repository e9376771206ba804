"""What the tests of rasters share: a writer of small rasters that uses rasterio alone."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

WriteRaster = Callable[..., Path]


@pytest.fixture(scope="session")
def write_raster(tmp_path_factory: pytest.TempPathFactory) -> WriteRaster:
    """Write (band, y, x) values into a new folder, in UTM 33 N at 10 m unless told otherwise.

    Options go to rasterio.open, except `mask` (y, x), `alpha` (y, x), `colormap`, `env` (GDAL's settings), `tags` and
    `name`; crs=None and transform=None write none.
    """
    numbers = itertools.count()
    folder = tmp_path_factory.mktemp("rasters")

    def write(values: NDArray[Any], name: str = "scene.tif", **options: Any) -> Path:
        path = folder / str(next(numbers)) / name
        path.parent.mkdir()
        extra = {key: options.pop(key, None) for key in ("mask", "alpha", "colormap", "env", "tags")}
        defaults = {
            "driver": "GTiff",
            "crs": "EPSG:32633",
            "transform": Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5600000.0),
        }
        profile = {key: value for key, value in (defaults | options).items() if value is not None}
        alpha = extra["alpha"]
        bands = values if alpha is None else np.concatenate([values, alpha[None].astype(values.dtype)])
        count, height, width = bands.shape
        with warnings.catch_warnings(), rasterio.Env(**(extra["env"] or {})):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(
                path, "w", count=count, height=height, width=width, dtype=bands.dtype, **profile
            ) as file:
                if alpha is not None:
                    file.colorinterp = [*file.colorinterp[:-1], ColorInterp.alpha]
                if extra["colormap"] is not None:
                    file.write_colormap(1, extra["colormap"])
                if extra["tags"] is not None:
                    file.update_tags(**extra["tags"])
                file.write(bands)
                if extra["mask"] is not None:
                    file.write_mask(extra["mask"])
        return path

    return write
