"""From a grid and a model to the grid that the model sees and the patches on it."""

from __future__ import annotations

from segflow.errors import RecipeError
from segflow.grid import Grid
from segflow.models.card import Card
from segflow.recipe import Tiling
from tiling import Lattice, step_of

NEARLY = 0.01
"""Grids whose spacing differs by less than this are one grid."""


def model_shape(grid: Grid, card: Card, scale: float = 1.0) -> tuple[int, ...]:
    """Return the shape of the grid that the model sees: the input's, scaled to the card's GSD or spacing."""
    wanted = (card.gsd,) * 2 if grid.kind == "raster" and card.gsd else card.spacing
    if scale != 1.0:
        if wanted is not None and grid.spacing is not None:
            raise RecipeError(
                f"model.scale is {scale:g}, though the cell size is known ({grid.named(grid.spacing)})",
                "scale only for inputs or models without a cell size",
                "remove model.scale, or override model.gsd or model.spacing instead",
            )
        return tuple(max(1, round(n * scale)) for n in grid.shape)
    if wanted is None or grid.spacing is None:
        return grid.shape
    ratios = [mine / theirs for mine, theirs in zip(grid.spacing, wanted, strict=True)]
    return tuple(n if abs(r - 1) < NEARLY else max(1, round(n * r)) for n, r in zip(grid.shape, ratios, strict=True))


def patch_of(card: Card, tiling: Tiling) -> tuple[int, ...]:
    """Return the patch that the recipe, or else the card, asks for, in array order.

    Raises:
        RecipeError: it is no multiple of the network's stride, or still `auto`.
    """
    wanted = tiling.patch
    if wanted == "auto":
        raise _unsettled("tiling.patch")
    if wanted is None:
        wanted = card.patch
    patch = (wanted,) * len(card.patch) if isinstance(wanted, int) else wanted
    if any(n < 1 or n % card.stride for n in patch):
        near = [max(1, round(n / card.stride)) * card.stride for n in patch]
        raise RecipeError(
            f"tiling.patch is {list(patch)}", f"multiples of {card.stride}, the network's total stride", f"take {near}"
        )
    return patch


def lattice_of(shape: tuple[int, ...], card: Card, tiling: Tiling) -> Lattice:
    """Lay the patches over the model's grid.

    Raises:
        RecipeError: a patch is no multiple of the network's stride, or the overlap leaves no step.
    """
    patch = patch_of(card, tiling)
    overlap = card.overlap if tiling.overlap is None else tiling.overlap
    if overlap == "auto":
        raise _unsettled("tiling.overlap")
    amount = int(overlap.removesuffix("px")) if isinstance(overlap, str) else float(overlap)
    even = card.lattice == "even"
    try:
        steps = [_even_step(n, amount) if even else step_of(n, amount, card.stride) for n in patch]
    except ValueError as error:
        raise RecipeError(
            f"tiling.overlap is {overlap}: {error}", "less than the patch on every axis", "lower it"
        ) from error
    profile = "nnunet" if even and tiling.blend == "gaussian" else tiling.blend
    return Lattice.of(shape, patch, steps, profile, "even" if even else "overhang")


def _unsettled(key: str) -> RecipeError:
    return RecipeError(
        f"{key} is auto",
        "a number, where weights are still being trained: auto is measured on finished weights",
        f"state {key}, or leave it out",
    )


def _even_step(patch: int, overlap: float) -> float:
    """Return the longest step, in parts of a cell too; one that is no step is refused as elsewhere."""
    step_of(patch, overlap)
    return patch - overlap if isinstance(overlap, int) else max(1.0, patch * (1 - overlap))
