"""From a training recipe to labelled scenes, opened lazily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from math import ceil
from typing import cast

from segflow.errors import RecipeError
from segflow.io.discover import discover, reference_for
from segflow.io.raster import RasterSpec, open_labels, open_raster
from segflow.io.source import Source
from segflow.io.volume import VolumeSpec, open_volume
from segflow.models.card import Card
from segflow.recipe import Recipe, References, Train
from segflow.training.sampling import Scene, in_memory
from tiling.box import Box


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image and its labels, open.

    Attributes:
        name: folder and stem, such as "tile6/part1"; patterns in the recipe fit it, or the stem alone.
        image: what the network sees; volumes in the card's orientation.
        label: one channel of ids on the same grid.
    """

    name: str
    image: Source
    label: Source

    def fits(self, pattern: str) -> bool:
        """Tell whether a pattern with * means this scene."""
        return fnmatch(self.name, pattern) or fnmatch(self.name.rpartition("/")[2], pattern)


Opener = Callable[[Recipe, Card], Sequence[Labelled]]
"""Opens the images and label files of a recipe."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A scene and the part of it that is scored.

    Attributes:
        name: the scene's.
        scene: values and labels of all of it.
        box: what is scored.
    """

    name: str
    scene: Scene
    box: Box


_MEMORY_BYTES = 2 << 30


def train_of(recipe: Recipe) -> Train:
    """Return the recipe's `train`.

    Raises:
        RecipeError: it has none, or has no references.
    """
    if recipe.train is None:
        raise RecipeError(f"{recipe.name} has no key train", "train with name, classes, ...", "add it")
    if recipe.references is None:
        raise RecipeError(f"{recipe.name} has no references", "labels to learn from", "add references.path")
    return recipe.train


def open_pairs(recipe: Recipe, card: Card) -> list[Labelled]:
    """Open the files that a recipe names; reads headers only. An `Opener`.

    Raises:
        RecipeError: a pattern cannot be meant, or there are no references.
        InputError: a file is missing or broken.
    """
    train_of(recipe)
    pairs: list[Labelled] = []
    for found in discover(recipe.inputs, recipe.kind, recipe.resolve):
        reference = reference_for(found, cast(References, recipe.references), recipe.resolve)
        image: Source
        label: Source
        if recipe.kind == "raster":
            inputs = recipe.inputs
            spec = RasterSpec(found.paths[0], inputs.bands or card.bands, inputs.nodata, inputs.collar, inputs.aoi)
            image, label = open_raster(spec), open_labels(reference)
        else:
            paths = found.paths if len(found.paths) > 1 else found.paths[0]
            image = open_volume(VolumeSpec(paths, card.orientation))
            label = open_volume(VolumeSpec(reference, card.orientation))
        pairs.append(Labelled(f"{found.parent}/{found.stem}", image, label))
    return pairs


def scenes_of(recipe: Recipe, pairs: Sequence[Labelled]) -> tuple[dict[str, Scene], list[Scored]]:
    """Split labelled images into scenes to train on, by name, and what is scored on.

    A scene with a held-back region is in both. Small scenes (2 GiB in all) are read into memory.

    Raises:
        RecipeError: nothing is left to train on, or a name of `validation.scenes` or `fineness` fits no scene.
        InputError: labels and image differ in shape.
    """
    train = train_of(recipe)
    held_back = train.validation
    for pattern in (*held_back.scenes, *train.fineness):
        if not any(pair.fits(pattern) for pair in pairs):
            names = ", ".join(pair.name for pair in pairs[:8])
            raise RecipeError(f"no scene is called {pattern}", f"one of {names}", "correct train")
    learned: dict[str, Scene] = {}
    scored: list[Scored] = []
    limit = _MEMORY_BYTES
    for pair in pairs:
        size = pair.image.grid.size * (pair.image.channels * pair.image.dtype.itemsize + pair.label.dtype.itemsize + 2)
        image, label = (in_memory(source, limit if size <= limit else 0) for source in (pair.image, pair.label))
        limit -= size if size <= limit else 0
        fineness = next((value for key, value in train.fineness.items() if pair.fits(key)), 1.0)
        scene = Scene(image, label, (), fineness)
        whole = Box.whole(image.grid.shape)
        if any(pair.fits(pattern) for pattern in held_back.scenes):
            scored.append(Scored(pair.name, scene, whole))
        elif held_back.region is not None:
            held = held_box(whole, held_back.region)
            learned[pair.name] = replace(scene, held=(held,))
            scored.append(Scored(pair.name, scene, held))
        else:
            learned[pair.name] = scene
    if not learned:
        raise RecipeError(
            f"{recipe.name} holds all scenes back", "one to train on at least", "correct train.validation"
        )
    return learned, scored


def held_box(whole: Box, region: tuple[float, float, float, float]) -> Box:
    """Return the cells of a region given as fractions x, y, width, height; volumes are cut in their first two axes.

    Bounds are rounded down at the start and up at the end, so that no cell of the region is left to training; a bound
    within a millionth of a cell of a whole number is that number.

    Raises:
        RecipeError: the region is empty or leaves the scene.
    """
    x, y, width, height = region
    axes = (1, 0) if whole.ndim == 2 else (0, 1)
    if min(x, y) < 0 or min(width, height) <= 0 or x + width > 1 + 1e-9 or y + height > 1 + 1e-9:
        raise RecipeError(
            f"train.validation.region is {region}", "fractions x, y, width, height within 0 to 1", "correct it"
        )
    box = whole
    for axis, low, extent in ((axes[0], x, width), (axes[1], y, height)):
        size = whole.shape[axis]
        start = int(low * size + 1e-6)
        stop = min(ceil((low + extent) * size - 1e-6), size)
        box = box.replace_axis(axis, min(start, size - 1), max(stop, start + 1))
    return box
