"""What would make a run fit: settings that were tried on the same projection that refuses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil, prod

from pipelines.planning.finishing import OFF
from pipelines.planning.layout import NoRoomError
from segflow.errors import PlanError, RecipeError
from segflow.hardware import memory_left
from segflow.recipe import Recipe
from tiling import Layout, Network

_GIB = 1 << 30
_MARGIN = 1.05
"""What is asked for over the projection: two processes do not hold the same to the byte."""

Lay = Callable[[Recipe, Network], Layout]


def laid(recipe: Recipe, network: Network, patch: tuple[int, ...], stride: int, lay: Lay) -> Layout:
    """Cut a scene into blocks that fit.

    Args:
        recipe: what runs on what.
        network: its appetite, measured.
        patch: cells of a patch, in array order.
        stride: the network's total stride.
        lay: cuts the scene as a recipe says.

    Raises:
        PlanError: nothing fits; the remedies are settings with which it would, each by itself where one does.
    """
    try:
        return lay(recipe, network)
    except NoRoomError as error:
        ways = _changes(recipe, network, patch, stride)
        single = [words for words, other, appetite in ways if _fits(lay, other, appetite)]
        remedies = single or _together(recipe, network, patch, stride, lay)
        memory = _memory(error.least_bytes, network.base_bytes)
        raise PlanError(error.found, error.expected, "; or ".join([*remedies, memory])) from error


def changed(recipe: Recipe, part: str, **settings: object) -> Recipe:
    """Return a recipe with other settings in one of its parts."""
    return recipe.model_copy(update={part: getattr(recipe, part).model_copy(update=settings)})


def _changes(
    recipe: Recipe, network: Network, patch: tuple[int, ...], stride: int
) -> Iterator[tuple[str, Recipe, Network]]:
    """Yield changes of one setting, the cheapest first: the words, the recipe, and the network's appetite then."""
    if recipe.tiling.block != "auto":
        yield "set tiling.block: auto", changed(recipe, "tiling", block="auto"), network
    for workers in (n for n in (recipe.compute.workers // 2, 1) if 0 < n < recipe.compute.workers):
        yield f"set compute.workers: {workers}", changed(recipe, "compute", workers=workers), network
    if recipe.tiling.accumulator != "int16":
        yield "set tiling.accumulator: int16", changed(recipe, "tiling", accumulator="int16"), network
    if network.in_flight > 1:
        yield "set tiling.batch: 1", changed(recipe, "tiling", batch=1), replace(network, in_flight=1)
    yield from _patches(recipe, network, patch, stride)
    for name in (name for name in ("polygons", "dicom_seg") if getattr(recipe.outputs, name) is not None):
        yield f"set {OFF[name]}", changed(recipe, "outputs", **{name: None}), network
    if recipe.references is not None:
        yield "set references: null", recipe.model_copy(update={"references": None}), network


def _patches(
    recipe: Recipe, network: Network, patch: tuple[int, ...], stride: int
) -> Iterator[tuple[str, Recipe, Network]]:
    for share in (2, 4):
        smaller = tuple(max(stride, n // share // stride * stride) for n in patch)
        if smaller != patch:
            each = ceil(network.activation_bytes * prod(smaller) / prod(patch))
            words = f"set tiling.patch: {list(smaller)}"
            yield words, changed(recipe, "tiling", patch=smaller), replace(network, activation_bytes=each)


def _together(recipe: Recipe, network: Network, patch: tuple[int, ...], stride: int, lay: Lay) -> list[str]:
    """Return changes that make it fit together, as few as come first."""
    said: list[str] = []
    while True:
        done = {words.split(":")[0] for words in said}
        step = next(
            (found for found in _changes(recipe, network, patch, stride) if found[0].split(":")[0] not in done), None
        )
        if step is None:
            return []
        words, recipe, network = step
        said.append(words)
        if _fits(lay, recipe, network):
            return [" and ".join([said[0], *(words.removeprefix("set ") for words in said[1:])])]


def _fits(lay: Lay, recipe: Recipe, network: Network) -> bool:
    try:
        lay(recipe, network)
    except (PlanError, RecipeError):
        return False
    return True


def _memory(least_bytes: int, held_bytes: int) -> str:
    """Say how much memory would do: to be allowed where this machine has it, else to be had."""
    wanted = f"{ceil(10 * _MARGIN * least_bytes / _GIB) / 10:.1f} GiB"
    if _MARGIN * least_bytes <= held_bytes + memory_left():
        return f"set compute.memory: {wanted}"
    return f"take a machine with {wanted} of free memory"
