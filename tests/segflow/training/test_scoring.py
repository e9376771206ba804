"""Scores while training are those of `segflow run`: the same counts, cell for cell, from the model that is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

import pipelines
from segflow.errors import ModelError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.models.card import read_card
from segflow.models.model import Model
from segflow.recipe import Compute, Recipe, parse_recipe
from segflow.training.labelled import Scene
from segflow.training.scenes import HeldBack, index_of, open_pairs, scenes_of
from segflow.training.scoring import Scoring, score_scenes, spread
from tests.making import make_model, write_labels, write_raster, write_volume
from tiling import Box


def labels_like(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Blocks of ids with some that are ignored (0), mapped (7) and far too few (9 stands for ignore in the recipe)."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 1, 2, 3, 7, 9], tuple(-(-n // 16) for n in shape)).astype(np.uint8)
    return np.kron(blocks, np.ones((16,) * len(shape), np.uint8))[tuple(slice(n) for n in shape)]


def keys(kind: str, weights: Path, **changes: Any) -> dict[str, Any]:
    card = read_card(weights.with_suffix(".yaml"))
    return {
        "kind": kind,
        "inputs": "images/*.tif" if kind == "raster" else "images/*.nii.gz",
        "references": {
            "path": "labels/{stem}.*",
            "map": {7: 2} if kind == "raster" else {7: 2, 3: 0},
            "ignore": [9],
        },
        "model": {"weights": str(weights)},
        "outputs": {"folder": "made"},
        "compute": {"backend": "torch"},
        "train": {
            "name": "toy",
            "classes": [item.model_dump() for item in card.classes],
            "channels": card.channels,
            "patch": card.patch,
            "card": {"ignore": list(card.ignore)},
            "validation": {"scenes": ["held*"]},
        },
        **changes,
    }


def half(weights: Path) -> Path:
    """Round the weights to float16, as `train` writes them."""
    state = load_file(weights)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, weights)
    return weights


def score(recipe: Recipe, weights: Path, **options: Any) -> Scoring:
    model = Model(read_card(weights.with_suffix(".yaml")), weights)
    _, scored = scenes_of(recipe, open_pairs(recipe, model.card))
    return score_scenes(model.network(), model.card, scored, index_of(recipe), recipe.tiling, recipe.compute, **options)


def rasters(folder: Path, **profile: Any) -> None:
    (folder / "labels").mkdir(exist_ok=True)
    for number, name in enumerate(("held1", "held2", "other")):
        shape = (150 + 10 * number, 210)
        path = write_raster(
            folder / "images" / f"{name}.tif", shape, number, hole=(slice(40, 70), slice(90)), **profile
        )
        write_labels(folder / "labels" / f"{name}.tif", labels_like(shape, number), path)


def run_counts(recipe: Recipe) -> dict[str, Any]:
    result = pipelines.run(recipe)
    return {state.scene: state.report.counts for state in result.report.scenes if state.report is not None}


@pytest.mark.parametrize(("gsd", "backend"), [(None, "torch"), (0.7, "auto")])
def test_counts_equal_those_of_a_run_on_rasters(tmp_path: Path, gsd: float | None, backend: str) -> None:
    rasters(tmp_path)
    weights = half(make_model(tmp_path / "model", gsd=gsd))
    recipe = parse_recipe(keys("raster", weights, compute={"backend": backend}), tmp_path)
    found = score(recipe, weights)
    expected = run_counts(recipe)
    assert {name.rpartition("/")[2] for name in found.scenes} == {"held1", "held2"}
    for name, counts in found.scenes.items():
        assert counts == expected[name.rpartition("/")[2]]
    assert found.total.matrix is not None
    assert found.total.matrix.sum() > 1000


@pytest.mark.parametrize("spacing", [None, (1.0, 1.25, 0.5)])
def test_counts_equal_those_of_a_run_on_volumes(tmp_path: Path, spacing: tuple[float, ...] | None) -> None:
    """Also where the model's voxels are larger on one axis and smaller on another, and each volume is standardised."""
    for number, name in enumerate(("held1", "other")):
        shape = (40, 52 + number, 36)
        path = write_volume(tmp_path / "images" / f"{name}.nii.gz", shape, number, axes="LIA" if number else "RAS")
        image = nib.load(path)
        labels = labels_like(image.shape, number)
        (tmp_path / "labels").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, image.affine), tmp_path / "labels" / f"{name}.nii.gz")
    weights = half(make_model(tmp_path / "model", "volume", spacing=spacing, normalisation={"source": "scene"}))
    recipe = parse_recipe(keys("volume", weights), tmp_path)
    found = score(recipe, weights)
    assert found.scenes["images/held1"] == run_counts(recipe)["held1"]


def test_a_region_is_scored_as_a_run_scores_it_with_the_rest_for_context(tmp_path: Path) -> None:
    rasters(tmp_path)
    weights = half(make_model(tmp_path / "model"))
    plain = keys("raster", weights, inputs="images/held1.tif")
    held = {**plain["train"], "validation": {"region": [0.5, 0.25, 0.5, 0.5], "margin": 9}}
    found = score(parse_recipe({**plain, "train": held}, tmp_path), weights)
    height, width = 150, 210
    region = [width // 2, int(height * 0.25), width - width // 2, 76]
    assert int(height * 0.25) + 76 == -(-height * 3 // 4)
    run = parse_recipe({**plain, "references": {**plain["references"], "region": region}}, tmp_path)
    expected = run_counts(run)["held1"]
    assert np.array_equal(found.total.matrix, expected.matrix)
    assert found.total.predicted.sum() < expected.predicted.sum()


def test_an_area_of_interest_counts_as_in_a_run(tmp_path: Path) -> None:
    rasters(tmp_path)
    ring = [[500010, 5399990], [500080, 5399980], [500050, 5399930], [500010, 5399990]]
    area = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
        "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}],
    }
    (tmp_path / "area.geojson").write_text(json.dumps(area))
    weights = half(make_model(tmp_path / "model"))
    recipe = parse_recipe(keys("raster", weights, inputs={"path": "images/*.tif", "aoi": "area.geojson"}), tmp_path)
    found, expected = score(recipe, weights), run_counts(recipe)
    for name, counts in found.scenes.items():
        assert counts == expected[name.rpartition("/")[2]]
    assert 0 < found.total.predicted.sum() < 15_000
    learned, _ = scenes_of(recipe, open_pairs(recipe, read_card(weights.with_suffix(".yaml"))))
    (scene,) = learned.values()
    labels = scene.label.read(Box.whole(scene.label.grid.shape))
    assert 0 < labels.valid.mean() < 0.3


def test_only_cells_inside_a_mask_are_scored_and_trained_on(tmp_path: Path) -> None:
    rasters(tmp_path)
    inside = {}
    for path in (tmp_path / "images").glob("*.tif"):
        shape = rasterio.open(path).shape
        y, x = np.indices(shape)
        inside[path.stem] = (y - 80) ** 2 + (x - 110) ** 2 < 60**2
        write_labels(tmp_path / f"{path.stem}_fov.png.tif", inside[path.stem].astype(np.uint8), path)
    weights = half(make_model(tmp_path / "model"))
    plain = keys("raster", weights)
    masked = {**plain, "references": {**plain["references"], "mask": "{stem}_fov.*"}}
    recipe = parse_recipe(masked, tmp_path)
    found, expected = score(recipe, weights), run_counts(recipe)
    for name, counts in found.scenes.items():
        assert counts == expected[name.rpartition("/")[2]]
    everywhere = score(parse_recipe(plain, tmp_path), weights)
    assert found.total.matrix is not None
    assert everywhere.total.matrix is not None
    assert 0 < found.total.matrix.sum() < everywhere.total.matrix.sum()
    assert np.array_equal(found.total.predicted, everywhere.total.predicted)
    learned, _ = scenes_of(recipe, open_pairs(recipe, read_card(weights.with_suffix(".yaml"))))
    (scene,) = learned.values()
    labels = scene.label.read(Box.whole(scene.label.grid.shape))
    assert np.array_equal(labels.valid, inside["other"])


def test_the_network_goes_on_training_as_if_nothing_had_been(tmp_path: Path) -> None:
    rasters(tmp_path)
    weights = make_model(tmp_path / "model")
    model = Model(read_card(weights.with_suffix(".yaml")), weights)
    recipe = parse_recipe(keys("raster", weights), tmp_path)
    _, scored = scenes_of(recipe, open_pairs(recipe, model.card))
    network = model.network().to(memory_format=torch.channels_last).train()
    next(iter(network.children())).eval()
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    strides = [p.stride() for p in network.parameters()]
    grads = [p.grad.clone() if p.grad is not None else None for p in network.parameters()]
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    for backend in ("auto", "torch"):
        compute = recipe.compute.model_copy(update={"backend": backend})
        score_scenes(network, model.card, scored, index_of(recipe), recipe.tiling, compute, limit=1)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert modes == [m.training for m in network.modules()]
    assert strides == [p.stride() for p in network.parameters()]
    for parameter, grad in zip(network.parameters(), grads, strict=True):
        assert parameter.requires_grad
        assert grad is None or torch.equal(grad, parameter.grad)
    assert torch.equal(random, torch.get_rng_state())
    assert threads == torch.get_num_threads()


class Odd(nn.Module):
    """A network with an operation that OpenVINO does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.special.bessel_j0(x))


def test_what_openvino_does_not_know_is_scored_by_pytorch_unless_openvino_was_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rasters(tmp_path)
    weights = make_model(tmp_path / "model")
    card = read_card(weights.with_suffix(".yaml"))
    recipe = parse_recipe(keys("raster", weights), tmp_path)
    _, scored = scenes_of(recipe, open_pairs(recipe, card))
    given = (Odd(), card, scored, index_of(recipe), recipe.tiling)
    found = score_scenes(*given, Compute())
    assert "scored with PyTorch" in caplog.text
    assert "bessel" in caplog.text
    assert found.total == score_scenes(*given, Compute(backend="torch")).total
    with pytest.raises(ModelError, match="OpenVINO"):
        score_scenes(*given, Compute(backend="openvino"))


def test_the_worst_windows_are_the_worst_and_show_what_was_counted(tmp_path: Path) -> None:
    rasters(tmp_path)
    weights = make_model(tmp_path / "model", patch=(32, 48))
    found = score(parse_recipe(keys("raster", weights), tmp_path), weights, worst=5)
    assert len(found.worst) == 5
    assert [w.accuracy for w in found.worst] == sorted(w.accuracy for w in found.worst)
    for window in found.worst:
        assert window.scene in found.scenes
        assert window.image.shape == (*window.box.shape, 3)
        known = window.reference != 65535
        assert np.isin(window.reference[known], (1, 2, 3)).all()
        assert window.accuracy == pytest.approx((window.reference == window.predicted)[known].mean())
        assert known.mean() >= 0.05
    every = score(parse_recipe(keys("raster", weights), tmp_path), weights, worst=1000)
    assert every.total.matrix is not None
    assert [w.accuracy for w in every.worst[:5]] == [w.accuracy for w in found.worst]
    right = sum(((w.reference == w.predicted) & (w.reference != 65535)).sum() for w in every.worst)
    assert right == np.trace(every.total.matrix)


def test_a_volumes_worst_window_is_shown_by_its_worst_slice(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "images" / "held.nii.gz")
    image = nib.load(path)
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(labels_like(image.shape, 1), image.affine), tmp_path / "labels" / "held.nii.gz")
    write_volume(tmp_path / "images" / "other.nii.gz")
    nib.save(nib.Nifti1Image(labels_like(image.shape, 2), image.affine), tmp_path / "labels" / "other.nii.gz")
    weights = make_model(tmp_path / "model", "volume")
    (worst,) = score(parse_recipe(keys("volume", weights), tmp_path), weights, worst=1).worst
    x, y, z = worst.box.shape
    assert z == 1
    assert worst.image.shape == (y, x, 3)
    values = np.asarray(image.dataobj)[worst.box.slices][..., 0].T[::-1]
    order = np.argsort(values, axis=None)
    assert (np.diff(worst.image[..., 0].reshape(-1)[order].astype(int)) >= 0).all()


def test_a_limit_takes_scenes_from_everywhere_and_always_the_same() -> None:
    grid = Grid("raster", (4, 4))
    array = ArraySource(np.zeros((1, 4, 4), np.uint8), grid)
    scored = [HeldBack(str(k), Scene(array, array), Box.whole((4, 4))) for k in range(10)]
    assert [item.name for item in spread(scored, 3)] == ["0", "3", "6"]
    assert spread(scored, 99) == spread(scored, None) == scored
