"""Which scenes a run is about, and what of them. Imports little: who only looks for scenes opens none."""

from __future__ import annotations

from dataclasses import dataclass

from segflow.errors import RecipeError
from segflow.io.discover import Scene, output_names
from segflow.io.scene_files import scenes_in
from segflow.models.card import Card
from segflow.recipe import Recipe

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Selection:
    """A look first: a part of the work, on the full run's patches and statistics.

    Attributes:
        window: x, y, width, height in cells; rasters only.
        bbox: xmin, ymin, xmax, ymax in the raster's CRS; rasters only.
        limit: at most so many scenes.
    """

    window: tuple[int, int, int, int] | None = None
    bbox: tuple[float, float, float, float] | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class NamedScene:
    """A scene and the name of its outputs, and the files of the mosaic that it is a sheet of, if any."""

    scene: Scene
    name: str
    sheets: tuple[str, ...] = ()


def find_scenes(recipe: Recipe, card: Card, limit: int | None = None) -> list[NamedScene]:
    """List the recipe's scenes; opens nothing.

    Raises:
        InputError: nothing is there.
        RecipeError: two scenes would have one name.
    """
    scenes = scenes_in(recipe, card)
    names = output_names(scenes, recipe.outputs.name)
    for name in names:
        if len(name.encode()) > _LONGEST_NAME:
            raise RecipeError(
                f"the name {name[:40]}... has {len(name.encode())} bytes",
                f"at most {_LONGEST_NAME}, so that files can be named after it",
                "set outputs.name, or rename the input",
            )
    sheets = tuple(path for scene in scenes for path in scene.paths) if recipe.inputs.mosaic else ()
    return [NamedScene(scene, name, sheets) for scene, name in zip(scenes, names, strict=True)][:limit]
