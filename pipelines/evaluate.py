"""The stage that compares two label maps that exist already."""

from __future__ import annotations

import colorsys
import logging
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from pipelines.publishing.details import Beside, bytes_of, ids_of, wanted_of
from pipelines.publishing.geometry import geometry_between
from segflow.errors import GridMismatchError, InputError
from segflow.io.names import VOLUME_SUFFIXES, is_remote, stem_of
from segflow.io.opening import Spec, compare_places, open_source
from segflow.io.raster import RasterSpec
from segflow.io.rat import read_classes
from segflow.io.source import Source
from segflow.io.volume import VolumeSpec
from segflow.metrics import evaluate as count
from segflow.metrics import scores
from segflow.metrics.details import measure
from segflow.metrics.windows import pair_of
from segflow.models.card import Card, LabelClass
from segflow.recipe import Report
from segflow.report import SceneReport, scene_report
from tiling import Box

_LOG = logging.getLogger(__name__)
_MOST_CLASSES = 1000


def evaluate(
    prediction: str,
    reference: str,
    card: Card | None = None,
    mapping: Mapping[int, int] | None = None,
    ignore: tuple[int, ...] = (),
    measures: Report = Report(),  # noqa: B008
    confidence: str | None = None,
) -> SceneReport:
    """Compare a label map with a reference on the same grid.

    Args:
        prediction: a GeoTIFF or NIfTI label map.
        reference: another, on the same grid.
        card: whose classes count; where not given, every id that either file holds is a class, named as in the
            prediction's attribute table where it has one.
        mapping: ids in the reference to ids of the prediction.
        ignore: ids that are not scored.
        measures: what is measured beside the plain scores; paths are absolute.
        confidence: the prediction's largest probability x 255 on the same grid, for its calibration.

    Raises:
        InputError: a file is missing or broken, or the reference holds an id that is no class.
        GridMismatchError: the files lie on different grids.
    """
    if is_volume(prediction) != is_volume(reference):
        kinds = ["a volume" if is_volume(path) else "a raster" for path in (prediction, reference)]
        raise GridMismatchError(
            f"{prediction} is {kinds[0]}, {reference} is {kinds[1]}", "two of one kind", "compare like with like"
        )
    with ExitStack() as stack:
        paths = (prediction, reference, *(() if confidence is None else (confidence,)))
        one, two, *sure = (stack.enter_context(closing(open_source(_spec(path)))) for path in paths)
        notice = compare_places(one, two)
        notices = (*one.notices, *two.notices, *(() if notice is None else (notice,)))
        for text in notices:
            _LOG.warning("%s", text)
        skipped = tuple(sorted({*ignore, *(card.ignore if card else ())}))
        classes = card.classes if card else _found_classes(prediction, one, two, mapping or {}, skipped)
        ids = tuple(item.id for item in classes)
        counts = count(one, two, ids, ignore=skipped, mapping=mapping or {})
        if sure:
            one.grid.require_same_place(sure[0].grid, one.name, sure[0].name)
        wanted = wanted_of(measures, one.grid, ids, Beside(bool(sure), None))
        pair = pair_of(
            one.grid.shape,
            ids_of(one),
            ids_of(two),
            ids,
            ignore=skipped,
            mapping=mapping or {},
            confidence=bytes_of(sure[0]) if sure else None,
        )
        result = scores(counts, classes, cell_area_m2=one.grid.cell_area_m2, cell_volume_ml=one.grid.cell_volume_ml)
        return scene_report(
            stem_of(prediction),
            one.grid,
            result,
            details=measure(pair, one.grid, classes, counts, wanted),
            inputs=(prediction,),
            references=(reference,),
            geometry=geometry_between(one, two, (paths[0], paths[1])),
            notices=notices,
        )


def is_volume(path: str) -> bool:
    """Tell by its name whether a file holds a volume."""
    return path.lower().endswith(tuple(VOLUME_SUFFIXES))


def _spec(path: str) -> Spec:
    place = path if is_remote(path) else str(Path(path).absolute())
    return VolumeSpec(place, "RAS") if is_volume(path) else RasterSpec(place, (1,))


def _found_classes(
    prediction: str, one: Source, two: Source, mapping: Mapping[int, int], ignore: tuple[int, ...]
) -> tuple[LabelClass, ...]:
    """Return a class for every id that is there: as the prediction names it, else in a colour of its own."""
    named = {} if is_volume(prediction) else {item.id: item for item in read_classes(Path(prediction))}
    ids = (_ids(one) | {mapping.get(value, value) for value in _ids(two)}) - set(ignore)
    if len(ids) > _MOST_CLASSES:
        raise InputError(
            f"the files hold {len(ids)} different values",
            "label maps with a few class ids",
            "give --model, or check them",
        )
    found = []
    for number, value in enumerate(sorted(ids)):
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(number * 0.618034 % 1.0, 0.6, 0.85))
        plain = LabelClass(id=value, name=f"class {value}", colour=f"#{red:02X}{green:02X}{blue:02X}")
        found.append(named.get(value, plain))
    if not found:
        raise InputError("neither file holds a label", "label maps", "check them, and the ignored ids")
    return tuple(found)


def _ids(source: Source) -> set[int]:
    """Return the ids that a label map holds, band by band."""
    whole = Box.whole(source.grid.shape)
    ids: set[int] = set()
    rows = max(1, (1 << 24) * whole.shape[0] // whole.size)
    for start in range(0, whole.shape[0], rows):
        pixels = source.read(whole.replace_axis(0, start, min(start + rows, whole.shape[0])))
        values = pixels.values[0][pixels.valid]
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
            if (values != np.rint(values)).any():
                raise InputError(
                    f"{source.name} holds fractions", "whole class ids", "give a label map, not probabilities"
                )
        ids.update(int(value) for value in np.unique(values))
    if any(not 0 <= value <= 65535 for value in ids):
        raise InputError(
            f"{source.name} holds ids from {min(ids)} to {max(ids)}", "ids from 0 to 65535", "renumber them"
        )
    return ids
