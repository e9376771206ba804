"""`inputs.mosaic`: each sheet takes its context from its neighbours, so that its labels are those of the whole."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from pipelines import run
from segflow.errors import InputError, RecipeError, SegflowError
from segflow.io.mosaic import mosaic_of
from segflow.io.raster import RasterSpec, open_raster
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_labels, write_raster
from tiling import Box

ROWS, COLUMNS = (0, 90, 170, 300), (0, 101, 260)


def moved(affine: Affine, right: float, down: float) -> Affine:
    a, b, c, d, e, f = affine[:6]
    return Affine(a, b, a * right + b * down + c, d, e, d * right + e * down + f)


def cut(raster: Path, folder: Path, rows: Sequence[int] = ROWS, columns: Sequence[int] = COLUMNS) -> list[Path]:
    """Cut a raster into sheets, row-major, each with its own place in the world."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with rasterio.open(raster) as file:
        for (top, bottom), (left, right) in product(pairwise(rows), pairwise(columns)):
            window = Window(left, top, right - left, bottom - top)
            profile = {
                key: value for key, value in file.profile.items() if key not in ("blockxsize", "blockysize", "tiled")
            }
            transform = moved(file.transform, left, top)
            profile |= {"height": bottom - top, "width": right - left, "transform": transform}
            path = folder / f"r{top}_c{left}.tif"
            with rasterio.open(path, "w", **profile) as sheet:
                sheet.colorinterp = file.colorinterp
                sheet.write(file.read(window=window))
            made.append(path)
    return made


def recipe_of(folder: Path, scenes: Any, model: Path, mosaic: bool = True, **parts: Any) -> Recipe:
    paths = [str(path) for path in scenes] if isinstance(scenes, list) else str(scenes)
    return parse_recipe(
        {
            "kind": "raster",
            "inputs": {"path": paths, "mosaic": mosaic, **parts.pop("inputs", {})},
            "model": {"weights": str(model)},
            "outputs": {"folder": str(folder), **parts.pop("outputs", {})},
            **parts,
        },
        folder,
    )


def require_windows_of(whole: Path, folder: Path, sheets: Sequence[Path], layers: Sequence[str] = ("labels",)) -> None:
    """Every sheet's output must hold the bytes of its window of the whole's, at the same place."""
    for layer in layers:
        with rasterio.open(whole.with_name(f"{whole.name}_{layer}.tif")) as all_of_it:
            for sheet in sheets:
                with rasterio.open(folder / f"{sheet.stem}_{layer}.tif") as part, rasterio.open(sheet) as place:
                    assert part.transform.almost_equals(place.transform, 1e-9)
                    assert (part.shape, part.crs) == (place.shape, place.crs)
                    row, column = all_of_it.index(*part.xy(0, 0))
                    window = Window(column, row, part.width, part.height)
                    assert part.read().tobytes() == all_of_it.read(window=window).tobytes(), (layer, sheet.name)


@pytest.mark.parametrize("normalised", ["card", "scene"])
def test_each_sheet_has_the_labels_and_probabilities_of_the_whole_bit_for_bit(tmp_path: Path, normalised: str) -> None:
    model = make_model(tmp_path / "model", **({} if normalised == "card" else {"normalisation": {"source": "scene"}}))
    raster = write_raster(tmp_path / "scene.tif", hole=(slice(80, 130), slice(60, 140)))
    sheets = cut(raster, tmp_path / "sheets")
    outputs = {"confidence": True, "probabilities": True}
    run(recipe_of(tmp_path / "whole", raster, model, mosaic=False, outputs=outputs))
    outcome = run(recipe_of(tmp_path / "out", sheets, model, outputs=outputs, tiling={"block": 64}))
    assert outcome.exit_code == 0
    assert len(outcome.report.scenes) == 6
    layers = ("labels", "confidence", "probabilities")
    require_windows_of(tmp_path / "whole" / "scene", tmp_path / "out", sheets, layers)
    again = run(recipe_of(tmp_path / "out", sheets, model, outputs=outputs))
    assert {scene.state for scene in again.report.scenes} == {"unchanged"}


def test_sheets_by_themselves_would_have_other_labels(tmp_path: Path, model: Path) -> None:
    raster = write_raster(tmp_path / "scene.tif")
    sheets = cut(raster, tmp_path / "sheets")
    run(recipe_of(tmp_path / "whole", raster, model, mosaic=False))
    run(recipe_of(tmp_path / "out", sheets, model, mosaic=False))
    with pytest.raises(AssertionError, match="labels"):
        require_windows_of(tmp_path / "whole" / "scene", tmp_path / "out", sheets)


def test_a_resampled_model_sees_neighbours_too(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", gsd=0.8)
    raster = write_raster(tmp_path / "scene.tif")
    sheets = cut(raster, tmp_path / "sheets")
    run(recipe_of(tmp_path / "whole", raster, model, mosaic=False))
    assert run(recipe_of(tmp_path / "out", sheets, model)).exit_code == 0
    require_windows_of(tmp_path / "whole" / "scene", tmp_path / "out", sheets)


@pytest.mark.parametrize("how", ["nodata", "alpha", "mask"])
def test_a_missing_sheet_is_no_input_and_gets_no_labels(tmp_path: Path, model: Path, how: str) -> None:
    """A gap is told by nodata, by alpha, or where there is neither by a mask: as in a raster with a hole there."""
    raster = write_raster(tmp_path / "scene.tif", channels=4 if how == "alpha" else 3)
    with rasterio.open(raster, "r+") as file:
        if how == "alpha":
            file.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
            file.write(np.full(file.shape, 255, np.uint8), 4)
        if how == "nodata":
            file.nodata = 0
    sheets = cut(raster, tmp_path / "sheets")
    gone = sheets.pop(2)  # rows 90 to 170, columns 0 to 101
    with rasterio.open(gone) as file:
        assert file.shape == (80, 101)
    hole = np.full((300, 260), 255, np.uint8)
    hole[90:170, :101] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(raster, "r+") as file:
        if how == "nodata":
            file.write(np.where(hole, file.read(), 0))
        elif how == "alpha":
            file.write(hole, 4)
        else:
            file.write_mask(hole)
    run(recipe_of(tmp_path / "whole", raster, model, mosaic=False))
    assert run(recipe_of(tmp_path / "out", sheets, model)).exit_code == 0
    require_windows_of(tmp_path / "whole" / "scene", tmp_path / "out", sheets)


def test_sheets_are_scored_against_references_of_their_own(tmp_path: Path, model: Path) -> None:
    raster = write_raster(tmp_path / "scene.tif")
    truth = np.random.default_rng(0).integers(1, 4, (300, 260)).astype(np.uint8)
    reference = write_labels(tmp_path / "truth.tif", truth, raster)
    sheets, references = cut(raster, tmp_path / "sheets"), cut(reference, tmp_path / "truth")
    assert [path.name for path in sheets] == [path.name for path in references]
    whole = run(recipe_of(tmp_path / "whole", raster, model, mosaic=False, references=str(reference)))
    parts = run(recipe_of(tmp_path / "out", sheets, model, references=str(tmp_path / "truth" / "{stem}.tif")))
    assert parts.exit_code == 0
    one = whole.report.scenes[0].report
    assert one is not None
    counts = [np.array(scene.report.confusion_matrix.counts) for scene in parts.report.scenes if scene.report]
    np.testing.assert_array_equal(sum(counts), one.confusion_matrix.counts)


def test_a_change_of_a_sheet_concerns_those_that_see_it_and_no_others(tmp_path: Path, model: Path) -> None:
    raster = write_raster(tmp_path / "scene.tif", (70, 500))
    sheets = cut(raster, tmp_path / "sheets", (0, 70), range(0, 501, 100))
    run(recipe_of(tmp_path / "out", sheets, model))
    with rasterio.open(sheets[0], "r+") as file:
        file.write(255 - file.read())
    states = [scene.state for scene in run(recipe_of(tmp_path / "out", sheets, model)).report.scenes]
    assert states == ["done", "done", "unchanged", "unchanged", "unchanged"]


def test_a_window_of_a_sheet_counts_from_the_sheets_own_corner(tmp_path: Path, model: Path) -> None:
    from pipelines.planning.scenes import Selection

    raster = write_raster(tmp_path / "scene.tif")
    sheets = cut(raster, tmp_path / "sheets")
    run(recipe_of(tmp_path / "all", sheets, model))
    made = run(recipe_of(tmp_path / "look", sheets, model), Selection(window=(10, 20, 40, 30), limit=4))
    name = "r90_c101_labels.tif"
    with rasterio.open(tmp_path / "look" / name) as look, rasterio.open(tmp_path / "all" / name) as sheet:
        np.testing.assert_array_equal(look.read(1), sheet.read(1, window=Window(10, 20, 40, 30)))
    report = made.report.scenes[3].report
    assert report is not None
    assert any("x 10, y 20, width 40, height 30 of 159 x 80" in text for text in report.notices)


def shift(path: Path, x: float, y: float) -> None:
    with rasterio.open(path, "r+") as file:
        a, b, c, d, e, f = file.transform[:6]
        file.transform = Affine(a, b, c + x, d, e, f + y)


def coarser(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        a, b, c, d, e, f = file.transform[:6]
        file.transform = Affine(1.01 * a, b, c, d, 1.01 * e, f)


def elsewhere(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.crs = "EPSG:32634"


def other_nodata(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.nodata = 7


def one_band(path: Path) -> None:
    with rasterio.open(path) as file:
        values, profile = file.read(1), file.profile
    profile |= {"count": 1}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values, 1)


def nowhere(path: Path) -> None:
    with rasterio.open(path) as file:
        values, profile = file.read(), file.profile
    profile |= {"crs": None}
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: shift(path, -1.0, 0), r"overlap in 90 x 2 cells.*gdalbuildvrt"),
        (lambda path: shift(path, 0.25, 0), r"0\.50 of a cell beside the grid.*gdalwarp"),
        (coarser, r"cells of 0\.505 x -0\.505.*one cell size"),
        (elsewhere, r"CRS EPSG:32634.*EPSG:32633.*gdalwarp"),
        (other_nodata, r"nodata \('7'.*none.*one nodata"),
        (one_band, r"bands 1.*has 3.*one bands"),
        (nowhere, r"has no CRS.*gdal_edit"),
    ],
)
def test_sheets_that_do_not_lie_side_by_side_are_refused_with_the_remedy(tmp_path: Path, spoil: Any, told: str) -> None:
    sheets = cut(write_raster(tmp_path / "scene.tif"), tmp_path / "sheets")
    spoil(sheets[1])
    with pytest.raises(SegflowError, match=f"(?s){told}"):
        mosaic_of([str(path) for path in sheets])


def test_a_sheet_on_another_machine_and_a_volume_are_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(InputError, match="not on this machine"):
        mosaic_of(["https://example.org/a.tif"])
    with pytest.raises(RecipeError, match=r"inputs\.mosaic"):
        parse_recipe({"kind": "volume", "inputs": {"path": "a.nii.gz", "mosaic": True}}, tmp_path)


def test_a_sheet_may_be_named_as_it_likes(tmp_path: Path) -> None:
    folder = tmp_path / 'a "b" & <c>'
    sheets = cut(write_raster(tmp_path / "scene.tif"), folder)
    mosaic = mosaic_of([str(path) for path in sheets])
    with (
        rasterio.open(tmp_path / "scene.tif") as file,
        open_raster(RasterSpec(mosaic.opened_by(str(sheets[3])))) as source,
    ):
        assert source.name == sheets[3].stem
        assert source.grid.affine == tuple(file.transform[:6])
        np.testing.assert_array_equal(source.read(Box.whole(file.shape)).values, file.read())


@pytest.mark.system
def test_sheets_have_the_labels_of_a_run_on_gdalbuildvrts_vrt(tmp_path: Path, model: Path) -> None:
    raster = write_raster(tmp_path / "scene.tif", hole=(slice(80, 130), slice(60, 140)))
    sheets = cut(raster, tmp_path / "sheets")
    vrt = tmp_path / "all.vrt"
    subprocess.run(["gdalbuildvrt", "-q", str(vrt), *map(str, sheets)], check=True)
    run(recipe_of(tmp_path / "whole", vrt, model, mosaic=False))
    run(recipe_of(tmp_path / "out", sheets, model))
    require_windows_of(tmp_path / "whole" / "all", tmp_path / "out", sheets)


@pytest.mark.real
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_nine_parts_of_a_real_tile_are_labelled_as_one(tmp_path: Path, model: Path, shared_data: Path) -> None:
    """Tile 6 of the Dubai set comes in 3 x 3 parts; they get a place in the world, and are run side by side."""
    folder = shared_data / "aerial-dubai" / "parts" / "tile6"
    parts = [folder / f"part{number}.jpg" for number in range(1, 10)]
    pixels = []
    for path in parts:
        with rasterio.open(path) as file:
            pixels.append(file.read())
    rows = [pixels[3 * row][0].shape[0] for row in range(3)]
    columns = [pixels[column][0].shape[1] for column in range(3)]
    whole = np.concatenate([np.concatenate(pixels[3 * row : 3 * row + 3], axis=2) for row in range(3)], axis=1)
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "count": 3, "crs": "EPSG:32640"}
    place = Affine(0.3, 0, 330000.0, 0, -0.3, 2780000.0)
    raster = tmp_path / "tile6.tif"
    with rasterio.open(raster, "w", **profile, height=whole.shape[1], width=whole.shape[2], transform=place) as file:
        file.write(whole)
    edges = [[0, *np.cumsum(lengths).tolist()] for lengths in (rows, columns)]
    sheets = cut(raster, tmp_path / "sheets", *edges)
    run(recipe_of(tmp_path / "whole", raster, model, mosaic=False))
    assert run(recipe_of(tmp_path / "out", sheets, model)).exit_code == 0
    require_windows_of(tmp_path / "whole" / "tile6", tmp_path / "out", sheets)
