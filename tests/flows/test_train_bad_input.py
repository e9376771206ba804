"""What cannot be trained is refused with found, expected and remedy, exit code 2; a model that is there stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

Case = Callable[[Any], Path]
CASES: dict[str, tuple[Case, tuple[str, ...]]] = {}

TRAIN: dict[str, Any] = {
    "name": "toy",
    "arguments": {"width": 4, "depth": 2},
    "classes": [
        {"id": 0, "name": "water", "colour": "#0000FF"},
        {"id": 1, "name": "wood", "colour": "#00AA00"},
        {"id": 2, "name": "town", "colour": "#FF0000"},
    ],
    "channels": ["red", "green", "blue"],
    "normalisation": {"mean": [128.0], "deviation": [50.0]},
    "patch": [32, 32],
    "steps": 2,
    "batch": 1,
}


def case(*said: str) -> Callable[[Case], Case]:
    """Register a case: the recipe that it makes, and words that the message must have."""

    def keep(function: Case) -> Case:
        CASES[function.__name__] = (function, said)
        return function

    return keep


def recipe(make: Any, train: dict[str, Any] | None = None, **parts: Any) -> Path:
    data = {
        "kind": "raster",
        "inputs": "images/*.tif",
        "references": "labels/{stem}.tif",
        "outputs": {"folder": "out"},
        "train": {**TRAIN, **(train or {})},
        **parts,
    }
    return Path(make.recipe(data))


def pair(make: Any, name: str, shape: tuple[int, int] = (64, 70), labels: NDArray[Any] | None = None) -> None:
    make.raster(f"images/{name}.tif", shape)
    if labels is None:
        make.labels(f"labels/{name}.tif", shape)
    else:
        make.write(f"labels/{name}.tif", labels[None].astype(np.uint8))


def two(make: Any) -> None:
    pair(make, "a")
    pair(make, "b")


@case("images/a", "ids that are no class: 7 (40 cells), 9 (2 cells)", "class ids 0, 1, 2", "references.map")
def labels_outside_the_classes(make: Any) -> Path:
    labels = np.zeros((64, 70))
    labels[0, :40], labels[1, :2] = 7, 9
    pair(make, "a", labels=labels)
    return recipe(make)


@case("references.map gives 8", "correct the right-hand sides")
def a_map_to_no_class(make: Any) -> Path:
    two(make)
    return recipe(make, references={"path": "labels/{stem}.tif", "map": {1: 8}})


@case("b has y 64, x 71", "b has y 64, x 70", "on one grid")
def labels_of_another_size(make: Any) -> Path:
    pair(make, "a")
    make.raster("images/b.tif", (64, 70))
    make.labels("labels/b.tif", (64, 71))
    return recipe(make)


@case("the reference b lies elsewhere than b", "on one grid")
def labels_shifted_by_a_cell(make: Any) -> Path:
    pair(make, "a")
    make.raster("images/b.tif", (64, 70))
    make.labels("labels/b.tif", (64, 70), transform=Affine(1, 0, 5e5 + 1, 0, -1, 5e6))
    return recipe(make)


@case("lies elsewhere than", "on one grid")
def labels_of_another_affine(make: Any) -> Path:
    (make.folder / "labels").mkdir()
    make.volume("a.nii.gz", (20, 24, 16))
    image = nib.load(make.volume("labels/a.nii.gz", (20, 24, 16), labels=True))
    shift = np.eye(4)
    shift[2, 3] = 3.0
    moved = nib.Nifti1Image(np.asarray(image.dataobj), shift)
    nib.save(moved, make.folder / "labels" / "a.nii.gz")
    return recipe(
        make,
        {"channels": ["t1"], "patch": [16, 16, 16]},
        kind="volume",
        inputs="a.nii.gz",
        references="labels/{stem}.nii.gz",
    )


@case("has 3 channels", "a label map: one channel of ids")
def labels_as_a_coloured_picture(make: Any) -> Path:
    make.raster("images/a.tif", (64, 70))
    make.raster("labels/a.tif", (64, 70))
    return recipe(make)


@case("no training cell is of the class wood", "references.map", "train.validation")
def a_class_without_training_cells(make: Any) -> Path:
    pair(make, "a", labels=np.kron([[0, 2], [2, 0]], np.ones((32, 35))))
    pair(make, "b")
    return recipe(make, {"validation": {"scenes": ["b"]}})


@case("no training cell has a label")
def nothing_but_ignored_labels(make: Any) -> Path:
    pair(make, "a", labels=np.full((64, 70), 5))
    return recipe(make, references={"path": "labels/{stem}.tif", "ignore": [5]})


@case("no cell that is held back has a label", "train.validation")
def nothing_labelled_to_score_on(make: Any) -> Path:
    pair(make, "a")
    pair(make, "b", labels=np.full((64, 70), 5))
    ignore = {"path": "labels/{stem}.tif", "ignore": [5]}
    return recipe(make, {"validation": {"scenes": ["b"]}}, references=ignore)


@case("holds all scenes back (*)", "something to train on")
def everything_held_back(make: Any) -> Path:
    two(make)
    return recipe(make, {"validation": {"scenes": ["*"]}})


@case("holds all scenes back", "region and its margin")
def a_region_of_everything(make: Any) -> Path:
    two(make)
    return recipe(make, {"validation": {"region": [0.5, 0, 0.5, 1], "margin": 40}})


@case("no scene is called elsewhere", "one of images/a, images/b")
def a_name_that_fits_no_scene(make: Any) -> Path:
    two(make)
    return recipe(make, {"validation": {"scenes": ["elsewhere"]}})


@case("no scene is called tile9", "train.fineness")
def a_fineness_of_no_scene(make: Any) -> Path:
    two(make)
    return recipe(make, {"fineness": {"tile9": 3.0}})


@case("3 folds of 2 scenes", "lower train.validation.folds")
def more_folds_than_scenes(make: Any) -> Path:
    two(make)
    return recipe(make, {"validation": {"folds": 3, "fold": 0}})


@case("fold 2 is none of 0 to 1")
def a_fold_that_there_is_not(make: Any) -> Path:
    two(make)
    return recipe(make, {"validation": {"folds": 2, "fold": 2}})


@case("region", "within 0 to 1")
def a_region_outside(make: Any) -> Path:
    two(make)
    return recipe(make, {"validation": {"region": [0.5, 0, 0.6, 1]}})


@case("margin", "region")
def a_margin_around_nothing(make: Any) -> Path:
    two(make)
    return recipe(make, {"validation": {"scenes": ["b"], "margin": 3}})


@case("the reference of b is missing", "b.tif")
def an_image_without_reference(make: Any) -> Path:
    pair(make, "a")
    make.raster("images/b.tif", (64, 70))
    return recipe(make)


@case("0 references for a match", "exactly one")
def references_that_match_nothing(make: Any) -> Path:
    two(make)
    return recipe(make, references="truth/{stem}*.tif")


@case("the mask of b is missing", "b_mask.tif")
def a_mask_that_is_missing(make: Any) -> Path:
    two(make)
    make.labels("labels/a_mask.tif", (64, 70))
    return recipe(make, references={"path": "labels/{stem}.tif", "mask": "labels/{stem}_mask.tif"})


@case("a_mask has y 64, x 69", "on one grid")
def a_mask_of_another_size(make: Any) -> Path:
    pair(make, "a")
    make.labels("labels/a_mask.tif", (64, 69))
    return recipe(make, references={"path": "labels/{stem}.tif", "mask": "labels/{stem}_mask.tif"})


@case("nothing matches", "pictures")
def inputs_that_match_nothing(make: Any) -> Path:
    two(make)
    return recipe(make, inputs="pictures/*.tif")


@case("gives 3 bands", "inputs.bands")
def other_channels_than_the_images(make: Any) -> Path:
    two(make)
    return recipe(make, {"channels": ["grey"]})


@case("lies outside of the raster")
def a_reference_region_outside(make: Any) -> Path:
    two(make)
    return recipe(make, references={"path": "labels/{stem}.tif", "region": [100, 20, 300, 40]})


@case("b", "remedy")
def a_broken_image(make: Any) -> Path:
    two(make)
    path = make.folder / "images" / "b.tif"
    path.write_bytes(path.read_bytes()[:3000])
    return recipe(make)


def test_a_card_is_not_written_over_its_own_recipe(making: Any, segflow: Any) -> None:
    two(making)
    path = recipe(making, outputs={"folder": "."})
    path = path.rename(making.folder / "toy.yaml")
    text = path.read_text()
    result = segflow("train", path, "-q")
    assert result.code == 2
    assert "would be written over the recipe" in result.err
    assert path.read_text() == text


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_and_what_was_there_stays(name: str, making: Any, segflow: Any) -> None:
    make, said = CASES[name]
    path = make(making)
    out = making.folder / "out"
    out.mkdir()
    for file in ("toy.safetensors", "toy.yaml"):
        (out / file).write_text("a model of last week")
    text = path.read_text()
    result = segflow("train", path, "-q")
    assert result.code == 2, result.err + result.out
    for words in (*said, "expected: ", "remedy: "):
        assert words in result.err
    assert "Traceback" not in result.err
    assert {p.name: p.read_text() for p in out.iterdir()} == dict.fromkeys(
        ("toy.safetensors", "toy.yaml"), "a model of last week"
    )
    assert path.read_text() == text
