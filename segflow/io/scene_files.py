"""From a recipe to the files of its scenes and references: what `run` and `train` must read alike.

The libraries that open them are imported where they are opened: who only looks for scenes needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segflow.errors import InputError, RecipeError
from segflow.io.counterparts import mask_for, reference_for
from segflow.io.discover import Gaps, Scene, discover
from segflow.models.card import Card
from segflow.recipe import Recipe

if TYPE_CHECKING:
    from segflow.io.opening import Spec
    from segflow.io.source import Source


def scenes_in(recipe: Recipe, card: Card, gaps: Gaps | None = None) -> list[Scene]:
    """List a recipe's scenes, with channels in the card's order; opens nothing.

    Args:
        recipe: says what its inputs are.
        card: the model's.
        gaps: takes what is no scene, as in `discover`.

    Raises:
        InputError: nothing is there.
        RecipeError: a pattern cannot be meant, or the channels are not the card's.
    """
    inputs = recipe.inputs
    if inputs.channels is not None:
        missing = [name for name in card.channels if name not in inputs.channels]
        if missing or len(inputs.channels) != len(card.channels):
            raise RecipeError(
                f"inputs.channels has {', '.join(inputs.channels)}",
                f"the model's channels: {', '.join(card.channels)}",
                "give each of them one pattern",
            )
        inputs = inputs.model_copy(update={"channels": {name: inputs.channels[name] for name in card.channels}})
    return discover(inputs, recipe.kind, recipe.resolve, gaps)


def spec_of(recipe: Recipe, scene: Scene, card: Card, scratch: str | None = None) -> Spec:
    """Return how a scene is opened.

    Args:
        recipe: says bands, nodata, collar, area of interest, the channel whose grid counts.
        scene: from `scenes_in`.
        card: the model's.
        scratch: folder for unpacked volumes.

    Raises:
        RecipeError: a raster of several files, or `inputs.resample_to` is no channel.
    """
    from segflow.io.raster import RasterSpec
    from segflow.io.volume import VolumeSpec

    inputs = recipe.inputs
    if recipe.kind == "raster":
        if len(scene.paths) != 1:
            raise RecipeError(
                f"{scene.stem} consists of {len(scene.paths)} files", "one file a raster", "stack the bands in a VRT"
            )
        aoi = None if inputs.aoi is None else str(recipe.resolve(inputs.aoi))
        return RasterSpec(scene.paths[0], inputs.bands or card.bands, inputs.nodata, inputs.collar, aoi)
    resample_to = None
    if inputs.resample_to is not None:
        if inputs.channels is None or inputs.resample_to not in inputs.channels:
            raise RecipeError(
                f"inputs.resample_to is {inputs.resample_to}",
                f"one of the channels: {', '.join(inputs.channels or ()) or 'none are named'}",
                "name a key of inputs.channels",
            )
        resample_to = card.channels.index(inputs.resample_to)
    paths = scene.paths if len(scene.paths) > 1 else scene.paths[0]
    return VolumeSpec(paths, card.orientation, resample_to, scratch)


def reference_spec_of(
    recipe: Recipe, scene: Scene, card: Card, source: Source, scratch: str | None = None
) -> Spec | None:
    """Return how a scene's label map is opened, turned as the scene is; None where the recipe has no references.

    Raises:
        InputError: there is no such file, or a glob does not mean exactly one.
        RecipeError: the pattern has an unknown field.
    """
    from segflow.io.orientation import orientation_of
    from segflow.io.raster import RasterSpec
    from segflow.io.volume import VolumeSpec

    if recipe.references is None:
        return None
    path = reference_for(scene, recipe.references, recipe.resolve)
    if recipe.kind == "raster":
        # All bands, so that several are refused: coloured pictures are no ids.
        return RasterSpec(path, mask=mask_for(scene, recipe.references, recipe.resolve))
    return VolumeSpec(path, orientation_of(source.grid.matrix, card.orientation), None, scratch)


def require_channels(source: Source, card: Card, recipe: Recipe) -> None:
    """Raise InputError unless a scene has as many channels as the model takes."""
    if source.channels == len(card.channels):
        return
    what, key = ("bands", "inputs.bands") if recipe.kind == "raster" else ("channels", "inputs.channels")
    names = f"{len(card.channels)}: {', '.join(card.channels)}"
    trains = recipe.train is not None and recipe.model is None
    raise InputError(
        f"{source.name} gives {source.channels} {what if source.channels != 1 else what[:-1]}",
        f"{names}, as train.channels says" if trains else f"{names}, as {card.name} was trained",
        f"choose them with {key}, or correct train.channels" if trains else f"choose them with {key}, or another model",
    )


def open_reference(spec: Spec, source: Source) -> tuple[Source, str | None]:
    """Open a scene's label map, and check that it lies on the scene, cell for cell.

    Returns:
        The label map, and a notice where the two say so in different words.

    Raises:
        InputError: it is missing or broken, or has several channels.
        GridMismatchError: it lies elsewhere.
    """
    from segflow.io.opening import compare_places, open_source

    reference = open_source(spec)
    try:
        if reference.channels != 1:
            raise InputError(
                f"the reference {reference.name} has {reference.channels} channels",
                "a label map: one channel of ids",
                "name the label map itself; a coloured picture has to be turned into ids first",
            )
        return reference, compare_places(source, reference)
    except BaseException:
        reference.close()
        raise
