"""What cannot be run is refused with found, expected and remedy, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

Case = Callable[[Any], list[str | Path]]
CASES: dict[str, tuple[Case, tuple[str, ...]]] = {}


def case(*said: str) -> Callable[[Case], Case]:
    """Register a case: what it runs, and words that the message must have."""

    def keep(function: Case) -> Case:
        CASES[function.__name__] = (function, said)
        return function

    return keep


def run(make: Any, *flags: str | Path, **parts: Any) -> list[str | Path]:
    return ["run", make.recipe(**parts), *flags]


@case("unknown key tilling", "did you mean tiling?")
def misspelt_key(make: Any) -> list[str | Path]:
    return run(make, tilling={"patch": 64})


@case("unknown key tiling.overlapp", "did you mean overlap?")
def misspelt_inner_key(make: Any) -> list[str | Path]:
    return run(make, tiling={"overlapp": 0.5})


@case("unknown key tiling.ptach", "did you mean patch?")
def misspelt_set(make: Any) -> list[str | Path]:
    return run(make, "--set", "tiling.ptach=64")


@case("lacks inputs", "add inputs")
def recipe_without_inputs(make: Any) -> list[str | Path]:
    return [
        "run",
        make.recipe({"kind": "raster", "model": {"weights": "toy.safetensors"}, "outputs": {"folder": "out"}}),
    ]


@case("is not YAML")
def recipe_that_is_no_yaml(make: Any) -> list[str | Path]:
    (make.folder / "bad.yaml").write_text("kind: [raster\n")
    return ["run", make.folder / "bad.yaml"]


@case("cannot read the recipe", "invalid start byte")
def recipe_that_is_no_text(make: Any) -> list[str | Path]:
    (make.folder / "bad.yaml").write_bytes(b"\xff\xfe\x00kind")
    return ["run", make.folder / "bad.yaml"]


@case("cannot read the recipe")
def missing_recipe(make: Any) -> list[str | Path]:
    return ["run", make.folder / "nowhere.yaml"]


@case("no model", "model.weights")
def recipe_without_model(make: Any) -> list[str | Path]:
    return run(make, model=None)


@case("there is no recipe", "segflow run -m WEIGHTS -i INPUT")
def neither_recipe_nor_flags(make: Any) -> list[str | Path]:
    return ["run", "-o", make.folder / "out"]


@case("there is no file", "a.tif")
def missing_file(make: Any) -> list[str | Path]:
    return run(make, inputs="aa.tif")


@case("nothing matches")
def empty_glob(make: Any) -> list[str | Path]:
    return run(make, inputs="none/*.tif")


@case("truncated.tif")
def truncated_tiff(make: Any) -> list[str | Path]:
    whole = make.raster("whole.tif").read_bytes()
    (make.folder / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    return run(make, inputs="truncated.tif")


@case("truncated.tif")
def truncated_compressed_tiff(make: Any) -> list[str | Path]:
    whole = make.raster("whole.tif", compress="deflate", tiled=True, blockxsize=64, blockysize=64).read_bytes()
    (make.folder / "truncated.tif").write_bytes(whole[: len(whole) * 2 // 3])
    return run(make, inputs="truncated.tif")


@case("text.tif")
def no_raster_at_all(make: Any) -> list[str | Path]:
    (make.folder / "text.tif").write_text("not a raster")
    return run(make, inputs="text.tif")


@case("truncated.nii.gz")
def truncated_nifti(make: Any) -> list[str | Path]:
    make.model("volume", name="cube")
    whole = make.volume("whole.nii.gz").read_bytes()
    (make.folder / "truncated.nii.gz").write_bytes(whole[: len(whole) // 2])
    return run(make, kind="volume", inputs="truncated.nii.gz", model={"weights": "cube.safetensors"})


@case("five gives 5 bands", "3: red, green, blue", "inputs.bands")
def wrong_band_count(make: Any) -> list[str | Path]:
    make.raster("five.tif", bands=5)
    return run(make, inputs="five.tif")


@case("asked for 7", "bands from 1 to 3")
def band_that_is_not_there(make: Any) -> list[str | Path]:
    return run(make, inputs={"path": "a.tif", "bands": [1, 2, 7]})


@case("truth has y 150, x 169", "one grid")
def reference_on_another_grid(make: Any) -> list[str | Path]:
    make.labels(shape=(150, 169))
    return run(make, references="truth.tif")


@case("truth.nii.gz")
def reference_volume_on_another_grid(make: Any) -> list[str | Path]:
    make.model("volume", name="cube")
    make.volume()
    labels = np.zeros((40, 44, 36), np.uint8)
    nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 1.5, 1.0])), make.folder / "truth.nii.gz")
    volume = {"kind": "volume", "inputs": "a.nii.gz", "model": {"weights": "cube.safetensors"}}
    return run(make, references="truth.nii.gz", **volume)


@case("the reference of a is missing", "a file")
def missing_reference(make: Any) -> list[str | Path]:
    return run(make, references="labels/{stem}.tif")


@case("outputs.name", "stemm")
def unknown_field_in_a_name(make: Any) -> list[str | Path]:
    return run(make, outputs={"folder": "out", "name": "{stemm}"})


@case("id", "7", "references.map", "references.ignore")
def unknown_class_in_the_reference(make: Any) -> list[str | Path]:
    labels = np.zeros((1, 150, 170), np.uint8)
    labels[0, 100:, 120:] = 7
    make.write("truth.tif", labels)
    return run(make, references="truth.tif")


@case("need", "at most", "compute.memory")
def patch_larger_than_memory(make: Any) -> list[str | Path]:
    make.raster("a.tif", (1200, 1200))
    return run(make, tiling={"patch": 1024}, compute={"memory": "1 MiB"})


@case("tiling.overlap", "fraction")
def overlap_of_one(make: Any) -> list[str | Path]:
    return run(make, tiling={"overlap": 1.0})


@case("tiling.overlap", "less than the patch")
def overlap_of_the_patch_in_pixels(make: Any) -> list[str | Path]:
    return run(make, tiling={"overlap": "32px"})


@case("tiling.patch is [30, 30]", "multiples of 4", "take [32, 32]")
def patch_that_is_no_multiple_of_the_stride(make: Any) -> list[str | Path]:
    return run(make, tiling={"patch": 30})


@case("2 numbers")
def patch_of_too_many_axes(make: Any) -> list[str | Path]:
    return run(make, tiling={"patch": [32, 32, 32]})


@case("is not a safetensors file", "downloaded whole")
def weights_of_random_bytes(make: Any) -> list[str | Path]:
    (make.folder / "toy.safetensors").write_bytes(np.random.default_rng(0).bytes(4096))
    return run(make)


@case("is a pickle", "safetensors")
def weights_that_are_a_pickle(make: Any) -> list[str | Path]:
    (make.folder / "toy.safetensors").write_bytes(pickle.dumps({"weight": [1.0]}))
    return run(make)


class Touch:
    """What a pickle makes a file with when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@case("pickle that would run code", "system", "--trust")
def weights_that_would_run_a_command(make: Any) -> list[str | Path]:
    (make.folder / "toy.pt").write_bytes(pickle.dumps(Touch(make.folder / "touched")))
    return run(make, model={"weights": "toy.pt"})


@case("no file of PyTorch's")
def weights_called_pt_that_are_text(make: Any) -> list[str | Path]:
    (make.folder / "toy.pt").write_bytes(b"anything")
    return run(make, model={"weights": "toy.pt"})


@case("not an ONNX model", "downloaded whole")
def text_called_onnx(make: Any) -> list[str | Path]:
    (make.folder / "toy.onnx").write_text("version https://git-lfs.github.com/spec/v1")
    return run(make, model={"weights": "toy.onnx"})


@case("holds no model")
def an_empty_folder_as_weights(make: Any) -> list[str | Path]:
    (make.folder / "empty").mkdir()
    return run(make, model={"weights": "empty"})


@case("differ in channels")
def an_ensemble_of_models_with_other_channels(make: Any) -> list[str | Path]:
    other = make.model(name="other").with_suffix(".yaml")
    other.write_text(other.read_text().replace("red", "infrared"))
    return run(make, model={"weights": ["toy.safetensors", "other.safetensors"]})


@case("d4 for a volume")
def symmetries_of_the_square_for_a_volume(make: Any) -> list[str | Path]:
    make.volume()
    make.model("volume", name="cube")
    return run(make, kind="volume", inputs="a.nii.gz", model={"weights": "cube.safetensors", "tta": "d4"})


@case("does not hold the weights of unet", "missing")
def weights_of_another_network(make: Any) -> list[str | Path]:
    path = make.folder / "toy.safetensors"
    state = load_file(path)
    del state[next(iter(state))]
    save_file(state, path)
    return run(make)


@case("no model card")
def weights_without_a_card(make: Any) -> list[str | Path]:
    (make.folder / "toy.yaml").unlink()
    return run(make)


@case("is not a model card")
def a_card_that_is_none(make: Any) -> list[str | Path]:
    (make.folder / "toy.yaml").write_text("name: 3\nkind: raster\n")
    return run(make)


@case("segments a raster", "model for a volume")
def a_model_of_the_other_kind(make: Any) -> list[str | Path]:
    make.volume()
    return run(make, kind="volume", inputs="a.nii.gz")


@case("no built-in model 'landcover-lansat'", "one of")
def unknown_builtin(make: Any) -> list[str | Path]:
    return run(make, model={"weights": "builtin:landcover-lansat"})


@case("cannot write to", "Not a directory", "outputs.folder")
def output_below_a_file(make: Any) -> list[str | Path]:
    (make.folder / "file").write_text("")
    return run(make, outputs={"folder": "file/out"})


@case("cannot write to", "outputs.folder")
def output_where_nobody_writes(make: Any) -> list[str | Path]:
    return run(make, outputs={"folder": "/proc/segflow"})


@case("cannot write to", "outputs.folder")
def output_that_is_a_file(make: Any) -> list[str | Path]:
    (make.folder / "file").write_text("")
    return run(make, outputs={"folder": "file"})


@case("--set tiling.patch", "KEY=VALUE")
def set_without_a_value(make: Any) -> list[str | Path]:
    return run(make, "--set", "tiling.patch")


@case("window", "outside")
def window_outside(make: Any) -> list[str | Path]:
    return run(make, "--window", "1000,1000,10,10")


@case("box", "raster")
def bbox_outside(make: Any) -> list[str | Path]:
    return run(make, "--bbox", "0,0,10,10")


@case("--bbox", "volume", "--limit")
def bbox_of_a_volume(make: Any) -> list[str | Path]:
    make.model("volume", name="cube")
    make.volume()
    volume = {"kind": "volume", "inputs": "a.nii.gz", "model": {"weights": "cube.safetensors"}}
    return run(make, "--bbox", "0,0,10,10", **volume)


@case("would both be named a", "{parent}_{stem}")
def names_that_collide(make: Any) -> list[str | Path]:
    make.raster("one/a.tif")
    make.raster("two/a.tif")
    return run(make, inputs=["one/a.tif", "two/a.tif"])


@case("outputs.nodata is 2", "the class town", "255")
def nodata_that_is_a_class(make: Any) -> list[str | Path]:
    return run(make, outputs={"folder": "out", "nodata": 2})


@case("compute.device is cuda")
def a_device_that_is_not_there(make: Any) -> list[str | Path]:
    return run(make, compute={"device": "cuda:77"})


@case("NOWHERE_AT_ALL", "not set")
def a_variable_that_is_not_set(make: Any) -> list[str | Path]:
    return run(make, inputs="${NOWHERE_AT_ALL}/a.tif")


@case("NaN or infinity")
def weights_that_are_not_finite(make: Any) -> list[str | Path]:
    path = make.folder / "toy.safetensors"
    state = load_file(path)
    next(value for value in state.values() if value.is_floating_point()).fill_(float("nan"))
    save_file(state, path)
    return run(make)


def require_refusal(code: int, err: str, said: tuple[str, ...]) -> None:
    assert code == 2, err
    for word in (*said, "\n  expected: ", "\n  remedy: "):
        assert word in err, err
    assert "Traceback" not in err


def require_nothing_left(folder: Path, before: set[Path]) -> None:
    made = {path for path in folder.rglob("*") if path not in before and "prefect" not in path.parts}
    assert not made, f"left behind: {sorted(str(path.relative_to(folder)) for path in made)}"


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_run_is_refused_and_leaves_nothing(name: str, making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    make, said = CASES[name]
    arguments = make(making)
    before = set(making.folder.rglob("*"))
    result = segflow(*arguments)
    require_refusal(result.code, result.err, said)
    assert result.out.strip() == ""
    require_nothing_left(making.folder, before)


@pytest.mark.parametrize("name", ["misspelt_key", "truncated_tiff", "weights_that_are_a_pickle", "output_below_a_file"])
def test_a_process_refuses_as_well(name: str, making: Any, spawn: Any) -> None:
    making.model()
    making.raster()
    make, said = CASES[name]
    arguments = make(making)
    before = set(making.folder.rglob("*"))
    result = spawn(*arguments)
    require_refusal(result.code, result.err, said)
    require_nothing_left(making.folder, before)


@pytest.mark.parametrize("name", ["truncated_compressed_tiff", "unknown_class_in_the_reference"])
def test_workers_refuse_as_well(name: str, making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    make, said = CASES[name]
    arguments = [*make(making), "--set", "compute.workers=2", "--set", "tiling.block=48"]
    before = set(making.folder.rglob("*"))
    result = segflow(*arguments)
    require_refusal(result.code, result.err, said)
    require_nothing_left(making.folder, before)


@pytest.mark.parametrize("name", ["misspelt_key", "missing_file", "wrong_band_count"])
def test_plan_refuses_as_well(name: str, making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    make, said = CASES[name]
    _, *arguments = make(making)
    result = segflow("plan", *arguments)
    require_refusal(result.code, result.err, said)


@pytest.mark.parametrize(
    "flags",
    [
        ["--window", "1,2,3"],
        ["--limit", "0"],
        ["--bbox", "a,b,c,d"],
        ["--nothing"],
        ["--window", "0,0,9,9", "--bbox", "0,0,9,9"],
    ],
)
def test_wrong_usage_is_told_in_one_line_with_the_usage_and_no_name_of_ours(
    flags: list[str], making: Any, segflow: Any
) -> None:
    result = segflow("run", making.recipe(), *flags)
    assert result.code == 2
    assert "expected: segflow run [-h]" in result.err
    assert "remedy: `segflow run --help`" in result.err
    assert "_" not in result.err.splitlines()[0]


@pytest.mark.parametrize("references", [{"map": {7: 1}}, {"ignore": [7]}])
def test_an_unknown_class_is_taken_when_it_is_mapped_or_ignored(
    references: dict[str, Any], making: Any, segflow: Any
) -> None:
    making.model()
    making.raster()
    unknown_class_in_the_reference(making)
    path = making.recipe(references={"path": "truth.tif", **references})
    result = segflow("run", path, "--json")
    assert result.code == 0, result.err
    report = result.json["scenes"][0]["report"]
    scored = sum(sum(row) for row in report["confusion_matrix"]["counts"])
    assert scored == 150 * 170 - (50 * 50 if "ignore" in references else 0)


def test_an_error_is_json_where_json_was_asked_for(making: Any, segflow: Any) -> None:
    result = segflow("run", making.recipe(tilling={}), "--json")
    assert result.code == 2
    assert set(result.json["error"]) == {"found", "expected", "remedy"}
    making.model()
    (making.folder / "a.tif").write_text("no raster")
    refused = segflow("run", making.recipe(), "--json")
    assert refused.code == 2
    (scene,) = refused.json["scenes"]
    assert scene["state"] == "refused"
    assert "a.tif" in scene["error"]


def test_a_broken_scene_fails_alone(making: Any, segflow: Any) -> None:
    making.model()
    for number in range(3):
        making.raster(f"in/s{number}.tif", seed=number)
    path = making.recipe(inputs="in/*.tif")
    broken = making.folder / "in" / "s1.tif"
    whole = broken.read_bytes()
    broken.unlink()
    assert segflow("run", path, "--set", "outputs.folder=" + str(making.folder / "without")).code == 0
    broken.write_bytes(whole[: len(whole) // 2])
    result = segflow("run", path)
    assert result.code == 1
    assert "s1" in result.err
    assert "  remedy: " in result.err
    assert "Traceback" not in result.err
    lines = result.out.splitlines()
    assert [line.split()[:2] for line in lines if line[:1] == "s"] == [
        ["s0", "done"],
        ["s1", "refused"],
        ["s2", "done"],
    ]
    assert making.digests("out") == making.digests("without")
    assert [scene["state"] for scene in making.report()["scenes"]] == ["done", "refused", "done"]
    assert not list((making.folder / "out").glob("s1*"))
    assert not (making.folder / "out" / ".segflow").exists()
    broken.write_bytes(whole)
    assert segflow("run", path).code == 0
    assert [scene["state"] for scene in making.report()["scenes"]] == ["unchanged", "done", "unchanged"]


def test_a_default_folder_that_was_made_in_vain_goes_again(
    making: Any, segflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.model()
    monkeypatch.chdir(making.folder)
    (making.folder / "a.tif").write_bytes(b"II*\0")
    path = making.recipe({"kind": "raster", "inputs": "a.tif", "model": {"weights": "toy.safetensors"}})
    assert segflow("run", path).code == 2
    assert not (making.folder / "out").exists()
    assert yaml.safe_load(path.read_text())["inputs"] == "a.tif"
