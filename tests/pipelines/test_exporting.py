"""Other formats of a label map: made once it is safe, made alone when they lack, told when they fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import run
from pipelines.events import ChunkDone, Event
from pipelines.planning.scenes import Selection
from segflow.errors import OutputError
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_raster, write_volume


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_raster(tmp_path_factory.mktemp("raster") / "scene.tif", shape=(100, 90))


def recipe_of(folder: Path, raster: Path, model: Path, **outputs: Any) -> Recipe:
    return parse_recipe(
        {
            "kind": "raster",
            "inputs": str(raster),
            "model": {"weights": str(model)},
            "outputs": {"folder": str(folder / "out"), **outputs},
        },
        folder,
    )


def report_of(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "out" / "scene_report.json").read_text())
    return loaded


def chunks(events: list[Event]) -> int:
    return sum(isinstance(event, ChunkDone) for event in events)


def test_an_export_that_is_asked_for_later_is_made_from_the_finished_label_map(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    run(recipe_of(tmp_path, raster, model))
    labels = tmp_path / "out" / "scene_labels.tif"
    before = labels.stat().st_mtime_ns
    events: list[Event] = []
    outcome = run(recipe_of(tmp_path, raster, model, qml=True), listener=events.append)
    assert (outcome.exit_code, outcome.report.scenes[0].state, chunks(events)) == (0, "done", 0)
    assert labels.stat().st_mtime_ns == before
    assert [item["name"] for item in report_of(tmp_path)["exports"][0]["files"]] == ["scene_labels.qml"]
    assert "data:image" in (tmp_path / "out" / "scene_report.html").read_text()
    assert run(recipe_of(tmp_path, raster, model, qml=True)).report.scenes[0].state == "unchanged"


def test_an_export_that_is_not_asked_for_any_more_is_removed(tmp_path: Path, raster: Path, model: Path) -> None:
    run(recipe_of(tmp_path, raster, model, qml=True))
    assert (tmp_path / "out" / "scene_labels.qml").is_file()
    run(recipe_of(tmp_path, raster, model))
    assert not (tmp_path / "out" / "scene_labels.qml").exists()
    assert report_of(tmp_path)["exports"] == []


EVERYTHING = {
    "qml": True,
    "polygons": ["gpkg", "parquet", "fgb", "geojson"],
    "coverage": True,
    "stac": True,
    "vrt": True,
    "confidence": True,
    "probabilities": True,
}


def test_nothing_stays_of_what_is_not_asked_for_any_more_and_all_that_is_the_owners(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    """The VRT and its style stayed, and showed label maps of another day."""
    out = tmp_path / "out"
    run(recipe_of(tmp_path, raster, model))
    bare = {path.name for path in out.iterdir()}
    run(recipe_of(tmp_path, raster, model, **EVERYTHING))
    name = next(path.stem for path in out.glob("*.vrt"))
    vrt, styled = out / f"{name}.vrt", out / f"{name}.qml"
    assert {path.name for path in out.iterdir()} > bare | {vrt.name, styled.name}
    run(recipe_of(tmp_path, raster, model, **{**EVERYTHING, "qml": False}))
    assert vrt.is_file()
    assert not list(out.glob("*labels.qml")) + [path for path in (styled,) if path.exists()]
    run(recipe_of(tmp_path, raster, model))
    assert {path.name for path in out.iterdir()} == bare

    run(recipe_of(tmp_path, raster, model, **{**EVERYTHING, "name": name}))  # one style for two: the polygons have it
    assert "renderer-v2" in styled.read_text()
    run(recipe_of(tmp_path, raster, model, **{**EVERYTHING, "name": name, "vrt": False}))
    assert "renderer-v2" in styled.read_text()
    for path in out.iterdir():
        path.unlink()
    run(recipe_of(tmp_path, raster, model))

    theirs = {vrt: "<VRTDataset><SourceFilename>scene_labels.tif</SourceFilename></VRTDataset>", styled: "<qgis/>"}
    for path, text in theirs.items():
        path.write_text(text)
    run(recipe_of(tmp_path, raster, model))
    assert {path: path.read_text() for path in theirs} == theirs


@pytest.mark.parametrize("lose", [lambda path: path.unlink(), lambda path: path.write_text("other")])
def test_a_lost_or_changed_export_is_made_again_alone(tmp_path: Path, raster: Path, model: Path, lose: Any) -> None:
    recipe = recipe_of(tmp_path, raster, model, qml=True)
    run(recipe)
    style = tmp_path / "out" / "scene_labels.qml"
    first = style.read_bytes()
    lose(style)
    events: list[Event] = []
    run(recipe, listener=events.append)
    assert style.read_bytes() == first
    assert chunks(events) == 0


def test_an_export_that_fails_leaves_the_label_map_whole_and_is_made_by_the_next_run(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    recipe = recipe_of(tmp_path, raster, model, qml=True)
    in_the_way = tmp_path / "out" / "scene_labels.qml"
    (in_the_way / "full").mkdir(parents=True)
    outcome = run(recipe)
    state = outcome.report.scenes[0]
    assert (outcome.exit_code, state.state) == (1, "done")
    assert state.error is not None
    assert "scene_labels.qml cannot be written" in state.error
    assert (tmp_path / "out" / "scene_labels.tif").is_file()
    assert "scene_labels.qml" in report_of(tmp_path)["exports"][0]["error"]
    (in_the_way / "full").rmdir()
    in_the_way.rmdir()
    events: list[Event] = []
    assert run(recipe, listener=events.append).exit_code == 0
    assert in_the_way.is_file()
    assert chunks(events) == 0


def test_what_a_failing_export_has_written_is_of_the_new_labels_and_goes_with_them(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    run(recipe_of(tmp_path, raster, model, polygons=["fgb", "geojson"]))
    out = tmp_path / "out"
    (out / "scene.geojson").unlink()
    (out / "scene.geojson" / "full").mkdir(parents=True)
    before = (out / "scene.fgb").stat().st_mtime_ns
    recipe = recipe_of(tmp_path, raster, make_model(tmp_path / "other", seed=5), polygons=["fgb", "geojson"])
    assert run(recipe).exit_code == 1
    assert (out / "scene.fgb").stat().st_mtime_ns > before
    assert [item["name"] for item in report_of(tmp_path)["exports"][0]["files"]] == ["scene.fgb"]
    run(recipe_of(tmp_path, raster, model))
    assert not (out / "scene.fgb").exists()
    assert report_of(tmp_path)["exports"] == []


def test_a_scene_that_fails_takes_nothing_that_its_neighbours_tell_of(tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        write_volume(tmp_path / f"{name}.nii.gz", (33, 34, 35), seed)
    asked = {
        "kind": "volume",
        "inputs": str(tmp_path / "?.nii.gz"),
        "model": {"weights": str(make_model(tmp_path / "model", "volume"))},
        "outputs": {"folder": str(tmp_path / "out"), "bids": True},
    }
    out = tmp_path / "out"
    assert run(parse_recipe(asked, tmp_path)).exit_code == 0
    sidecar = next(out.rglob("sub-b*_dseg.json"))
    sidecar.unlink()
    (sidecar / "full").mkdir(parents=True)
    first, second = run(parse_recipe(asked, tmp_path)).report.scenes
    assert (first.state, second.state) == ("unchanged", "done")
    assert second.error is not None
    assert first.report is not None
    assert all((out / item.name).is_file() for export in first.report.exports for item in export.files)
    (sidecar / "full").rmdir()
    sidecar.rmdir()
    asked["outputs"] = {"folder": str(out)}
    run(parse_recipe(asked, tmp_path), Selection(limit=1))
    assert (out / "dataset_description.json").is_file()
    run(parse_recipe(asked, tmp_path))
    assert not [
        path for name in ("dataset_description.json", "dseg.tsv", ".bidsignore", "sub-*") for path in out.glob(name)
    ]


def test_a_style_that_the_owner_has_made_of_an_input_is_not_written_over(tmp_path: Path, model: Path) -> None:
    raster = write_raster(tmp_path / "out" / "scene.tif", shape=(70, 60))
    styled = raster.with_suffix(".qml")
    styled.write_text("<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n<qgis/>\n")
    recipe = recipe_of(tmp_path, raster, model, qml=True, polygons="fgb")
    with pytest.raises(OutputError, match=r"scene\.qml"):
        run(recipe)
    styled.unlink()
    assert run(recipe).exit_code == 0
    assert run(recipe).report.scenes[0].state == "unchanged"


def test_a_run_does_not_write_an_export_over_what_it_reads(tmp_path: Path, raster: Path, model: Path) -> None:
    area = tmp_path / "out" / "scene_labels.qml"
    area.parent.mkdir()
    area.write_text("{}")
    recipe = recipe_of(tmp_path, raster, model, qml=True)
    inputs = recipe.inputs.model_copy(update={"aoi": str(area)})
    with pytest.raises(OutputError, match="write over"):
        run(recipe.model_copy(update={"inputs": inputs}))
    assert area.read_text() == "{}"
