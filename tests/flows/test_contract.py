"""The command line's contract: names, keys, exit codes, speed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import yaml
from affine import Affine

from flows.cli.main import main, parser

HEAVY = {
    "torch",
    "openvino",
    "rasterio",
    "nibabel",
    "zarr",
    "prefect",
    "dask",
    "distributed",
    "numpy",
    "pydantic",
    "rich",
}


def test_help_answers_in_half_a_second(spawn: Any) -> None:
    seconds = []
    for _ in range(3):
        began = perf_counter()
        result = spawn("--help")
        seconds.append(perf_counter() - began)
        assert result.code == 0
        assert all(
            command in result.out for command in ("run", "plan", "train", "evaluate", "models", "sample", "schema")
        )
    assert min(seconds) < 0.5, seconds


def test_the_parser_imports_nothing_heavy() -> None:
    code = "import sys; from flows.cli.main import main, parser; parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_version_is_told(segflow: Any) -> None:
    assert segflow("--version").out.startswith("segflow ")


def test_a_flag_that_a_command_has_not_is_told_with_the_commands_own_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "-m", "weights", "a.yaml"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "`segflow plan` does not know -m" in told
    assert "expected: segflow plan [-h]" in told


def test_what_is_not_known_is_told_with_what_may_have_been_meant(segflow: Any) -> None:
    wrong = segflow("rnu", "a.yaml")
    assert wrong.code == 2
    assert "there is no command rnu" in wrong.err
    assert "did you mean segflow run?" in wrong.err
    assert "did you mean --new?" in segflow("run", "a.yaml", "--nwe").err
    nothing = segflow()
    assert nothing.code == 2
    assert "Examples:" in nothing.err


def test_the_help_of_every_command_has_an_example_and_its_exit_codes() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for name, command in commands.items():
        told = command.format_help()
        assert f"Examples:\n  segflow {name}" in told
        assert "Exit codes: 0 " in told


def test_every_command_that_prints_results_has_json_and_every_recipe_can_be_overlaid() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for name, command in commands.items():
        flags = {flag for action in command._actions for flag in action.option_strings}
        assert {"--json", "-v", "-q"} <= flags, name
        assert ("--set" in flags) == any(action.dest == "recipe" for action in command._actions), name


def test_run_gives_a_label_map_and_a_report_with_the_contracts_keys(making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    making.labels()
    path = making.recipe(references="truth.tif", outputs={"folder": "out", "confidence": True})
    result = segflow("run", path, "--json", "-q")
    assert (result.code, result.err) == (0, "")
    assert result.json == making.report()
    (scene,) = result.json["scenes"]
    assert scene["state"] == "done"
    report = scene["report"]
    assert {"scene", "grid", "classes", "overall", "confusion_matrix", "run"} <= set(report)
    scores = {"iou", "dice", "precision", "recall", "specificity", "support"}
    assert all({"id", "name", "pixels", "area_m2"} | scores <= set(row) for row in report["classes"])
    overall = {"pixel_accuracy", "mean_class_accuracy", "mean_iou", "mean_dice", "frequency_weighted_iou", "kappa"}
    assert overall <= set(report["overall"])
    assert set(report["confusion_matrix"]) == {"labels", "counts"}
    facts = {
        "forwards",
        "forwards_minimum",
        "seconds",
        "peak_rss_bytes",
        "backend",
        "device",
        "fingerprint",
        "versions",
    }
    assert facts <= set(report["run"])
    assert {"read", "forward", "blend", "write", "total"} <= set(report["run"]["seconds"])
    assert {row["id"] for row in report["classes"] if row["pixels"]} == {0, 1, 2}
    out = making.folder / "out"
    scene_files = {"a_labels.tif", "a_labels.tif.aux.xml", "a_confidence.tif", "a_report.json", "a_report.html"}
    run_files = {"report.json", "report.html", "metrics.csv"}
    assert scene_files | run_files <= {file.name for file in out.iterdir()}
    assert not (out / ".segflow").exists()


def test_run_needs_no_recipe(making: Any, segflow: Any) -> None:
    model, image = making.model(), making.raster()
    result = segflow("run", "-m", model, "-i", image, "-o", making.folder / "flags", "--set", "tiling.block=64")
    assert result.code == 0, result.err
    assert f"{making.folder}/flags/report.html" in result.out
    assert segflow("run", making.recipe()).code == 0
    assert making.digests("flags") == making.digests("out")


def test_paths_of_set_start_from_the_working_directory_and_those_of_the_recipe_from_its_folder(
    making: Any, making_in: Any, segflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.model()
    making.raster()
    elsewhere = making_in(making.folder / "elsewhere")
    elsewhere.raster("other.tif", seed=5)
    monkeypatch.chdir(elsewhere.folder)
    flags = ("--set", "inputs=other.tif", "--set", "outputs.folder=here", "--set", "tiling.overlap=0.5")
    assert segflow("run", making.recipe(), *flags).code == 0
    assert (elsewhere.folder / "here" / "other_labels.tif").is_file()
    assert not (making.folder / "out").exists()


def test_a_second_run_leaves_all_as_it_is_and_force_does_all_again(making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    path = making.recipe()
    assert segflow("run", path).code == 0
    labels = making.folder / "out" / "a_labels.tif"
    before, digests = labels.stat().st_mtime_ns, making.digests()
    assert segflow("run", path, "--json").json["scenes"][0]["state"] == "unchanged"
    assert labels.stat().st_mtime_ns == before
    assert segflow("run", path, "--force", "--json").json["scenes"][0]["state"] == "done"
    assert labels.stat().st_mtime_ns > before
    assert making.digests() == digests
    assert segflow("run", path, "--set", "tiling.overlap=0.5", "--json").json["scenes"][0]["state"] == "done"
    assert making.digests() != digests


def test_quiet_says_nothing_and_verbose_says_what_was_chosen(making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    path = making.recipe()
    quiet = segflow("run", path, "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    verbose = segflow("run", path, "-v", "--force")
    assert "forwards run by" in verbose.err
    assert "INFO" not in verbose.err


def test_limit_takes_the_first_scenes_and_window_a_part_of_the_same_labels(making: Any, segflow: Any) -> None:
    import rasterio
    from rasterio.windows import Window

    making.model()
    for number in range(2):
        making.raster(f"in/s{number}.tif", seed=number)
    path = making.recipe(inputs="in")
    assert segflow("run", path).code == 0
    look = segflow(
        "run",
        path,
        "--limit",
        "1",
        "--window",
        "40,30,60,50",
        "--json",
        "--set",
        f"outputs.folder={making.folder}/look",
    )
    assert [scene["scene"] for scene in look.json["scenes"]] == ["s0"]
    with (
        rasterio.open(making.folder / "out" / "s0_labels.tif") as whole,
        rasterio.open(making.folder / "look" / "s0_labels.tif") as part,
    ):
        window = Window(40, 30, 60, 50)
        np.testing.assert_array_equal(part.read(1), whole.read(1, window=window))
        assert part.transform == whole.transform @ Affine.translation(40, 30)
        assert part.crs == whole.crs


def test_plan_tells_what_a_run_would_do_and_writes_nothing(making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    path = making.recipe()
    before = set(making.folder.rglob("*"))
    (row,) = segflow("plan", path, "--json").json
    assert set(making.folder.rglob("*")) == before
    keys = {"scene", "shape", "patch", "step", "blocks", "forwards", "forwards_minimum", "memory_bytes", "disk_bytes"}
    assert keys <= set(row)
    assert row["shape"] == {"y": 150, "x": 170}
    assert row["patch"] == {"y": 32, "x": 32}
    run = segflow("run", path, "--json").json["scenes"][0]["report"]["run"]
    assert run["forwards"] == run["forwards_minimum"] == row["forwards"] == row["forwards_minimum"]
    assert run["fingerprint"] == row["fingerprint"]
    text = segflow("plan", path).out
    assert "y 150, x 170" in text
    assert "step" in text
    assert "1 worker\n" in text
    assert re.search(r"time +(about|less than) [0-9.]+ s of forward passes", text)


def test_models_lists_architectures_with_their_parameters_without_torch(segflow: Any) -> None:
    rows = segflow("models", "--architectures", "--json").json
    assert {row["name"]: row["parameters"] for row in rows}.keys() >= {"unet", "segnet"}
    assert all(row["parameters"] > 100_000 for row in rows)
    code = "import sys; from flows.cli import main; main(['models', '--architectures']); print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "unet" in told
    assert told.endswith("False\n")


def test_models_lists_the_built_in_ones(segflow: Any) -> None:
    rows = segflow("models", "--json").json
    assert all({"name", "kind", "classes", "channels", "scores", "licence"} <= set(row) for row in rows)
    text = segflow("models").out
    assert all(f"builtin:{row['name']}" in text for row in rows)


def test_schema_describes_every_key_and_agrees_with_the_recipes_that_run(making: Any, segflow: Any) -> None:
    schema = segflow("schema").json
    assert "base" not in schema["properties"]
    assert {"kind", "inputs", "model", "tiling", "compute", "outputs", "references", "train"} <= set(
        schema["properties"]
    )
    for part in (schema, *schema["$defs"].values()):
        assert all({"description", "$ref"} & set(value) for value in part["properties"].values())
        assert part["description"]
    assert set(yaml.safe_load(making.recipe().read_text())) <= set(schema["properties"])


def test_evaluate_gives_the_scores_of_the_run(making: Any, segflow: Any) -> None:
    model = making.model()
    making.raster()
    making.labels()
    assert segflow("run", making.recipe(references="truth.tif")).code == 0
    ours = making.report()["scenes"][0]["report"]
    files = (making.folder / "out" / "a_labels.tif", making.folder / "truth.tif")
    theirs = segflow("evaluate", *files, "-m", model, "--json").json
    assert theirs["confusion_matrix"] == ours["confusion_matrix"]
    assert theirs["overall"] == ours["overall"]
    assert theirs["classes"] == ours["classes"]
    bare = segflow("evaluate", *files, "--json", "-o", making.folder / "scores").json
    assert bare["confusion_matrix"] == ours["confusion_matrix"]
    assert list((making.folder / "scores").glob("*_report.json"))


def test_evaluate_refuses_different_grids_kinds_and_files_that_are_not_there(making: Any, segflow: Any) -> None:
    one = making.labels("one.tif")
    for other in (making.labels("two.tif", (150, 169)), making.volume("three.nii.gz"), making.folder / "none.tif"):
        result = segflow("evaluate", one, other)
        assert result.code == 2
        assert "  remedy: " in result.err
        assert result.out == ""
    for pair in ("7:2", "7=", "²=2", "7=-2"):
        assert segflow("evaluate", one, one, "--map", pair).code == 2


def test_evaluate_maps_and_ignores(making: Any, segflow: Any) -> None:
    one = making.labels("one.tif")
    values = np.random.default_rng(9).integers(0, 3, (1, 150, 170)).astype(np.uint8)
    two = making.write("two.tif", np.where(values == 2, 9, values).astype(np.uint8))
    report = segflow("evaluate", one, two, "--map", "9=2", "--json").json
    assert report["overall"]["pixel_accuracy"] == 1.0
    ignored = segflow("evaluate", one, two, "--ignore", "9", "--json").json
    assert ignored["overall"]["pixels_scored"] == int((values != 2).sum())


@pytest.mark.real
def test_two_spellings_of_one_crs_are_accepted_with_a_notice(shared_data: Path, making: Any, segflow: Any) -> None:
    import rasterio

    folder = shared_data / "landsat-nc"
    with (
        rasterio.open(folder / "landsat7_b12345_epsg32119.tif") as image,
        rasterio.open(folder / "landclass96_full_7class.tif") as labels,
    ):
        assert image.crs.to_wkt() != labels.crs.to_wkt()
        values = labels.read(1)
        mine = making.write(
            "mine.tif", np.nan_to_num(values)[None].astype(np.uint8), crs=image.crs, transform=image.transform
        )
    result = segflow("evaluate", mine, folder / "landclass96_full_7class.tif", "--json")
    assert result.code == 0, result.err
    assert result.json["notices"]
    assert "32119" in result.json["notices"][0] or "CRS" in result.json["notices"][0]
    assert result.json["overall"]["pixel_accuracy"] == 1.0


def test_train_makes_a_model_that_run_takes(making: Any, segflow: Any) -> None:
    bright = np.kron(np.random.default_rng(0).random((8, 8)) < 0.5, np.ones((16, 16))).astype(np.uint8)
    noise = np.random.default_rng(1).normal(0, 10, (2, 128, 128))
    image = making.write("image.tif", np.clip(100 + 50 * bright + noise, 0, 255).astype(np.uint8))
    making.write("truth.tif", bright[None])
    path = making.recipe(
        {
            "kind": "raster",
            "inputs": "image.tif",
            "references": "truth.tif",
            "outputs": {"folder": "made"},
            "train": {
                "name": "tiny",
                "arguments": {"width": 4, "depth": 2},
                "classes": [
                    {"id": 0, "name": "dark", "colour": "#000000"},
                    {"id": 1, "name": "bright", "colour": "#FFFFFF"},
                ],
                "channels": ["one", "two"],
                "normalisation": {"mean": [125.0], "deviation": [30.0]},
                "patch": [32, 32],
                "steps": 60,
                "learning_rate": 0.02,
                "validation": {"region": [0.0, 0.0, 0.5, 1.0]},
            },
        }
    )
    result = segflow("train", path, "--json")
    assert result.code == 0, result.err
    assert set(result.json) == {"weights", "scores", "models", "pooled"}
    assert "step 60 of 60" in result.err
    weights = Path(result.json["weights"])
    assert segflow("run", "-m", weights, "-i", image, "-o", making.folder / "out").code == 0
    scored = segflow("evaluate", making.folder / "out" / "image_labels.tif", making.folder / "truth.tif", "--json").json
    assert scored["overall"]["pixel_accuracy"] > 0.9
    assert making.report()["scenes"][0]["report"]["model"]["name"] == "tiny"
