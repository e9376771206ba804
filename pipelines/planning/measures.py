"""What is measured of a scene beside counts: known to be possible before anything runs."""

from __future__ import annotations

from segflow.errors import RecipeError
from segflow.grid import Grid
from segflow.io.regions import NamedArea, read_regions
from segflow.models.card import Card
from segflow.recipe import Recipe, Report

MOST_CELLS = {"raster": 1 << 24, "volume": 1 << 28}
"""Of a scene whose surfaces and objects are measured by `auto`."""


def measures_of(recipe: Recipe, card: Card, grid: Grid) -> Report:
    """Return what is measured, with absolute paths, once it is known that it can be.

    Raises:
        RecipeError: it names a class that the model has not.
        InputError: the regions cannot be read.
    """
    wanted = recipe.report
    strange = sorted(set(wanted.classes or ()) - set(card.ids))
    if strange:
        raise RecipeError(
            f"report.classes names {strange[0]}, which {card.name} has not",
            f"ids of its classes: {', '.join(f'{item.id} {item.name}' for item in card.classes)}",
            "correct the id",
        )
    if wanted.regions is not None:
        wanted = wanted.model_copy(update={"regions": str(recipe.resolve(wanted.regions))})
        regions_of(wanted, grid)
    return wanted


def regions_of(asked: Report, grid: Grid) -> tuple[NamedArea, ...]:
    """Return the named areas that are scored apart, on a grid.

    Raises:
        InputError: they cannot be read.
    """
    return () if asked.regions is None else read_regions(asked.regions, asked.region_name, grid)
