"""What a report measures beside counts: of the published labels, made anew when other measures are asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import jaccard_score

from flows.cli.main import main
from pipelines import run
from pipelines.evaluate import evaluate
from segflow.errors import RecipeError
from segflow.recipe import Report, parse_recipe
from tests.making import make_model, write_labels, write_raster, write_volume
from tests.segflow.metrics.pairs import blobs

SQUARES = {"west": (500000, 5399900, 500040, 5400000), "east": (500050, 5399900, 500080, 5399990)}


def polygons(path: Path) -> Path:
    """Two named rectangles in the CRS of `write_raster`; the west is drawn in two pieces."""
    west, east = SQUARES["west"], SQUARES["east"]
    pieces = [("west", (*west[:2], 500020, west[3])), ("west", (500020, *west[1:])), ("east", east)]
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": {"type": "Polygon", "coordinates": [[[a, b], [c, b], [c, d], [a, d], [a, b]]]},
        }
        for name, (a, b, c, d) in pieces
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("scene")
    raster = write_raster(folder / "scene.tif", shape=(200, 170), hole=(slice(40, 90), slice(30, 70)))
    truth = np.random.default_rng(5).integers(1, 4, (20, 17)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
    write_labels(folder / "truth.tif", truth, raster)
    return {
        "kind": "raster",
        "inputs": str(raster),
        "references": str(folder / "truth.tif"),
        "model": {"weights": str(make_model(folder / "model"))},
        "outputs": {"confidence": True},
    }


def done(scene: dict[str, Any], folder: Path, state: str = "done", **report: Any) -> Any:
    outputs = {**scene["outputs"], "folder": str(folder)}
    outcome = run(parse_recipe({**scene, "outputs": outputs, "report": report}, folder.parent))
    assert [item.state for item in outcome.report.scenes] == [state]
    return json.loads((folder / "scene_report.json").read_text())


def band(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


def test_a_run_measures_what_evaluate_measures_of_its_files(tmp_path: Path, scene: dict[str, Any]) -> None:
    details = done(scene, tmp_path)["details"]
    labels, confidence = tmp_path / "scene_labels.tif", tmp_path / "scene_confidence.tif"
    again = evaluate(str(labels), scene["references"], confidence=str(confidence)).model_dump(mode="json")["details"]
    for part in ("surface", "boundary", "objects", "calibration", "tiles", "extent_unit"):
        assert details[part] == again[part]
    assert [item["surface"] for item in details["classes"]] == [item["surface"] for item in again["classes"]]
    truth, sure = band(Path(scene["references"])), band(confidence)
    valid = band(labels) != 255
    right = (band(labels) == truth)[valid]
    assert details["calibration"]["cells"] == valid.sum()
    assert details["calibration"]["accuracy"] == pytest.approx(right.mean())
    assert details["calibration"]["mean_confidence"] == pytest.approx(sure[valid].mean() / 255)
    assert details["surface"]["unit"] == "m"
    assert details["surface"]["tolerance"] == 0.5


def test_regions_are_scored_by_name(tmp_path: Path, scene: dict[str, Any]) -> None:
    regions = polygons(tmp_path / "regions.geojson")
    found = done(scene, tmp_path / "out", regions=str(regions))["details"]["regions"]
    assert [item["name"] for item in found] == ["west", "east"]
    labels, truth = band(tmp_path / "out" / "scene_labels.tif"), band(Path(scene["references"]))
    for item, part in zip(found, (np.s_[:200, :80], np.s_[20:200, 100:160]), strict=True):
        valid = labels[part] != 255
        true, said = truth[part][valid], labels[part][valid]
        assert item["cells"] == valid.sum()
        assert item["mean_iou"] == pytest.approx(jaccard_score(true, said, average="macro"))


def test_other_measures_are_made_of_a_finished_scene_and_nothing_else_is(tmp_path: Path, scene: dict[str, Any]) -> None:
    first = done(scene, tmp_path)
    done(scene, tmp_path, "unchanged")
    written = (tmp_path / "scene_labels.tif").stat().st_mtime_ns
    second = done(scene, tmp_path, tolerance_m=2.0, objects=False, seam=False)
    assert (tmp_path / "scene_labels.tif").stat().st_mtime_ns == written
    assert second["run"] == first["run"]
    assert second["details"]["surface"]["tolerance"] == 2
    assert second["details"]["surface"]["mean_nsd"] > first["details"]["surface"]["mean_nsd"]
    assert second["details"]["objects"] is None
    assert second["details"]["left_out"]["objects"] == "report.objects is false"
    done(scene, tmp_path, "unchanged", tolerance_m=2.0, objects=False, seam=False)


def test_patches_side_by_side_show_their_seams_and_blended_ones_do_not(tmp_path: Path, scene: dict[str, Any]) -> None:
    """The same network: without overlap the borders of patches can be found in the labels, blended they cannot."""
    big = write_raster(tmp_path / "scene.tif", shape=(512, 512), seed=3)
    write_labels(tmp_path / "truth.tif", blobs((512, 512), 3, 4) + np.uint8(1), big)
    recipe = {**scene, "inputs": str(big), "references": str(tmp_path / "truth.tif")}
    cut = done({**recipe, "tiling": {"blend": "constant", "overlap": 0}}, tmp_path / "cut")["details"]["seam"]
    ours = done({**recipe, "tiling": {"overlap": 0.5}}, tmp_path / "ours")["details"]["seam"]
    assert cut["visible"] is True
    assert ours["visible"] is False
    assert cut["score"] > 1.3 > ours["score"]
    assert cut["borders"] == [7, 7]
    assert ours["borders"] == [15, 15]


def test_voxels_without_valid_input_are_in_no_measure(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "scene.nii.gz")
    image = nib.load(path)
    values = np.asarray(image.dataobj).astype(np.float32)
    values[:10] = np.nan
    nib.save(nib.Nifti1Image(values, image.affine), path)
    truth = np.zeros(values.shape, np.uint8)
    truth[5:20, 10:30, 10:20] = 1
    nib.save(nib.Nifti1Image(truth, image.affine), tmp_path / "truth.nii.gz")
    scene = {
        "kind": "volume",
        "inputs": str(path),
        "references": str(tmp_path / "truth.nii.gz"),
        "model": {"weights": str(make_model(tmp_path / "model", "volume"))},
        "outputs": {"confidence": True},
    }
    found = done(scene, tmp_path / "out")
    details, cells = found["details"], int(np.isfinite(values).sum())
    assert sum(map(sum, found["confusion_matrix"]["counts"])) == cells
    assert details["calibration"]["cells"] == cells
    assert details["classes"][1]["volume"]["reference"] == pytest.approx(10 * 20 * 10 / 1000)
    inner = 8 * 18 * 8
    assert details["classes"][1]["surface"]["surface_cells_reference"] == 10 * 20 * 10 - inner
    assert details["surface"]["unit"] == "mm"
    assert details["classes"][0]["surface"] is None
    assert details["left_out"]["boundary"].startswith("for rasters")


def test_without_a_reference_there_is_nothing_to_measure(tmp_path: Path, scene: dict[str, Any]) -> None:
    plain = {key: value for key, value in scene.items() if key != "references"}
    assert done(plain, tmp_path)["details"] is None
    done(plain, tmp_path, "unchanged", surface=False)


def test_what_can_not_be_measured_is_refused_before_anything_runs(tmp_path: Path, scene: dict[str, Any]) -> None:
    for report, words in (
        ({"regions": "nowhere.geojson"}, "cannot be read"),
        ({"regions": str(polygons(tmp_path / "regions.geojson")), "region_name": "title"}, "no field 'title'"),
        ({"classes": [9]}, "report.classes names 9"),
    ):
        outputs = {"folder": str(tmp_path / "out")}
        outcome = run(parse_recipe({**scene, "outputs": outputs, "report": report}, tmp_path))
        assert outcome.exit_code == 2
        assert words in str(outcome.report.scenes[0].error)
    with pytest.raises(RecipeError, match=r"report\.tolerance_mm"):
        parse_recipe({**scene, "report": {"tolerance_mm": 1}}, tmp_path)


def test_evaluate_takes_the_keys_of_report_and_prints_what_it_measured(
    tmp_path: Path, scene: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    done(scene, tmp_path)
    labels = str(tmp_path / "scene_labels.tif")
    asked = ["--measure", "tolerance_m=3", "--measure", "objects_iou=0.5"]
    assert main(["evaluate", labels, scene["references"], "--json", *asked]) == 0
    details = json.loads(capsys.readouterr().out)["details"]
    assert details["surface"]["tolerance"] == 3
    assert details["objects"]["iou_over"] == 0.5
    assert "confidence" in details["left_out"]["calibration"]
    assert main(["evaluate", labels, scene["references"]]) == 0
    said = capsys.readouterr().out
    assert "boundary IoU" in said
    assert "HD95 m" in said
    assert "over 3 of 3 classes" in said
    assert main(["evaluate", labels, scene["references"], "--measure", "block=3"]) == 2


def test_a_georeference_that_is_missing_is_told_and_not_guessed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Image.fromarray(np.eye(30, dtype=np.uint8)).save(tmp_path / f"{name}.png")
    files = str(tmp_path / "one.png"), str(tmp_path / "two.png")
    plain, asked = evaluate(*files).details, evaluate(*files, measures=Report(tolerance_m=1.0)).details
    assert plain is not None
    assert plain.surface is not None
    assert plain.surface.unit == "cells"
    assert asked is not None
    assert asked.surface is None
    assert "what a cell measures" in asked.left_out["surface"]
