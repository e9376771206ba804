"""Which scenes a run is about, and what of them. Imports little: who only looks for scenes opens none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.planning.naming import is_dicom, is_key_kept, sealed_names
from segflow.errors import RecipeError
from segflow.io.discover import Gaps, Scene, output_names
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


def find_scenes(recipe: Recipe, card: Card, limit: int | None = None, gaps: Gaps | None = None) -> list[NamedScene]:
    """List the recipe's scenes; writes nothing, and opens nothing but DICOM's headers.

    Those of DICOM are named by a keyed hash of their series, unless the recipe sets `outputs.name`; who makes something
    of these names sees to the key (`with_key`).

    Args:
        recipe: says what its inputs are, and how outputs are named.
        card: the model's.
        limit: at most so many.
        gaps: takes what is no scene, as in `discover`.

    Raises:
        InputError: nothing is there.
        RecipeError: two scenes would have one name.
    """
    scenes = scenes_in(recipe, card, gaps)
    named = "name" in recipe.outputs.model_fields_set
    by_hash = [scene for scene in scenes if not named and is_dicom(scene)]
    open_ones = [scene for scene in scenes if named or not is_dicom(scene)]
    names = dict(zip(open_ones, output_names(open_ones, recipe.outputs.name), strict=True))
    for name in names.values():
        if len(name.encode(errors="surrogateescape")) > _LONGEST_NAME:
            raise RecipeError(
                f"the name {name[:40]}... has {len(name.encode(errors='surrogateescape'))} bytes",
                f"at most {_LONGEST_NAME}, so that files can be named after it",
                "set outputs.name, or rename the input",
            )
    names |= zip(by_hash, sealed_names(recipe, by_hash, names.values()), strict=True)
    sheets = tuple(path for scene in scenes for path in scene.paths) if recipe.inputs.mosaic else ()
    return [NamedScene(scene, names[scene], sheets) for scene in scenes][:limit]


def with_key(
    recipe: Recipe, found: Sequence[NamedScene], find: Callable[[], Sequence[NamedScene]]
) -> Sequence[NamedScene]:
    """Return scenes whose key of names is kept, so that the next run gives them the same.

    Args:
        recipe: says where the key is.
        found: from `find_scenes`.
        find: finds them again, should another run's key have been first.

    Raises:
        RecipeError, OutputError: the key cannot be kept.
    """
    hashed = "name" not in recipe.outputs.model_fields_set and any(is_dicom(item.scene) for item in found)
    return found if not hashed or is_key_kept(recipe) else find()
