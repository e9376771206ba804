"""Published label maps for the tests of polygons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from segflow.io.exports import Published
from segflow.io.gdalenv import no_georeference_is_fine
from segflow.io.raster import RasterSpec, open_raster
from segflow.models.card import Card, LabelClass
from tests.segflow.io.vectors.test_simplify import blobs

NAMES = ("bare ground", "café & roof", "road", "water")
UTM = Affine(0.5, 0, 500000, 0, -0.5, 5400000)
ROTATED = Affine(0.433, 0.25, 500000, 0.25, -0.433, 5400000)


def card() -> Card:
    """Four classes."""
    found = tuple(LabelClass(id=number, name=name, colour="#884422") for number, name in enumerate(NAMES))
    return Card(
        name="four", kind="raster", architecture="unet", classes=found, channels=("grey",), stride=1, patch=(64, 64)
    )


def labels(seed: int = 3, shape: tuple[int, int] = (180, 140)) -> NDArray[np.uint8]:
    """Blobs with a corner of nodata."""
    values = blobs(shape, seed)
    values[:30, :25] = 255
    return values


def publish(
    folder: Path,
    values: NDArray[np.uint8],
    crs: Any = "EPSG:32633",
    transform: Affine | None = UTM,
    confidence: NDArray[np.uint8] | None = None,
    scene: str = "scene",
) -> Published:
    """Write a label map, and a confidence map where one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": "uint8"}
    if crs is not None:
        profile["crs"] = CRS.from_user_input(crs)
    if transform is not None:
        profile["transform"] = transform
    files = {"labels": folder / f"{scene}_labels.tif"}
    maps = {"labels": (values, 255)}
    if confidence is not None:
        files["confidence"] = folder / f"{scene}_confidence.tif"
        maps["confidence"] = (confidence, 0)
    for layer, path in files.items():
        with no_georeference_is_fine(), rasterio.open(path, "w", nodata=maps[layer][1], **profile) as file:
            file.write(maps[layer][0], 1)
    source = open_raster(RasterSpec(str(files["labels"]), (1,)))
    grid = source.grid
    source.close()
    return Published(scene, folder, files, grid, card(), ("in.tif",), RasterSpec("in.tif"), 255, "f00d", "beef")
