"""The stage that compares two runs: the labels cell by cell, scores, settings and recipes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.planning.plan import ReferencePlan
from pipelines.publishing.preview import pictures
from pipelines.publishing.rebuild import no_report, published_files, scenes_in, seen_in
from segflow.errors import GridMismatchError, SegflowError
from segflow.io.opening import open_source
from segflow.io.raster import RasterSpec
from segflow.io.source import Source
from segflow.io.volume import VolumeSpec
from segflow.metrics.counts import Codes
from segflow.report import ClassReport, Pictures, SceneReport
from segflow.report.codec import NOTHING
from segflow.report.comparison import ClassChange, Difference, LostScene, RunComparison, SceneComparison
from tiling import Box

_BAND_CELLS = 1 << 23
Found = Callable[[SceneComparison, Pictures], None]


def compare(one: Path, two: Path, found: Found = lambda *_: None) -> RunComparison:
    """Compare the scenes of two output folders that have the same names.

    Args:
        one: an output folder, A.
        two: another, B.
        found: is given each scene's comparison, with its pictures, as soon as it is made.

    Raises:
        InputError: a folder holds no report.
    """
    runs = []
    for folder in (one, two):
        runs.append(dict(scenes_in(folder)))
        if not runs[-1]:
            raise no_report(folder)
    made, lost = [], []
    for name in sorted(set(runs[0]) | set(runs[1])):
        if not all(name in run for run in runs):
            lost.append(LostScene(scene=name, why=f"only in {'A' if name in runs[0] else 'B'}"))
            continue
        try:
            scene, shown = _scene((one, two), (runs[0][name], runs[1][name]))
        except SegflowError as error:
            lost.append(LostScene(scene=name, why=error.found))
            continue
        found(scene, shown)
        made.append(scene)
    return RunComparison(a=str(one), b=str(two), scenes=tuple(made), lost=tuple(lost))


def _scene(folders: tuple[Path, Path], reports: tuple[SceneReport, SceneReport]) -> tuple[SceneComparison, Pictures]:
    maps = []
    for folder, report in zip(folders, reports, strict=True):
        labels = published_files(folder, report)[0]
        if labels is None:
            raise no_report(folder / f"{report.scene} (its label map)")
        maps.append(labels)
    raster = reports[0].grid.kind == "raster"
    specs = [RasterSpec(str(path), (1,)) if raster else VolumeSpec(str(path), "RAS") for path in maps]
    classes = _classes(reports)
    if reports[0].grid.kind != reports[1].grid.kind:
        raise GridMismatchError("A is a raster, B a volume", "two of one kind", "compare like with like")
    with closing(open_source(specs[0])) as a, closing(open_source(specs[1])) as b:
        a.grid.require_same_place(b.grid, "A", "B")
        counts = _counted(a, b, classes)
    return _compared(reports, classes, counts), _pictures(reports[0], classes, maps, specs[1])


def _classes(reports: Sequence[SceneReport]) -> tuple[ClassReport, ...]:
    """Return all classes of both, by id: as A names them, else as B does."""
    found: dict[int, ClassReport] = {}
    for item in (item for report in reports for item in report.classes):
        found.setdefault(item.id, ClassReport(id=item.id, name=item.name, colour=item.colour, pixels=0))
    return tuple(found[key] for key in sorted(found))


def _counted(a: Source, b: Source, classes: Sequence[ClassReport]) -> NDArray[np.int64]:
    """Count cells by class in A and in B, the last place for none, in bands."""
    size = len(classes) + 1
    codes = Codes({item.id: place for place, item in enumerate(classes)}, size)
    total = np.zeros((size, size), np.int64)
    for box in _bands(a):
        one, two = (_places(source, box, codes, size - 1) for source in (a, b))
        total += np.bincount(one * size + two, minlength=size * size).reshape(size, size)
    return total


def _places(source: Source, box: Box, codes: Codes, nothing: int) -> NDArray[np.intp]:
    """Return the positions of a box's cells in the classes, flat."""
    pixels = source.read(box)
    places = codes(pixels.values[0].reshape(-1))
    places[~pixels.valid.reshape(-1)] = nothing
    return np.minimum(places, nothing)


def _bands(source: Source) -> Iterator[Box]:
    whole, axis = Box.whole(source.grid.shape), source.slab_axis
    depth = max(1, _BAND_CELLS * whole.shape[axis] // whole.size)
    for low in range(0, whole.shape[axis], depth):
        yield whole.replace_axis(axis, low, min(low + depth, whole.shape[axis]))


def _compared(
    reports: tuple[SceneReport, SceneReport], classes: Sequence[ClassReport], counts: NDArray[np.int64]
) -> SceneComparison:
    one, two = reports
    extent = _extent(one)
    known = [{item.id: item for item in report.classes} for report in reports]

    def score(number: int, place: int) -> float | None:
        item = known[number].get(classes[place].id)
        return None if item is None else item.iou

    changes = []
    for place, item in enumerate(classes):
        a, b, kept = int(counts[place].sum()), int(counts[:, place].sum()), int(counts[place, place])
        changes.append(
            ClassChange(
                id=item.id,
                name=item.name,
                colour=item.colour,
                cells_a=a,
                cells_b=b,
                kept=kept,
                iou=kept / (a + b - kept) if a + b else None,
                extent_a=None if extent is None else a * extent,
                extent_b=None if extent is None else b * extent,
                score_a=score(0, place),
                score_b=score(1, place),
            )
        )
    cells = int(counts.sum() - counts[-1, -1])
    recipes = ["" if report.run is None else report.run.recipe for report in reports]
    diff = difflib.unified_diff(recipes[0].splitlines(), recipes[1].splitlines(), "A", "B", lineterm="")
    prints = [None if report.run is None else report.run.fingerprint for report in reports]
    return SceneComparison(
        scene=one.scene,
        grid=one.grid,
        classes=tuple(changes),
        counts=tuple(tuple(row) for row in counts.tolist()),
        cells=cells,
        changed=cells - int(np.trace(counts[:-1, :-1])),
        same_fingerprint=prints[0] is not None and prints[0] == prints[1],
        facts=tuple(_different(one, two)),
        recipe=tuple(diff),
    )


def _extent(report: SceneReport) -> float | None:
    """Return a cell's area in m², or its volume in mL."""
    if report.grid.spacing is None:
        return None
    size = float(np.prod(report.grid.spacing))
    return size if report.grid.kind == "raster" else size / 1000.0


def _different(one: SceneReport, two: SceneReport) -> Iterator[Difference]:
    """Yield the facts that differ, by name."""
    facts = [dict(_facts(report)) for report in (one, two)]
    for name in dict.fromkeys([*facts[0], *facts[1]]):
        a, b = (table.get(name, "–") for table in facts)
        if a != b:
            yield Difference(name=name, a=a, b=b)


def _facts(report: SceneReport) -> Iterator[tuple[str, str]]:
    if report.model is not None:
        yield "model", report.model.name
        yield "weights", report.model.weights_sha256
    yield "inputs", ", ".join(report.inputs)
    yield "references", ", ".join(report.references)
    if report.overall is not None:
        for name in ("mean_iou", "mean_dice", "pixel_accuracy", "kappa"):
            value = getattr(report.overall, name)
            yield name.replace("_", " "), "–" if value is None else f"{value:.6g}"
    for item in report.classes:
        yield f"name of class {item.id}", item.name
    run = report.run
    if run is None:
        return
    yield "fingerprint", run.fingerprint
    yield "backend", run.backend
    yield "device", run.device
    if run.tiling is not None:
        for name in ("patch", "step", "blend"):
            yield name, str(getattr(run.tiling, name))
    for name, value in run.versions.items():
        yield f"version of {name}", value


def _pictures(
    report: SceneReport, classes: Sequence[ClassReport], maps: Sequence[Path], other: RasterSpec | VolumeSpec
) -> Pictures:
    """Return the scene with A in the place of the labels and B in that of the reference."""
    seen = seen_in(report)
    if seen is None or any(seen.start):  # of a part: B's label map lies on that part's grid, not on the input's
        return Pictures()
    plan = ReferencePlan(path=str(maps[1]), spec=other, identity="", map={}, ignore=(), region=None)
    ids = tuple(item.id for item in classes[:NOTHING])
    return pictures(replace(seen, ids=ids, reference=plan), classes, maps[0], None)
