"""What is held back from training: scenes by name, a region of every scene, or a fold of scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from math import ceil

import numpy as np

from segflow.errors import RecipeError
from segflow.recipe import Validation
from tiling.box import Box


@dataclass(frozen=True, slots=True)
class Part:
    """What becomes of one scene.

    Attributes:
        learned: whether it is trained on, outside of `barred`.
        barred: cells that no patch may touch: the region with its margin.
        scored: cells that are scored; None where none are.
    """

    learned: bool
    barred: tuple[Box, ...] = ()
    scored: Box | None = None


def split(names: Sequence[str], shapes: Sequence[tuple[int, ...]], how: Validation, seed: int) -> list[Part]:
    """Decide what is trained on and what is scored.

    Args:
        names: of the scenes: folder and stem.
        shapes: of the scenes, cells in array order.
        how: the recipe's.
        seed: the recipe's; folds depend on it and on the names alone, not on their order.

    Raises:
        RecipeError: a pattern fits no scene, a margin has no region, there are fewer scenes than folds, a region leaves
            the scenes, or nothing is left to train on.
    """
    for pattern in how.scenes:
        require_fit(pattern, names, "train.validation.scenes")
    if how.margin and how.region is None:
        raise RecipeError(
            f"train.validation.margin is {how.margin}, but no region is held back",
            "a margin around train.validation.region",
            "remove it, or give a region",
        )
    wholes = [Box.whole(shape) for shape in shapes]
    if how.region is not None:
        parts = [_regional(whole, how.region, how.margin) for whole in wholes]
    else:
        held = _held(names, how, seed)
        parts = [Part(not out, (), whole if out else None) for whole, out in zip(wholes, held, strict=True)]
    if not any(part.learned for part in parts):
        what = "the region and its margin" if how.region is not None else ", ".join(how.scenes)
        raise RecipeError(
            f"validation holds all scenes back ({what})", "something to train on", "correct train.validation"
        )
    return parts


def fits(name: str, pattern: str) -> bool:
    """Tell whether a pattern with * means a scene, by folder and stem or by the stem alone."""
    return fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern)


def require_fit(pattern: str, names: Sequence[str], key: str) -> None:
    """Raise RecipeError unless a pattern fits a scene."""
    if not any(fits(name, pattern) for name in names):
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        raise RecipeError(f"no scene is called {pattern}", f"one of {shown}", f"correct {key}")


def deal(names: Sequence[str], folds: int, seed: int) -> list[int]:
    """Deal scenes into folds of equal size (to one scene): shuffled by the seed, then one to each fold in turn.

    Raises:
        RecipeError: there are fewer scenes than folds.
    """
    if folds > len(names):
        raise RecipeError(
            f"{folds} folds of {len(names)} scenes", "a scene for every fold at least", "lower train.validation.folds"
        )
    ranked = sorted(range(len(names)), key=lambda k: names[k])
    order = np.random.default_rng([seed, 5]).permutation(len(names))
    dealt = [0] * len(names)
    for turn, place in enumerate(order):
        dealt[ranked[int(place)]] = turn % folds
    return dealt


def _held(names: Sequence[str], how: Validation, seed: int) -> list[bool]:
    if how.folds is None:
        return [any(fits(name, pattern) for pattern in how.scenes) for name in names]
    if how.fold == "all":
        raise ValueError("one fold at a time: give its number")
    return [fold == how.fold for fold in deal(names, how.folds, seed)]


def _regional(whole: Box, region: tuple[float, float, float, float], margin: int) -> Part:
    scored = held_box(whole, region)
    barred = grown(scored, margin, whole)
    return Part(barred != whole, (barred,), scored)


def grown(box: Box, margin: int, whole: Box) -> Box:
    """Return a box with a margin on every side, cut to the whole."""
    start = tuple(max(n - margin, low) for n, low in zip(box.start, whole.start, strict=True))
    return Box(start, tuple(min(n + margin, high) for n, high in zip(box.stop, whole.stop, strict=True)))


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
