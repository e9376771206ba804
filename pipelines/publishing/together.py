"""What is of all scenes of a run: a VRT of label maps, a STAC collection of items, the head of a BIDS dataset."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipelines.publishing.outputs import layer_files, remove_file
from pipelines.publishing.rebuild import scenes_in
from segflow.errors import SegflowError
from segflow.io.atomic import write_text
from segflow.io.exports.bids import DESCRIPTION, SHARED, is_ours
from segflow.io.exports.qml import is_our_style, style
from segflow.io.exports.stac import COLLECTION
from segflow.io.exports.stac_collection import items_of, write_collection
from segflow.io.label_vrt import is_our_vrt, scenes_of, write_label_vrt
from segflow.models.card import LabelClass
from segflow.recipe import Recipe
from segflow.report import SceneReport, SceneState

_LOG = logging.getLogger(__name__)


def write_together(
    recipe: Recipe, folder: Path, states: Sequence[SceneState], partial: bool = False
) -> tuple[str, ...]:
    """Write what the recipe asks for of all scenes that have a label map.

    Args:
        recipe: what was run.
        folder: where the results are.
        states: what became of the scenes.
        partial: whether these are not all scenes of the recipe, as in a run of what is new: those that are told of
            already, and are there, stay.

    Returns:
        What could not be written, in words.
    """
    reports = [state.report for state in states if state.report is not None]
    outputs, vrt = recipe.outputs, folder / f"{recipe.name}.vrt"
    left = () if outputs.bids else _told(DESCRIPTION, lambda: _left(folder))
    led = () if outputs.stac else _told(COLLECTION, lambda: _led_nowhere(folder / COLLECTION))
    styled = (outputs.vrt and outputs.qml) or _is_of_a_scene(vrt.with_suffix(".qml"), reports)
    shown = () if outputs.vrt and styled else _told(vrt.name, lambda: _unasked(vrt, outputs.vrt, styled))
    return (*left, *led, *shown, *(_written(recipe, folder, reports, partial) if reports else ()))


def _left(folder: Path) -> None:
    """Remove the head of a BIDS dataset of which no scene is left."""
    if is_ours(folder / DESCRIPTION) and not any(
        export.name == "bids" for _, report in scenes_in(folder) for export in report.exports
    ):
        for name in SHARED:
            remove_file(folder / name)


def _led_nowhere(path: Path) -> None:
    """Remove a collection of which no item is left."""
    items = items_of(path)
    if items and not any(path.with_name(f"{name}_stac.json").is_file() for name in items):
        remove_file(path)


def _unasked(vrt: Path, asked: bool, styled: bool) -> None:
    """Remove what we wrote of a run's label maps and nobody asks for now.

    A VRT that others made, and a style that was changed in QGIS, stay.

    Args:
        vrt: where it would be.
        asked: whether it stays.
        styled: whether the style of its name stays.
    """
    if not is_our_vrt(vrt):
        return
    if not styled and is_our_style(vrt.with_suffix(".qml")):
        remove_file(vrt.with_suffix(".qml"))
    if not asked:
        remove_file(vrt)


def _is_of_a_scene(path: Path, reports: Sequence[SceneReport]) -> bool:
    """Tell whether a file is an export of a scene: polygons of one that is named like the run have such a style."""
    return any(file.name == path.name for report in reports for export in report.exports for file in export.files)


def write_beside(recipe: Recipe, folder: Path, target: Path, reports: Sequence[SceneReport]) -> None:
    """Write what the recipe asks for of these scenes, and no others, into another folder that holds their STAC items.

    Args:
        recipe: what was run.
        folder: where the label maps are.
        target: where the files go; they tell of label maps as if these were there.
        reports: of the scenes, one at least.

    Raises:
        SegflowError: one cannot be written; a label map is gone.
    """
    new = [report.scene for report in reports]
    for _, write in _makers(recipe, folder, target, reports, lambda *_: new):
        write()


def _written(recipe: Recipe, folder: Path, reports: Sequence[SceneReport], partial: bool) -> Iterator[str]:
    new = [report.scene for report in reports]

    def names(told: Callable[[Path], list[str]], path: Path) -> list[str]:
        before = told(path) if partial and path.is_file() else []
        there = [name for name in before if layer_files(name, recipe.kind, folder)["labels"].is_file()]
        return list(dict.fromkeys((*there, *new)))

    for name, write in _makers(recipe, folder, folder, reports, names):
        yield from _told(name, write)


def _makers(
    recipe: Recipe,
    folder: Path,
    target: Path,
    reports: Sequence[SceneReport],
    names: Callable[[Callable[[Path], list[str]], Path], list[str]],
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what the recipe asks for of several scenes: a file's name, and what writes it to `target`.

    `names` takes what reads the scenes of such a file, and the file, and returns the scenes that it is to tell of.
    """
    outputs = recipe.outputs
    if outputs.stac:
        models = ", ".join(sorted({report.model.name for report in reports if report.model is not None}))
        title = f"Label maps by {models}"
        yield (
            COLLECTION,
            lambda: write_collection(target, recipe.name, title, names(items_of, target / COLLECTION)),
        )
    if outputs.vrt:
        path = target / f"{recipe.name}.vrt"
        styled = path.with_suffix(".qml")

        def write() -> None:
            maps = [layer_files(name, recipe.kind, folder)["labels"] for name in names(scenes_of, path)]
            try:
                write_label_vrt(path, maps, classes, outputs.nodata)
            except SegflowError:
                _unasked(path, False, _is_of_a_scene(styled, reports))  # it shows other scenes, or other classes
                raise

        classes = [LabelClass(id=item.id, name=item.name, colour=item.colour) for item in reports[0].classes]
        yield path.name, write
        # Polygons of a scene that is named like the run have the style of that name; the VRT has colours in itself.
        if outputs.qml and path.is_file() and not _is_of_a_scene(styled, reports):
            yield styled.name, lambda: write_text(styled, style(classes))


def _told(name: str, write: Callable[[], object]) -> Iterator[str]:
    """Write a file; yield why it could not be."""
    try:
        write()
    except SegflowError as error:
        _LOG.error("%s was not written: %s", name, error)
        yield f"{name} was not written: {error}"
