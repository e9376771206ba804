"""What a run's pages show is what was published; they are made anew from it; and two runs are compared cell by cell."""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from flows.cli import main
from pipelines import run
from pipelines.compare import compare
from pipelines.publishing.preview import pictures
from pipelines.publishing.rebuild import rebuild, scenes_in
from pipelines.publishing.seen import from_facts, to_facts
from segflow.errors import InputError
from segflow.recipe import parse_recipe, recipe_text
from segflow.report import Pictures
from segflow.report.codec import NOTHING, positions
from segflow.report.compare_page import scene_comparison_page
from tests.making import make_model, write_labels, write_raster, write_volume


def recipe_of(folder: Path, inputs: Path, model: Path, **parts):
    outputs = {"folder": str(folder), "confidence": True}
    data = {"kind": "raster", "inputs": str(inputs), "model": {"weights": str(model)}, "outputs": outputs, **parts}
    return parse_recipe(data, folder.parent)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pages")
    scene = write_raster(folder / "scene.tif", (260, 300), hole=(slice(10, 60), slice(20, 90)))
    truth = np.random.default_rng(3).integers(1, 4, (7, 8)).repeat(40, 0).repeat(40, 1)[:260, :300]
    reference = write_labels(folder / "truth.tif", truth.astype(np.uint8), scene)
    for number, name in enumerate(("one", "two")):
        model = make_model(folder / f"model{number}", seed=number)
        run(recipe_of(folder / name, scene, model, references=str(reference)))
    return folder / "one", folder / "two"


def held(page: Path) -> dict:
    return json.loads(page.read_text().split('id="viewer-data">')[1].split("</script>")[0])


def test_the_map_in_a_page_is_the_published_label_map(runs):
    told = held(runs[0] / "scene_report.html")
    tile = told["map"]["tiles"]["0/0/0"]
    found = np.frombuffer(zlib.decompress(base64.b64decode(tile["l"])), np.uint8).reshape(260, 300)
    with rasterio.open(runs[0] / "scene_labels.tif") as file:
        labels = file.read(1)
    ids = np.array([item["id"] for item in told["classes"]] + [255] * 253, np.uint8)
    np.testing.assert_array_equal(ids[np.where(found == NOTHING, 255, found)], labels)


def test_the_worst_places_are_the_blocks_with_the_largest_share_of_errors(runs):
    name, report = next(scenes_in(runs[0]))
    seen = from_facts(report.seen)
    shown = pictures(seen, report.classes, runs[0] / f"{name}_labels.tif", None)
    with rasterio.open(runs[0] / "scene_labels.tif") as file, rasterio.open(runs[0].parent / "truth.tif") as other:
        labels, truth = file.read(1), other.read(1)
    shares = {}
    for top in range(0, 260, 64):
        for left in range(0, 300, 64):
            part = (slice(top, top + 64), slice(left, left + 64))
            known = labels[part] != 255
            if known.sum() * 4 >= 64 * 64:
                shares[top, left] = (labels[part] != truth[part])[known].mean()
    expected = sorted(shares.values(), reverse=True)[:8]
    assert [place.value for place in shown.worst] == pytest.approx(expected)
    for place in shown.worst:
        assert place.value == pytest.approx(shares[place.start])


def test_a_preview_of_a_large_scene_is_the_same_wherever_bands_are_cut(runs, monkeypatch):
    import pipelines.publishing.preview_raster as module

    _, report = next(scenes_in(runs[0]))
    seen, labels = from_facts(report.seen), runs[0] / "scene_labels.tif"
    monkeypatch.setattr(module, "LONGEST", 100)
    first = pictures(seen, report.classes, labels, None)
    monkeypatch.setattr(module, "_BAND_CELLS", 3 * 300 * 7)
    assert pictures(seen, report.classes, labels, None).pyramid == first.pyramid
    assert first.pyramid.step == 3
    with rasterio.open(labels) as file:
        thin = file.read(1)[1::3, 1::3][:86, :100]
    data = zlib.decompress(base64.b64decode(first.pyramid.tiles["0/0/0"]["l"]))
    expected = positions(thin, None, report.classes)
    np.testing.assert_array_equal(np.frombuffer(data, np.uint8).reshape(86, 100), expected)


def test_pages_are_made_anew_as_they_were(runs, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(runs[0], folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for page in folder.glob("*.html"):
        page.unlink()
    assert sorted(path.name for path in rebuild(folder)) == ["report.html", "scene_report.html"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_page_is_made_without_an_input_that_is_gone(tmp_path, caplog):
    scene = write_raster(tmp_path / "scene.tif", (100, 90))
    run(recipe_of(tmp_path / "out", scene, make_model(tmp_path / "model")))
    scene.unlink()
    rebuild(tmp_path / "out")
    assert "without it" in caplog.text
    assert "0/0/0" in held(tmp_path / "out" / "scene_report.html")["map"]["tiles"]
    (tmp_path / "out" / "scene_labels.tif").unlink()
    rebuild(tmp_path / "out")
    assert "viewer-data" not in (tmp_path / "out" / "scene_report.html").read_text()


def test_a_folder_without_a_report_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="holds no report"):
        rebuild(tmp_path)
    assert main(["report", str(tmp_path / "missing")]) == 2
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    assert "remedy" in capsys.readouterr().err


def test_how_a_scene_is_seen_survives_json_with_a_nodata_value_that_is_no_number(runs):
    from dataclasses import replace

    _, report = next(scenes_in(runs[0]))
    seen = from_facts(report.seen)
    odd = replace(seen, spec=replace(seen.spec, nodata=float("nan")))
    again = from_facts(json.loads(json.dumps(to_facts(odd), allow_nan=False)))
    assert np.isnan(again.spec.nodata)
    assert replace(again, spec=seen.spec) == seen


def test_a_comparison_counts_every_cell_as_scikit_learn_does(runs):
    found = compare(*runs).scenes[0]
    maps = []
    for folder in runs:
        with rasterio.open(folder / "scene_labels.tif") as file:
            maps.append(file.read(1).reshape(-1))
    ids = [item.id for item in found.classes]
    np.testing.assert_array_equal(found.counts, confusion_matrix(*maps, labels=[*ids, 255]))
    assert found.changed == (maps[0] != maps[1]).sum()
    assert found.cells == ((maps[0] != 255) | (maps[1] != 255)).sum()
    assert {fact.name for fact in found.facts} >= {"weights", "fingerprint", "mean iou"}
    assert any(line.startswith("-") and "model0" in line for line in found.recipe)


def test_compare_says_by_its_exit_code_whether_labels_differ(runs, tmp_path, capsys):
    same = ["compare", str(runs[0]), str(runs[0]), "-o", str(tmp_path / "a"), "--json"]
    assert main(same) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["scenes"][0]["changed"] == 0
    assert told["scenes"][0]["same_fingerprint"] is True
    assert main(["compare", *map(str, runs), "-o", str(tmp_path / "b")]) == 1
    assert "cells differ" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["compare.html", "scene_compare.html"]


def test_scenes_on_other_grids_or_of_one_run_only_are_told(runs, tmp_path):
    scene = write_raster(tmp_path / "scene.tif", (100, 90))
    write_raster(tmp_path / "more.tif", (80, 90))
    run(recipe_of(tmp_path / "out", tmp_path / "*.tif", make_model(tmp_path / "model")))
    assert scene.exists()
    found = compare(runs[0], tmp_path / "out")
    assert found.scenes == ()
    assert {item.scene: item.why for item in found.lost}.keys() == {"more", "scene"}
    assert "only in B" in {item.why for item in found.lost}


def test_volumes_are_compared_too(tmp_path):
    volume = write_volume(tmp_path / "t1.nii.gz", axes="LPS")
    for seed in (0, 1):
        model = make_model(tmp_path / f"model{seed}", "volume", seed=seed)
        run(recipe_of(tmp_path / f"out{seed}", volume, model, kind="volume"))
    found = compare(tmp_path / "out0", tmp_path / "out1").scenes[0]
    assert np.sum(found.counts) == 40 * 52 * 36
    assert 0 < found.changed < found.cells
    assert found.classes[0].extent_a == pytest.approx(found.classes[0].cells_a / 1000)


@settings(max_examples=30)
@given(st.text("abcdefghij0123456789", min_size=4, max_size=12))
def test_a_recipe_in_a_report_holds_no_password(word):
    secret = f"Zq{word}"
    data = {
        "kind": "raster",
        "inputs": f"https://user:{secret}@host/a.tif",
        "model": {"weights": "builtin:landcover-rgb"},
        "compute": {"staging": f"s3://bucket/x?token={secret}"},
    }
    text = recipe_text(parse_recipe(data, Path()))
    assert secret not in text
    assert "***" in text
    assert "user" in text


def test_a_base_map_lies_where_pyproj_says_and_is_allowed_by_name(runs, tmp_path, caplog):
    from pyproj import Transformer

    from segflow.io.place import mercator_of
    from segflow.io.raster import RasterSpec, open_raster

    with open_raster(RasterSpec(str(runs[0] / "scene_labels.tif"))) as source:
        grid = source.grid
    a, b, c, d, e, f = mercator_of(grid)
    to = Transformer.from_crs(grid.crs, 3857, always_xy=True)
    for column, row in ((0, 0), (300, 0), (150, 130), (300, 260)):
        x, y = 500000 + 0.5 * column, 5400000 - 0.5 * row
        assert (a * column + b * row + c, d * column + e * row + f) == pytest.approx(to.transform(x, y), abs=0.05)

    folder = tmp_path / "copy"
    shutil.copytree(runs[0], folder)
    assert main(["report", str(folder), "--basemap", "https://tile.example/{z}/{x}/{y}.png"]) == 0
    page = (folder / "scene_report.html").read_text()
    assert "img-src data: https://tile.example;" in page
    for wrong in (
        "https://tile.example/{z}/{x}.png",
        "javascript:alert(1)/{z}/{x}/{y}",
        'https://a/{z}/{x}/{y}" onload=',
    ):
        assert main(["report", str(folder), "--basemap", wrong]) == 2
    assert mercator_of(type(grid)("raster", (10, 10))) is None


def test_more_classes_than_a_page_can_colour_are_compared_cell_by_cell(tmp_path):
    from segflow.grid import Grid
    from segflow.metrics import count_confusion, scores
    from segflow.models.card import LabelClass
    from segflow.report import FileFacts, scene_report, write_scene_report

    ids = range(300)
    many = tuple(LabelClass(id=i, name=f"kind {i}", colour="#336699") for i in ids)
    scene = write_raster(tmp_path / "scene.tif", (60, 70))
    maps = [np.random.default_rng(seed).integers(0, 300, (60, 70)).astype(np.uint16) for seed in (0, 1)]
    for name, labels in zip("ab", maps, strict=True):
        (tmp_path / name).mkdir()
        write_labels(tmp_path / name / "scene_labels.tif", labels, scene)
        result = scores(count_confusion(None, labels, list(ids)), many)
        outputs = [FileFacts(name="scene_labels.tif", sha256="")]
        write_scene_report(
            tmp_path / name, "scene", scene_report("scene", Grid("raster", (60, 70)), result, outputs=outputs)
        )
    found = compare(tmp_path / "a", tmp_path / "b").scenes[0]
    flat = [labels.reshape(-1) for labels in maps]
    np.testing.assert_array_equal(found.counts, confusion_matrix(*flat, labels=[*ids, 65535]))
    assert found.changed == (flat[0] != flat[1]).sum()
    page = scene_comparison_page(found, Pictures(), ("a", "b"))
    assert "The largest changes among 300 classes." in page
    assert len(page) < 1_000_000


def test_a_class_that_one_run_calls_otherwise_is_told(runs, tmp_path):
    renamed = shutil.copytree(runs[0], tmp_path / "renamed")
    path = renamed / "scene_report.json"
    path.write_text(path.read_text().replace('"name": "class 2"', '"name": "houses"'))
    facts = {fact.name: (fact.a, fact.b) for fact in compare(runs[0], renamed).scenes[0].facts}
    assert facts == {"name of class 2": ("class 2", "houses")}


def test_a_run_is_compared_where_pictures_cannot_be_opened_any_more(runs, tmp_path):
    changed = shutil.copytree(runs[0], tmp_path / "changed")
    path = changed / "scene_report.json"
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"seen": {"spec": "of another version"}}))
    assert compare(changed, runs[1]).scenes[0].changed == compare(*runs).scenes[0].changed
    assert rebuild(changed)


def test_a_run_s_report_of_another_version_is_told_and_scenes_are_made_all_the_same(runs, tmp_path, caplog):
    folder = shutil.copytree(runs[0], tmp_path / "later")
    told = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps(told | {"later": 1}))
    assert [page.name for page in rebuild(folder)] == ["scene_report.html"]
    assert "no run's report of this version" in caplog.text
