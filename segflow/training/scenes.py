"""From a training recipe to labelled scenes, opened lazily, and to what of them is trained on and scored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import yaml
from numpy.typing import NDArray

from segflow.errors import InputError, RecipeError
from segflow.hardware import memory_left
from segflow.io.array import ArraySource
from segflow.io.lazy import LazySource
from segflow.io.opening import Spec, open_source, window_of
from segflow.io.scene_files import open_reference, reference_spec_of, require_channels, scenes_in, spec_of
from segflow.io.source import Pixels, Source
from segflow.memory import bytes_of
from segflow.metrics import require_known_ids
from segflow.models.card import Card
from segflow.patches import model_shape
from segflow.recipe import Recipe, References, Train
from segflow.training.labelled import LabelIndex, Scene, bands, class_cells, labels_of
from segflow.training.split import fits, require_fit, split
from tiling.box import Box

log = logging.getLogger(__name__)

_SHARE = 0.25
"""Of the memory that is left, what scenes may take."""

_TOLD = 3


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image and its labels.

    Attributes:
        name: folder and stem, such as "tile6/part1"; patterns in the recipe fit it, or the stem alone.
        image: what the network sees; volumes in the card's orientation.
        label: one channel of ids on the same grid.
        ratio: model cells per cell, on each axis; () where they are the same, or not known.
        notice: where image and labels say in different words that they lie on each other; "" where all agrees.
    """

    name: str
    image: Source
    label: Source
    ratio: tuple[float, ...] = ()
    notice: str = ""


Opener = Callable[[Recipe, Card], Sequence[Labelled]]
"""Opens the images and label files of a recipe."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """A scene and the part of it that is scored.

    Attributes:
        name: the scene's.
        scene: values and labels of all of it.
        box: what is scored.
    """

    name: str
    scene: Scene
    box: Box


class Confined:
    """Labels that count only in a window, and only where the image is asked for.

    Args:
        labels: one channel of ids.
        image: the scene's, with its area of interest.
        region: the window; None for all.
    """

    def __init__(self, labels: Source, image: Source, region: Box | None) -> None:
        self._labels = labels
        self._image = image
        self._region = region
        self.name = labels.name
        self.notices = labels.notices
        self.grid = labels.grid
        self.channels = labels.channels
        self.dtype = labels.dtype
        self.slab_axis = labels.slab_axis
        self.sweep_axis = labels.sweep_axis

    def read(self, box: Box) -> Pixels:
        """See `Source.read`; not valid where nothing counts."""
        pixels = self._labels.read(box)
        counts: NDArray[np.bool_] = np.ones(box.shape, np.bool_)
        if self._region is not None:
            counts[:] = False
            part = box.intersect(self._region)
            if part is not None:
                counts[part.within(box)] = True
        wanted = self._image.wanted(box)
        return Pixels(pixels.values, pixels.valid & counts if wanted is None else pixels.valid & counts & wanted)

    def wanted(self, box: Box) -> NDArray[np.bool_] | None:
        """Return None."""
        return None

    def identity(self) -> str:
        """Return the labels' own and where they count."""
        return f"{self._labels.identity()} {self._region} {self._image.identity()}"

    def close(self) -> None:
        """Let go of the labels' file."""
        self._labels.close()


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


def index_of(recipe: Recipe) -> LabelIndex:
    """Return how label ids become channels, as a run has it: `references.map`, then what is ignored, then classes.

    Raises:
        InputError: `references.map` leads to an id that is neither a class nor ignored.
    """
    train, references = train_of(recipe), cast(References, recipe.references)
    ignore = sorted({*train.card.get("ignore", ()), *references.ignore})
    classes = train.classes
    return LabelIndex([item.id for item in classes], references.map, ignore, [item.name for item in classes])


def open_pairs(recipe: Recipe, card: Card) -> list[Labelled]:
    """Find the files that a recipe names, and check that they fit each other and the card. An `Opener`.

    Reads headers only; few files are open at any time.

    Raises:
        RecipeError: a pattern cannot be meant, or there are no references.
        InputError: a file is missing or broken, or has other channels than the card.
        GridMismatchError: labels lie elsewhere than their image.
    """
    train_of(recipe)
    pairs: dict[str, Labelled] = {}
    for found in scenes_in(recipe, card):
        references = cast(References, recipe.references)
        spec = spec_of(recipe, found, card)
        source = open_source(spec)
        try:
            require_channels(source, card, recipe)
            label_spec = cast(Spec, reference_spec_of(recipe, found, card, source))
            labels, notice = open_reference(label_spec, source)
            image = LazySource(spec, source)
            label: Source = LazySource(label_spec, labels)
            labels.close()
            region = None if references.region is None else window_of(source.grid, references.region, None)
            if region is not None or recipe.inputs.aoi is not None:
                label = Confined(label, image, region)
            name = f"{found.parent}/{found.stem}"
            name = found.paths[0] if name in pairs else name
            pairs[name] = Labelled(name, image, label, _ratio(source, card), notice or "")
        finally:
            source.close()
    return list(pairs.values())


def _ratio(source: Source, card: Card) -> tuple[float, ...]:
    shape, seen = source.grid.shape, model_shape(source.grid, card)
    return () if seen == shape else tuple(m / n for m, n in zip(seen, shape, strict=True))


def scenes_of(recipe: Recipe, pairs: Sequence[Labelled]) -> tuple[dict[str, Scene], list[HeldBack]]:
    """Split labelled images into scenes to train on, by name, and what is scored on.

    A scene with a held-back region is in both. Scenes are read into memory as long as together they take no more than
    a quarter of what is left of it (or of `compute.memory`), those that are trained on first.

    Raises:
        RecipeError: nothing is left to train on, a name of `validation.scenes` or `fineness` fits no scene, or the
            model's card would be written over a recipe.
        InputError: labels hold an id that is no class, or no cell that is scored has a label.
    """
    train = train_of(recipe)
    _require_no_recipe_lost(recipe.folder / f"{train.name}.yaml")
    names = [pair.name for pair in pairs]
    for pattern in train.fineness:
        require_fit(pattern, names, "train.fineness")
    parts = split(names, [pair.image.grid.shape for pair in pairs], train.validation, train.seed)
    index = index_of(recipe)
    learned: dict[str, Scene] = {}
    scored: dict[str, HeldBack] = {}
    given = recipe.compute.memory
    left = int(_SHARE * (memory_left() if given is None else bytes_of(given)) / train.devices)
    _tell([pair.notice for pair in pairs if pair.notice])
    for pair, part in sorted(zip(pairs, parts, strict=True), key=lambda both: not both[1].learned):
        need = _bytes_of(pair)
        image, label = (in_memory(pair.image), in_memory(pair.label)) if need <= left else (pair.image, pair.label)
        left -= need if need <= left else 0
        _require_known(pair.name, label, index)
        fineness = next((value for key, value in train.fineness.items() if fits(pair.name, key)), 1.0)
        if part.learned:
            learned[pair.name] = Scene(image, label, part.barred, fineness, pair.ratio)
        if part.scored is not None:
            scored[pair.name] = HeldBack(pair.name, Scene(image, label, (), fineness, pair.ratio), part.scored)
    ordered = [scored[name] for name in names if name in scored]
    _require_scored(ordered, index)
    return {name: learned[name] for name in names if name in learned}, ordered


def _require_no_recipe_lost(card: Path) -> None:
    """Refuse to write a card over a recipe, such as the one that is being followed."""
    try:
        there = yaml.safe_load(card.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return
    if isinstance(there, dict) and "inputs" in there:
        raise RecipeError(
            f"the model's card would be written over the recipe {card}",
            "another name for one of them",
            "set outputs.folder or train.name, or rename the recipe",
        )


def _tell(notices: Sequence[str]) -> None:
    """Log what is odd about where labels lie; of many scenes, the first ones."""
    for notice in notices[:_TOLD]:
        log.warning("%s", notice)
    if len(notices) > _TOLD:
        log.warning("... and so for %d more scenes", len(notices) - _TOLD)


def in_memory(source: Source) -> Source:
    """Return a source with all its values in memory."""
    whole = Box.whole(source.grid.shape)
    pixels = source.read(whole)
    wanted = source.wanted(whole)
    source.close()
    return ArraySource(np.ascontiguousarray(pixels.values), source.grid, pixels.valid, wanted, source.name)


def _bytes_of(pair: Labelled) -> int:
    return pair.image.grid.size * (pair.image.channels * pair.image.dtype.itemsize + pair.label.dtype.itemsize + 3)


def _require_known(name: str, label: Source, index: LabelIndex) -> None:
    """Refuse ids that are neither classes, mapped nor ignored, as a run does."""
    try:
        require_known_ids(label, index.ids, index.ignore, index.mapping)
    except InputError as error:
        raise InputError(f"{name}: {error.found}", error.expected, error.remedy) from error


def _require_scored(scored: Sequence[HeldBack], index: LabelIndex) -> None:
    """Refuse to score on nothing; tell of classes that will have no score."""
    if not scored:
        return
    counts = np.zeros(len(index.ids), np.int64)
    for item in scored:
        for band in bands(item.box):
            counts += class_cells(labels_of(item.scene, index, band), len(index.ids))
    if not counts.any():
        raise InputError(
            "no cell that is held back has a label",
            "labelled cells to score on",
            "hold other scenes or another region back (train.validation)",
        )
    missing = [name for name, count in zip(index.names, counts, strict=True) if not count]
    if missing:
        log.warning(
            "no cell that is held back is of the class %s: where it is not predicted either, it has no score "
            "and is out of the means",
            ", ".join(missing),
        )
