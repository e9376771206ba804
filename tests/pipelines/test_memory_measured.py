"""What runs hold, measured by the system in processes of their own, against what the plan says that they will."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segflow.models.card import LabelClass
from tests.dicoms import write_series
from tests.making import make_model, write_labels, write_raster
from tests.pipelines.measuring import Measured, measure
from tests.segflow.io.exports.making import LIVER, REST, SPLEEN

TINY = {"arguments": {"width": 1, "depth": 1}, "stride": 2}
"""A network so small that it is the pipeline that is measured."""
TILE7 = Path(__file__).parents[3] / "shared/data/aerial-dubai/mosaic/tile7.tif"


def many(count: int) -> tuple[LabelClass, ...]:
    return tuple(LabelClass(id=k, name=f"class {k}", colour=f"#{k * 1000:06x}") for k in range(count))


def raster_recipe(name: str, folder: Path, inputs: Path, card: dict[str, Any], **parts: Any) -> dict[str, Any]:
    weights = make_model(folder / f"{name}-model", **TINY, **card)
    compute = {"backend": "openvino", **parts.pop("compute", {})}
    return {
        "kind": "raster",
        "name": name,
        "inputs": str(inputs),
        "model": {"weights": str(weights)},
        "compute": compute,
        **parts,
    }


def volume_recipe(
    name: str, folder: Path, shape: tuple[int, ...], card: dict[str, Any], **parts: Any
) -> dict[str, Any]:
    path = folder / f"{name}.nii"
    plane = np.random.default_rng(0).integers(0, 255, shape[1:], np.int16)
    nib.save(nib.Nifti1Image(np.broadcast_to(plane, shape), np.eye(4)), path)
    weights = make_model(folder / f"{name}-model", "volume", patch=(64, 64, 64), **TINY, **card)
    compute = {"backend": "openvino", **parts.pop("compute", {})}
    return {
        "kind": "volume",
        "name": name,
        "inputs": str(path),
        "model": {"weights": str(weights)},
        "compute": compute,
        **parts,
    }


def require_as_planned(found: Measured) -> None:
    """The projection is of the largest block; a worker may have got a smaller one."""
    planned = found.plan["memory"]["worker_bytes"]
    peak = max(found.worker_peaks)
    assert 0.8 <= peak / planned <= 1.2, f"{peak / 2**20:.0f} MiB, of {planned / 2**20:.0f} planned"
    assert sum(found.peaks) <= 1.2 * found.plan["memory_bytes"]
    assert found.report["run"]["peak_rss_bytes"] <= 1.01 * max(found.peaks)


def require_as_planned_on_disk(found: Measured, folder: Path) -> None:
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert written <= 1.2 * found.plan["disk"]["output_most_bytes"]


@pytest.mark.slow
def test_a_raster_with_polygons_a_sieve_and_a_reference_holds_what_is_planned(tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "a.tif", (2048, 2048))
    truth = np.add.outer(np.arange(2048), np.arange(2048)) // 300 % 4
    write_labels(tmp_path / "t.tif", truth.astype(np.uint8), raster)
    card = {"classes": many(4), "ignore": (), "patch": (256, 256)}
    recipe = raster_recipe("finish", tmp_path, raster, card, tiling={"overlap": "32px"})
    recipe |= {"postprocess": {"sieve": 8}, "references": str(tmp_path / "t.tif")}
    found = measure({**recipe, "outputs": {"polygons": "gpkg", "coverage": True, "confidence": True}}, tmp_path)
    require_as_planned(found)
    require_as_planned_on_disk(found, tmp_path / "finish")


def test_a_series_whose_segmentation_is_built_in_memory_holds_what_is_planned(tmp_path: Path) -> None:
    values = np.add.outer(np.arange(160), np.add.outer(np.arange(160), np.arange(96))) // 9 % 255
    write_series(tmp_path / "s", values.astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    card = {"classes": (REST, LIVER, SPLEEN), "patch": (64, 64, 64)}
    weights = make_model(tmp_path / "model", "volume", **TINY, **card)
    recipe = {
        "kind": "volume",
        "name": "series",
        "inputs": str(tmp_path / "s"),
        "model": {"weights": str(weights)},
        "compute": {"backend": "openvino"},
        "tiling": {"overlap": "8px"},
        "outputs": {"dicom_seg": True, "bids": True, "seg_nrrd": True},
    }
    found = measure(recipe, tmp_path)
    require_as_planned(found)
    require_as_planned_on_disk(found, tmp_path / "series")


def test_a_raster_swept_whole_holds_what_is_planned(tmp_path: Path) -> None:
    raster = write_raster(tmp_path / "a.tif", (1536, 1536))
    card = {"classes": many(60), "ignore": (), "patch": (256, 256)}
    require_as_planned(measure(raster_recipe("whole", tmp_path, raster, card), tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [5, 60])
def test_a_raster_whose_probabilities_are_kept_holds_what_is_planned(tmp_path: Path, classes: int) -> None:
    raster = write_raster(tmp_path / "a.tif", (3072, 2048))
    card = {"classes": many(classes), "ignore": (), "patch": (256, 256)}
    recipe = raster_recipe("each", tmp_path, raster, card, tiling={"overlap": "32px"})
    require_as_planned(measure({**recipe, "outputs": {"probabilities": True}}, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "block", "workers"), [(2, 1024, 1), (60, "whole", 1), (200, "auto", 1), (60, "auto", 2)]
)
def test_a_raster_holds_what_is_planned(tmp_path: Path, classes: int, block: Any, workers: int) -> None:
    raster = write_raster(tmp_path / "a.tif", (4096, 2048))
    card = {"classes": many(classes), "ignore": (), "patch": (256, 256)}
    tiling, compute = {"block": block, "overlap": "32px"}, {"workers": workers}
    recipe = raster_recipe("raster", tmp_path, raster, card, tiling=tiling, compute=compute)
    require_as_planned(measure(recipe, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("spacing", "workers"), [(None, 1), ((1.5, 1.5, 1.5), 1), ((0.8, 0.8, 0.8), 1), (None, 2)])
def test_a_volume_holds_what_is_planned(tmp_path: Path, spacing: Any, workers: int) -> None:
    card = {"classes": many(40), **({} if spacing is None else {"spacing": spacing})}
    tiling, compute = {"overlap": "8px"}, {"workers": workers}
    recipe = volume_recipe("volume", tmp_path, (256, 192, 192), card, tiling=tiling, compute=compute)
    require_as_planned(measure(recipe, tmp_path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_raster_of_40000_squared_holds_no_more_than_a_tenth_over_one_of_10000_squared(tmp_path: Path) -> None:
    tile = TILE7 if TILE7.exists() else write_raster(tmp_path / "tile.tif", (2048, 2048))
    peaks = []
    for cells in (10_000, 40_000):
        repeated = write_repeated(tmp_path / f"{cells}.vrt", tile, cells)
        recipe = raster_recipe(
            f"r{cells}", tmp_path, repeated, {"patch": (512, 512)}, tiling={"block": 10_000, "overlap": "32px"}
        )
        found = measure(recipe, tmp_path)
        require_as_planned(found)
        peaks.append(max(found.peaks))
    assert peaks[1] <= 1.1 * peaks[0]


@pytest.mark.slow
def test_a_hundred_classes_on_a_volume_of_512_512_600_run_in_5_gb(tmp_path: Path) -> None:
    """A float32 array of classes x volume alone would take 63 GB."""
    tiling, compute = {"accumulator": "int16", "overlap": "8px"}, {"memory": "5 GB"}
    recipe = volume_recipe("many", tmp_path, (512, 512, 600), {"classes": many(100)}, tiling=tiling, compute=compute)
    found = measure(recipe, tmp_path)
    require_as_planned(found)
    assert max(found.peaks) <= 5_000_000_000


def write_repeated(path: Path, tile: Path, cells: int) -> Path:
    """Write a VRT of a square that repeats a tile of three bands."""
    import rasterio

    with rasterio.open(tile) as file:
        rows, columns = file.shape
    sources = []
    for top, left in product(range(0, cells, rows), range(0, cells, columns)):
        size = f'xSize="{min(columns, cells - left)}" ySize="{min(rows, cells - top)}"'
        sources.append(f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{left}" yOff="{top}" {size}/>')
    bands = []
    for band in (1, 2, 3):
        head = f'<SourceFilename relativeToVRT="0">{tile}</SourceFilename><SourceBand>{band}</SourceBand>'
        parts = "".join(f"<SimpleSource>{head}{source}</SimpleSource>" for source in sources)
        bands.append(f'<VRTRasterBand dataType="Byte" band="{band}">{parts}</VRTRasterBand>')
    text = f'<VRTDataset rasterXSize="{cells}" rasterYSize="{cells}">{"".join(bands)}</VRTDataset>'
    path.write_text(text)
    return path
