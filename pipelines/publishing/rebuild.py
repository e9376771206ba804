"""Pages made anew, from a run's reports and what it published."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from pipelines.publishing.preview import pictures
from pipelines.publishing.seen import Seen, from_facts
from segflow.errors import InputError, RecipeError, SegflowError, first_line
from segflow.grid import Grid
from segflow.io.atomic import write_text
from segflow.io.place import mercator_of
from segflow.report import BaseMap, Pictures, RunReport, SceneReport, from_json, run_from_json, run_page, scene_page

_LOG = logging.getLogger(__name__)
_END = "_report.json"


def rebuild(folder: Path, basemap: str | None = None) -> list[Path]:
    """Write all pages of an output folder again and return them; reports and label maps stay as they are.

    Where an input or a reference is gone, the page is made without it.

    Args:
        folder: of a run.
        basemap: address of map tiles, with {z}, {x} and {y}, that readers may switch on below a raster's map.

    Raises:
        RecipeError: the base map is no such address.
        InputError: the folder holds no report.
        OutputError: a page cannot be written.
    """
    written = []
    for name, report in scenes_in(folder):
        page = folder / f"{name}_report.html"
        shown = _pictures(folder, report)
        if basemap is not None:
            shown = replace(shown, basemap=_based(report, basemap))
        write_text(page, scene_page(report, shown))
        written.append(page)
    run = run_in(folder)
    if run is not None:
        write_text(folder / "report.html", run_page(run))
        written.append(folder / "report.html")
    if not written:
        raise no_report(folder)
    return written


def no_report(folder: Path) -> InputError:
    """Return the error of a folder that is no output folder."""
    there = "holds no report" if folder.is_dir() else "is no folder"
    return InputError(
        f"{folder} {there}", "the output folder of a run, with its report.json", "name the folder that `run` wrote"
    )


def scenes_in(folder: Path) -> Iterator[tuple[str, SceneReport]]:
    """Yield the scenes' reports of a folder with the names of their files, in the order of names."""
    for path in sorted(folder.glob(f"*{_END}")):
        try:
            yield path.name.removesuffix(_END), from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            _LOG.warning("%s is left out: it is no scene's report of this version (%s)", path, type(error).__name__)


def run_in(folder: Path) -> RunReport | None:
    """Return the run's report of a folder; None where there is none that this version can read."""
    path = folder / "report.json"
    if not path.exists():
        return None
    try:
        return run_from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _LOG.warning("%s is left out: it is no run's report of this version (%s)", path, type(error).__name__)
        return None


def published_files(folder: Path, report: SceneReport) -> tuple[Path | None, Path | None]:
    """Return the label map and the confidence that a report tells of, where they are there."""

    def found(*ends: str) -> Path | None:
        names = (item.name for item in report.outputs if item.name.endswith(ends))
        return next((folder / name for name in names if (folder / name).is_file()), None)

    return found("_labels.tif", "_dseg.nii.gz"), found("_confidence.tif", "_confidence.nii.gz")


def _based(report: SceneReport, url: str) -> BaseMap | None:
    place = report.grid
    grid = Grid(place.kind, place.shape, place.affine, place.crs, place.spacing)
    found = mercator_of(grid) if grid.kind == "raster" else None
    if found is None:
        _LOG.warning("%s: no base map: nothing says where the scene lies on the earth", report.scene)
        return None
    try:
        return BaseMap(url, found)
    except ValueError as error:
        raise RecipeError(
            str(error), "such as https://tile.openstreetmap.org/{z}/{x}/{y}.png", "correct --basemap"
        ) from error


def seen_in(report: SceneReport) -> Seen | None:
    """Return how a report's scene is opened again; None, which is told, where this version cannot tell."""
    if report.seen is not None:
        try:
            return from_facts(report.seen)
        except ValidationError as error:
            _LOG.warning("%s: the page is made without pictures: %s", report.scene, first_line(error))
    return None


def _pictures(folder: Path, report: SceneReport) -> Pictures:
    labels, confidence = published_files(folder, report)
    seen = seen_in(report)
    if seen is None:
        return Pictures()
    if labels is None:
        _LOG.warning("%s: the page is made without pictures: the label map is not there", report.scene)
        return Pictures()
    try:
        return pictures(seen, report.classes, labels, confidence)
    except SegflowError as error:
        _LOG.warning("%s: the page is made without pictures: %s", report.scene, first_line(error))
        return Pictures()
