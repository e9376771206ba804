"""Polygons of a large label map: seconds, peak memory and sizes, for each format in a process of its own.

    python -m benchmarks.polygons --side 30000

The map has one background with a hole for nearly each of the million polygons, the hardest case: one feature
that spans the scene. It is made of one seamless tile, so that it can be made and counted anywhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window
from scipy.ndimage import gaussian_filter

from segflow.io.exports import Published
from segflow.io.exports.polygons import Polygons
from segflow.io.raster import RasterSpec, open_raster
from segflow.memory import peak_rss_bytes, rss_bytes
from segflow.models.card import Card, LabelClass

_TILE = 3000
_CLASSES = tuple(
    LabelClass(id=i, name=name, colour="#888888") for i, name in enumerate(("rest", "roof", "road", "tree"))
)


def tile(seed: int = 0) -> NDArray[np.uint8]:
    """Blobs of three classes on a background, (3000, 3000), that go on from one side to the other."""
    random = np.random.default_rng(seed)
    noise = gaussian_filter(random.normal(size=(_TILE, _TILE)), 4.8, mode="wrap")
    kinds = np.digitize(gaussian_filter(random.normal(size=(_TILE, _TILE)), 40, mode="wrap") * 300, [-1.0, 1.0]) + 1
    return np.where(noise > np.quantile(noise, 0.8), kinds, 0).astype(np.uint8)


def make(path: Path, side: int) -> None:
    """Write the map, (side, side) uint8, in UTM with cells of half a metre."""
    piece = tile()
    profile = {"driver": "GTiff", "height": side, "width": side, "count": 1, "dtype": "uint8", "crs": "EPSG:32633"}
    profile |= {"transform": Affine(0.5, 0, 500000, 0, -0.5, 5400000), "nodata": 255}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "zstd"}
    with rasterio.open(path, "w", **profile) as file:
        for first in range(0, side, 512):
            rows = np.arange(first, min(first + 512, side)) % _TILE
            values = np.tile(piece[rows], (1, -(-side // _TILE)))[:, :side]
            file.write(values, 1, window=Window(0, first, side, len(rows)))


def measure(folder: Path, form: str, options: dict[str, float]) -> dict[str, object]:
    """Write one format in this process."""
    labels = folder / "scene_labels.tif"
    card = Card(
        name="bench",
        kind="raster",
        architecture="unet",
        classes=_CLASSES,
        channels=("grey",),
        stride=1,
        patch=(64, 64),
    )
    source = open_raster(RasterSpec(str(labels), (1,)))
    files, spec = {"labels": labels}, RasterSpec(str(labels))
    scene = Published("scene", folder, files, source.grid, card, (), spec, 255, "bench", "bench")
    source.close()
    exporter = Polygons((form,), **options)  # type: ignore[arg-type]
    exporter.require(scene)
    before, began, cpu = rss_bytes(), perf_counter(), process_time()
    exporter.write(scene)
    return {
        "format": form,
        "seconds": round(perf_counter() - began, 1),
        "cpu_seconds": round(process_time() - cpu, 1),
        "peak_mib": peak_rss_bytes() >> 20,
        "before_mib": before >> 20,
        "file_mib": exporter.files("scene", folder)[0].stat().st_size >> 20,
        **options,
    }


def main() -> None:
    """Make the map, then measure each format in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--folder", type=Path, default=Path("bench-polygons"))
    parser.add_argument("--formats", nargs="+", default=["gpkg", "parquet", "fgb", "geojson"])
    parser.add_argument("--options", type=json.loads, default={}, help="options of outputs.polygons, as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.one:
        print(json.dumps(measure(told.folder, told.one, told.options)))
        return
    told.folder.mkdir(parents=True, exist_ok=True)
    made = told.folder / f"map-{told.side}.tif"
    if not made.exists():
        make(made, told.side)
    labels = told.folder / "scene_labels.tif"
    labels.unlink(missing_ok=True)
    labels.hardlink_to(made)
    for form in told.formats:
        command = [sys.executable, "-m", "benchmarks.polygons", "--folder", str(told.folder), "--one", form]
        subprocess.run([*command, "--options", json.dumps(told.options)], check=True)


if __name__ == "__main__":
    main()
