"""`segflow init`: a recipe that runs as it is, or that names what only a person knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnx
import pytest
import rasterio
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper
from rasterio.enums import ColorInterp

from pipelines.drafts.scaling import Sampled, scaling_warning
from segflow.models.card import Normalisation
from segflow.recipe import read_recipe

IMAGENET = {"standardization_mean": [0.485, 0.456, 0.406], "standardization_std": [0.229, 0.224, 0.225]}
DEEPNESS = {
    "model_type": "Segmentor",
    "class_names": {"0": "background", "1": "road", "2": 'a: tree # "x"'},
    "resolution": 100,
    "tile_size": 32,
    "tiles_overlap": 15,
    **IMAGENET,
}


def weights() -> np.ndarray:
    """A 1 x 1 convolution: (class, channel)."""
    return np.random.default_rng(5).normal(size=(3, 3)).astype(np.float32)


def onnx_model(path: Path, metadata: dict[str, Any] | None = None, size: tuple[int, int] = (32, 48)) -> Path:
    """Write a network of one 1 x 1 convolution that takes batches of two patches of one size."""
    shape = [2, 3, *size]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["scores"], kernel_shape=[1, 1])],
        "pointwise",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights()[:, :, None, None], "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in (metadata or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    onnx.save(model, str(path))
    return path


def test_builtin_model_on_a_raster_gives_a_recipe_that_runs_as_it_is(making, segflow):
    making.raster()
    recipe = making.folder / "recipe.yaml"
    made = segflow("init", "-m", "builtin:landcover-rgb", "-i", making.folder / "a.tif", "-o", recipe)
    assert (made.code, made.err) == (0, "")
    assert yaml.safe_load(recipe.read_text())["inputs"]["path"] == "a.tif"
    assert segflow("run", recipe).code == 0
    assert set(making.digests("out/landcover-rgb")) == {"a_labels.tif", "a_confidence.tif"}


def test_builtin_model_on_a_volume_gives_a_recipe_that_runs_as_it_is(making, segflow):
    making.volume()
    recipe = making.folder / "recipe.yaml"
    assert segflow("init", "-m", "builtin:brain-tissue", "-i", making.folder / "a.nii.gz", "-o", recipe).code == 0
    assert segflow("run", recipe, "--set", "tiling.patch=40").code == 0  # small only so that the test is quick
    assert "a_dseg.nii.gz" in making.digests("out/brain-tissue")


def test_own_model_with_its_card_gives_a_recipe_that_runs_as_it_is(making, segflow):
    making.raster()
    recipe = making.folder / "deep" / "recipe.yaml"
    assert segflow("init", "-m", making.model(), "-i", making.folder / "a.tif", "-o", recipe).code == 0
    said = yaml.safe_load(recipe.read_text())
    assert (said["inputs"]["path"], said["model"]) == ("../a.tif", {"weights": "../toy.safetensors"})
    assert segflow("run", recipe).code == 0


def test_onnx_with_metadata_of_deepness_is_obeyed_and_runs_unchanged(making, segflow):
    raster = making.raster(shape=(70, 90))
    recipe = making.folder / "recipe.yaml"
    made = segflow("init", "-m", onnx_model(making.folder / "m.onnx", DEEPNESS), "-i", raster, "-o", recipe, "--json")
    assert (made.code, made.json["required"], made.json["warnings"]) == (0, [], [])
    said = read_recipe(recipe)
    assert said.tiling.patch == (32, 48)
    assert said.tiling.overlap == 0.15
    assert said.model.gsd == 1.0
    assert [item.name for item in said.model.classes] == ["background", "road", 'a: tree # "x"']
    assert said.model.normalisation.mean == pytest.approx((123.675, 116.28, 103.53))

    assert segflow("run", recipe).code == 0
    with rasterio.open(raster) as file:
        values = file.read().astype(np.float64)
    mean, deviation = (255 * np.array(IMAGENET[key]) for key in ("standardization_mean", "standardization_std"))
    scores = np.einsum("kc,cyx->kyx", weights(), (values - mean[:, None, None]) / deviation[:, None, None])
    with rasterio.open(making.folder / "out" / "m" / "a_labels.tif") as file:
        labels = file.read(1)
    order = np.sort(scores, axis=0)
    clear = order[-1] - order[-2] > 0.2
    assert clear.mean() > 0.8
    assert_array_equal(labels[clear], scores.argmax(axis=0)[clear])


def test_what_nobody_told_is_marked_and_a_run_names_it_and_writes_nothing(making, segflow):
    raster = making.raster(shape=(70, 90))
    recipe = making.folder / "recipe.yaml"
    made = segflow("init", "-m", onnx_model(making.folder / "m.onnx"), "-i", raster, "-o", recipe)
    keys = ["model.classes.0.name", "model.classes.1.name", "model.classes.2.name", "model.normalisation"]
    assert made.code == 0
    assert f"fill in: {', '.join(keys)}\n" in made.out
    for command in ("run", "plan"):
        refused = segflow(command, recipe)
        assert refused.code == 2
        assert f"REQUIRED at {', '.join(keys)}\n" in refused.err
    assert not (making.folder / "out").exists()

    text = recipe.read_text()
    for name in ("one", "two", "three"):
        text = text.replace("name: REQUIRED", f"name: {name}", 1)
    recipe.write_text(text)
    assert segflow("run", recipe, "--set", "model.normalisation={mean: [0], deviation: [255]}").code == 0


def test_weights_alone_ask_for_the_network(making, segflow):
    raster = making.raster()
    model = making.model()
    model.with_suffix(".yaml").unlink()
    recipe = making.folder / "recipe.yaml"
    made = segflow("init", "-m", model, "-i", raster, "-o", recipe, "--json")
    assert {"model.architecture", "model.classes", "model.normalisation"} <= set(made.json["required"])
    assert yaml.safe_load(recipe.read_text())["kind"] == "raster"


@pytest.mark.parametrize(
    ("colours", "names", "expected"),
    [
        ((ColorInterp.blue, ColorInterp.green, ColorInterp.red), (), [3, 2, 1]),
        ((ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined), (), [1, 2, 3]),
        ((ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha), (), [1, 2, 3]),
        ((ColorInterp.gray, *(ColorInterp.undefined,) * 4), ("NIR", "Blue", "Green", "Red", "SWIR"), [4, 3, 2]),
        ((ColorInterp.gray, *(ColorInterp.undefined,) * 4), (), "REQUIRED"),
    ],
    ids=["turned", "four", "alpha", "by name", "unknown"],
)
def test_bands_are_taken_by_name_or_asked_for(making, segflow, colours, names, expected):
    raster = making.raster(bands=len(colours))
    with rasterio.open(raster, "r+") as file:
        file.colorinterp = colours
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
    made = segflow("init", "-m", "builtin:landcover-rgb", "-i", raster, "-o", "-")
    assert made.code == 0
    assert yaml.safe_load(made.out)["inputs"]["bands"] == expected


def test_an_input_with_too_few_bands_is_refused(making, segflow):
    refused = segflow("init", "-m", "builtin:landcover-rgb", "-i", making.raster(bands=1), "-o", "-")
    assert refused.code == 2
    assert "1 bands" in refused.err
    assert "3 channels (red, green, blue)" in refused.err


def test_channels_in_files_of_their_own_are_asked_for_one_by_one(making, segflow, making_in):
    model = making.model("volume")
    card = yaml.safe_load(model.with_suffix(".yaml").read_text())
    model.with_suffix(".yaml").write_text(yaml.safe_dump(card | {"channels": ["t1", "t2"]}))
    for name in ("a_0000", "a_0001"):
        making.volume(f"{name}.nii.gz")
    made = segflow("init", "-m", model, "-i", making.folder / "*.nii.gz", "-o", "-")
    assert yaml.safe_load(made.out)["inputs"]["channels"] == {"t1": "REQUIRED", "t2": "REQUIRED"}


def test_sixteen_bits_against_a_normalisation_of_bytes_warn_with_numbers_and_cause(making, segflow):
    with rasterio.open(making.raster()) as file:
        values = file.read()
    making.write("deep.tif", values.astype(np.uint16) * 40)
    made = segflow("init", "-m", "builtin:landcover-rgb", "-i", making.folder / "deep.tif", "-o", "-")
    assert made.code == 0
    for part in ("deep.tif", "mean (", "uint16 from 0 to 10200", "8-bit values from 0 to 255"):
        assert part in made.err
    assert "# WARNING: " in made.out
    assert not segflow("init", "-m", "builtin:landcover-rgb", "-i", making.folder / "a.tif", "-o", "-").err


def test_a_recipe_that_is_there_is_not_written_over(making, segflow):
    raster = making.raster()
    recipe = making.recipe()
    before = recipe.read_text()
    refused = segflow("init", "-m", "builtin:landcover-rgb", "-i", raster, "-o", recipe)
    assert refused.code == 2
    assert "--force" in refused.err
    assert recipe.read_text() == before
    assert segflow("init", "-m", "builtin:landcover-rgb", "-i", raster, "-o", recipe, "--force").code == 0
    assert recipe.read_text() != before


def test_names_that_yaml_would_misread_come_through(making, segflow):
    raster = making.raster("odd: name # {x} [1] 'q'.tif")
    with rasterio.open(raster, "r+") as file:
        file.set_band_description(1, "red\nkind: volume")
    recipe = making.folder / "recipe.yaml"
    assert segflow("init", "-m", "builtin:landcover-rgb", "-i", raster, "-o", recipe).code == 0
    said = read_recipe(recipe)
    assert (said.kind, said.inputs.path) == ("raster", raster.name)


def test_a_missing_input_or_model_is_named_and_nothing_is_written(making, segflow):
    recipe = making.folder / "recipe.yaml"
    for model, given_input in (("builtin:landcover-rgb", "none.tif"), ("none.onnx", making.raster())):
        refused = segflow("init", "-m", model, "-i", given_input, "-o", recipe)
        assert refused.code == 2
        assert "none." in refused.err
    assert not recipe.exists()


def test_a_folder_of_scenes_is_kept_as_a_folder(making, segflow):
    for name in ("x/a.tif", "x/b.tif"):
        making.raster(name)
    made = segflow("init", "-m", "builtin:landcover-rgb", "-i", making.folder / "x", "-o", "-")
    assert "landcover-rgb on a.tif and 1 more" in made.out


def sampled(low: float, high: float, dtype: str = "uint8") -> Sampled:
    return Sampled.of(np.linspace(low, high, 99, dtype=dtype)[None].repeat(3, 0))


@pytest.mark.parametrize(
    ("mean", "deviation", "found", "cause"),
    [
        ((120.0,), (60.0,), sampled(0, 255), None),
        ((120.0,), (60.0,), sampled(0, 10_000, "uint16"), "8-bit values from 0 to 255: scale"),
        ((120.0,), (60.0,), sampled(0, 1, "float32"), "divide mean and deviation by 255"),
        ((0.45, 0.45, 0.4), (0.2,), sampled(0, 255), "multiply mean and deviation by 255"),
        ((0.45,), (0.2,), sampled(0, 9000, "uint16"), "bring the input to that scale"),
        ((1200.0,), (300.0,), sampled(7000, 9000, "uint16"), "another sensor"),
        ((0.0,), (255.0,), sampled(0, 255), None),
        ((0.0,), (255.0,), sampled(0, 4000, "uint16"), "reaches 15.7 instead of about 1"),
        ((0.0,), (255.0,), sampled(0, 1, "float32"), "divide mean and deviation by 255"),
        ((0.0,), (1.0,), sampled(0, 9000, "uint16"), None),
    ],
)
def test_warnings_name_the_likely_cause_and_raw_values_have_none(mean, deviation, found, cause):
    said = scaling_warning(Normalisation(mean=mean, deviation=deviation), found)
    assert said is None if cause is None else cause in (said or "")


def test_statistics_of_the_scene_itself_never_warn():
    assert scaling_warning(Normalisation(source="scene"), sampled(0, 60_000, "uint16")) is None


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4), st.integers(0, 99))
def test_values_as_in_the_training_never_warn(mean, deviation, seed):
    values = np.random.default_rng(seed).normal(mean, deviation, (2, 400))
    rule = Normalisation(mean=(mean, mean), deviation=(deviation, deviation))
    assert mean == 0 or scaling_warning(rule, Sampled.of(values)) is None


def test_the_sample_of_a_volume_leaves_out_what_is_not_finite(making, segflow):
    values = np.random.default_rng(0).normal(100, 10, (30, 30, 30)).astype(np.float32)
    values[:15] = np.nan
    nib.save(nib.Nifti1Image(values, np.eye(4)), making.folder / "n.nii.gz")
    made = segflow("init", "-m", making.model("volume"), "-i", making.folder / "n.nii.gz", "-o", "-")
    assert made.code == 0
    assert "nan" not in made.out + made.err
