"""Training reads what a run reads: the same cells, bands, channels, masks and cell size; of many scenes, lazily."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.io.lazy import LazySource, open_files
from segflow.io.opening import open_source
from segflow.io.raster import RasterSpec
from segflow.io.source import Pixels
from segflow.models.card import Card, Normalisation
from segflow.recipe import Recipe, parse_recipe
from segflow.training import scenes
from segflow.training.batches import Batches
from segflow.training.labelled import IGNORED, LabelIndex, Scene, labels_of
from segflow.training.sampling import Sampler
from segflow.training.scenes import HeldBack, index_of, open_pairs, scenes_of
from segflow.training.statistics import scene_statistics
from tests.making import classes, write_labels, write_raster, write_volume
from tiling import Box


def recipe(folder: Path, kind: str = "raster", train: dict[str, Any] | None = None, **parts: Any) -> Recipe:
    raster = kind == "raster"
    keys = {
        "name": "toy",
        "classes": [item.model_dump() for item in classes((1, 2))],
        "channels": ["red", "green", "blue"] if raster else ["t1"],
        "patch": [32, 32] if raster else [16, 16, 16],
        **(train or {}),
    }
    data = {"kind": kind, "inputs": "images/*", "references": "labels/{stem}.*", "train": keys, **parts}
    return parse_recipe(data, folder)


def card(of: Recipe, **changes: Any) -> Card:
    assert of.train is not None
    return Card.model_validate(
        {
            "name": "toy",
            "kind": of.kind,
            "architecture": "unet",
            "classes": of.train.classes,
            "channels": of.train.channels,
            "patch": of.train.patch,
            **of.train.card,
            **changes,
        }
    )


def opened(of: Recipe) -> tuple[dict[str, Scene], list[HeldBack]]:
    return scenes_of(of, open_pairs(of, card(of)))


def pair(folder: Path, name: str, shape: tuple[int, int] = (60, 50), seed: int = 0, **profile: Any) -> None:
    path = write_raster(folder / "images" / f"{name}.tif", shape, seed, **profile)
    (folder / "labels").mkdir(exist_ok=True)
    ids = np.random.default_rng(seed).integers(1, 3, shape).astype(np.uint8)
    write_labels(folder / "labels" / f"{name}.tif", ids, path)


def ramp(shape: tuple[int, ...], spacing: Sequence[float]) -> Any:
    """Values that are, along each axis, a different multiple of the distance from the corner."""
    axes = np.meshgrid(*((np.arange(n) + 0.5) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij")
    return sum(10.0**k * axis for k, axis in enumerate(axes))


@pytest.mark.parametrize(
    ("shape", "spacing", "wanted"),
    [
        ((120, 130), (0.5, 0.5), (1.0, 1.0)),
        ((120, 130), (0.5, 0.5), (0.2, 0.2)),
        ((60, 60, 20), (1.0, 1.0, 3.0), (1.0, 1.0, 1.0)),
        ((40, 40, 60), (1.0, 0.7, 0.5), (1.0, 1.0, 1.0)),
    ],
)
def test_a_patch_has_the_cell_size_that_a_run_resamples_to(
    shape: tuple[int, ...], spacing: tuple[float, ...], wanted: tuple[float, ...]
) -> None:
    """On a ramp the step from cell to cell of a patch is the model's cell size, on every axis."""
    kind = "raster" if len(shape) == 2 else "volume"
    grid = Grid(kind, shape, spacing=spacing)
    seen = {"gsd": wanted[0]} if kind == "raster" else {"spacing": wanted}
    keys = {"channels": ["one"], "patch": [8] * len(shape)}
    ratio = scenes._ratio(ArraySource(np.zeros((1, *shape)), grid), card(recipe(Path(), kind, keys), **seen))
    image = ArraySource(ramp(shape, spacing)[None].astype(np.float32), grid)
    scene = Scene(image, ArraySource(np.ones((1, *shape), np.uint8), grid), (), 1.0, ratio)
    sampler = Sampler([scene], LabelIndex((1,)), 1, 0.5, 0)
    known = scene_statistics(scene, Normalisation(), np.random.default_rng(0))
    batch = Batches(sampler=sampler, statistics=(known,), patch=(8,) * len(shape), batch=4).make(0)
    for axis, size in enumerate(wanted):
        steps = np.diff(batch.values[:, 0].numpy(), axis=1 + axis)
        assert np.median(steps) == pytest.approx(10.0**axis * size, rel=0.02)


def test_bands_nodata_area_and_region_are_those_of_the_recipe(tmp_path: Path) -> None:
    pair(tmp_path, "a", hole=(slice(10), slice(50)))
    ring = [[500000, 5400000], [500020, 5400000], [500020, 5399970], [500000, 5399970], [500000, 5400000]]
    area = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
        "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}],
    }
    (tmp_path / "area.geojson").write_text(json.dumps(area))
    one = recipe(
        tmp_path,
        train={"channels": ["blue", "red"]},
        inputs={"path": "images/a.tif", "bands": [3, 1], "aoi": "area.geojson"},
        references={"path": "labels/{stem}.tif", "region": [5, 0, 100, 30], "ignore": [1], "map": {2: 2}},
    )
    learned, _ = opened(one)
    (scene,) = learned.values()
    whole = Box.whole((60, 50))
    expected = open_source(RasterSpec(str(tmp_path / "images" / "a.tif"))).read(whole)
    found = scene.image.read(whole)
    assert np.array_equal(found.values, expected.values[[2, 0]])
    assert np.array_equal(found.valid, expected.valid)
    labels = labels_of(scene, LabelIndex((2,), ignore=(1,)), whole)
    truth = open_source(RasterSpec(str(tmp_path / "labels" / "a.tif"))).read(whole).values[0]
    counts = np.zeros((60, 50), np.bool_)
    counts[10:30, 5:40] = True
    assert np.array_equal(labels, np.where(counts & (truth == 2), 0, IGNORED))


def test_channels_come_in_the_cards_order_on_the_chosen_grid(tmp_path: Path) -> None:
    for k, name in enumerate(("t1", "flair")):
        write_volume(tmp_path / "images" / f"x_{name}.nii.gz", (20 + 4 * k, 24, 16), k)
    image = nib.load(tmp_path / "images" / "x_t1.nii.gz")
    (tmp_path / "labels").mkdir()
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine), tmp_path / "labels" / "x.nii.gz")
    one = recipe(
        tmp_path,
        "volume",
        {"channels": ["flair", "t1"]},
        inputs={
            "path": "images",
            "channels": {"t1": "{case}_t1.nii.gz", "flair": "{case}_flair.nii.gz"},
            "resample_to": "t1",
        },
        references="labels/{case}.nii.gz",
    )
    (scored,) = open_pairs(one, card(one))
    values = scored.image.read(Box.whole((20, 24, 16))).values
    assert np.array_equal(values[1], np.asarray(image.dataobj))
    flair = np.asarray(nib.load(tmp_path / "images" / "x_flair.nii.gz").dataobj)
    assert np.allclose(values[0], flair[:20], atol=1e-3)


@pytest.mark.parametrize("room", [None, 0])
def test_hundreds_of_scenes_leave_few_files_open(
    tmp_path: Path, room: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 60
    for number in range(count):
        pair(tmp_path, f"s{number}", (20, 20), number, tiled=False, blockxsize=20, blockysize=20)
    if room is not None:
        monkeypatch.setattr(scenes, "memory_left", lambda: room)
    before = psutil.Process().num_fds()
    one = recipe(tmp_path, train={"validation": {"folds": 4, "fold": 1}})
    learned, scored = opened(one)
    assert (len(learned), len(scored)) == (45, 15)
    sampler = Sampler(list(learned.values()), index_of(one), 2, 0.5, 0)
    assert sampler.counts.sum() == 45 * 400
    assert psutil.Process().num_fds() - before <= 30
    kinds = {type(scene.image) for scene in learned.values()}
    assert kinds == {ArraySource if room is None else LazySource}
    for scene in learned.values():
        scene.image.close()
        scene.label.close()


def test_what_is_trained_on_comes_into_memory_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        pair(tmp_path, name)
    need = 60 * 50 * (3 + 1 + 3)
    monkeypatch.setattr(scenes, "memory_left", lambda: 4 * 2 * need)
    learned, scored = opened(recipe(tmp_path, train={"validation": {"scenes": ["a"]}}))
    assert all(isinstance(scene.image, ArraySource) for scene in learned.values())
    assert [type(item.scene.image) for item in scored] == [LazySource]


def test_scenes_take_a_quarter_of_the_memory_that_the_recipe_allows(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        pair(tmp_path, name)
    learned, _ = opened(recipe(tmp_path, compute={"memory": "200 KiB"}))
    assert [type(scene.image) for scene in learned.values()] == [ArraySource, ArraySource, LazySource]


def test_of_a_very_large_scene_the_sample_is_taken_here_and_there() -> None:
    """Beside the card's numbers a scene's values are only sampled: not all of it is read for that."""

    class Counted(ArraySource):
        cells = 0

        def read(self, box: Box) -> Pixels:
            self.cells += box.size
            return super().read(box)

    grid = Grid("raster", (40_000, 4096))
    image = Counted(np.broadcast_to(np.uint8(7), (1, *grid.shape)), grid, np.broadcast_to(np.True_, grid.shape))
    scene = Scene(image, image)
    found = scene_statistics(scene, Normalisation(mean=(3.0,), deviation=(2.0,)), np.random.default_rng(0))
    assert image.cells < 0.6 * grid.size
    assert (found.mean, found.deviation, found.sample.mean()) == (3.0, 2.0, 7.0)


def test_a_lazy_source_reads_the_same_from_many_threads_and_after_pickling(tmp_path: Path) -> None:
    specs = [RasterSpec(str(write_raster(tmp_path / f"{k}.tif", (80, 80), k))) for k in range(40)]
    expected = []
    sources: list[LazySource] = []
    for spec in specs:
        source = open_source(spec)
        expected.append(source.read(Box.whole((80, 80))).values)
        sources.append(pickle.loads(pickle.dumps(LazySource(spec, source))))
        source.close()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda k: sources[k % 40].read(Box.whole((80, 80))).values, range(200)))
    assert all(np.array_equal(values, expected[k % 40]) for k, values in enumerate(found))
    assert 0 < open_files() <= 24
    for lazy in sources:
        lazy.close()


def test_cells_count_once_though_free_boxes_overlap() -> None:
    grid = Grid("raster", (20, 30))
    rng = np.random.default_rng(0)
    labels, valid = rng.integers(1, 3, (1, 20, 30)).astype(np.uint8), rng.random((20, 30)) < 0.8
    hole = Box((5, 8), (12, 20))
    scene = Scene(ArraySource(np.ones((1, 20, 30)), grid, valid), ArraySource(labels, grid), (hole,))
    free = valid.copy()
    free[hole.slices] = False
    found = Sampler([scene], LabelIndex((1, 2)), 2, 0.5, 0).counts
    assert found.tolist() == [[int((free & (labels[0] == k)).sum()) for k in (1, 2)]]


def test_a_patch_may_be_larger_than_its_scene(tmp_path: Path) -> None:
    pair(tmp_path, "a", (20, 17))
    learned, _ = opened(recipe(tmp_path))
    (scene,) = learned.values()
    sampler = Sampler([scene], LabelIndex((1, 2)), 2, 0.5, 0)
    known = scene_statistics(scene, Normalisation(), np.random.default_rng(0))
    batch = Batches(sampler=sampler, statistics=(known,), patch=(64, 48), batch=3).make(0)
    assert batch.values.shape == (3, 3, 64, 48)
    assert bool(batch.values.isfinite().all())
    assert set(batch.labels.unique().tolist()) == {0, 1}


def test_what_a_run_would_notice_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c", "d", "e"):
        pair(tmp_path, name)
        ids = np.full((60, 50), 1 if name == "a" else 2, np.uint8)
        ids[:30] = 1
        path = tmp_path / "labels" / f"{name}.tif"
        write_labels(path, ids, tmp_path / "images" / f"{name}.tif")
        import rasterio

        with rasterio.open(path, "r+") as file:
            file.crs = "EPSG:25833"
    opened(recipe(tmp_path, train={"validation": {"scenes": ["a"]}}))
    assert caplog.text.count("the transforms agree") == 3
    assert "for 2 more scenes" in caplog.text
    assert "of the class class 2" in caplog.text


def test_two_scenes_of_one_name_are_two(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        pair(tmp_path / folder / "x", "a")
    one = recipe(tmp_path, inputs=["one/x/images/a.tif", "two/x/images/a.tif"], references="one/x/labels/{stem}.tif")
    learned, _ = opened(one)
    assert len(learned) == 2


def test_a_file_that_goes_meanwhile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair(tmp_path, "a")
    monkeypatch.setattr(scenes, "memory_left", lambda: 0)
    learned, _ = opened(recipe(tmp_path))
    (scene,) = learned.values()
    scene.image.close()
    (tmp_path / "images" / "a.tif").unlink()
    with pytest.raises(InputError, match=r"a\.tif"):
        scene.image.read(Box((0, 0), (4, 4)))


@pytest.mark.real
def test_the_shipped_recipes_fit_their_data(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of labels are classes, mapped or ignored (of many scenes every eighth is looked at)."""
    from segflow.recipe import read_recipe
    from segflow.training.train import card_of

    monkeypatch.setenv("SEGFLOW_DATA", str(shared_data))
    folder = Path(scenes.__file__).parents[2] / "pipelines" / "training"
    for path in sorted(folder.glob("*.yaml")):
        one = read_recipe(path)
        assert one.train is not None
        held = one.train.validation
        if held.fold == "all":
            train = one.train.model_copy(update={"validation": held.model_copy(update={"fold": 0})})
            one = one.model_copy(update={"train": train})
        pairs = open_pairs(one, card_of(one))
        learned, _ = scenes_of(one, pairs if len(pairs) < 60 else pairs[::8])
        assert learned, path
