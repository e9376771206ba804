"""The geometry contract of a scene: what input, output and reference say of where they lie, compared after writing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path, PurePath

from pipelines.planning.plan import ScenePlan
from segflow.grid import Grid
from segflow.io.gdalenv import shown
from segflow.io.geometry import Placement, apart, place_of_raster, place_of_volume
from segflow.io.opening import Spec, open_source
from segflow.io.raster import RasterSpec
from segflow.io.source import Source
from segflow.report import FileGeometry, GeometryReport

_TOLERANCE = 0.01
"""Files lie on each other when no corner is further apart than this part of the smallest cell side."""

Named = tuple[str, Placement]


def geometry_of(plan: ScenePlan, labels: Path) -> GeometryReport:
    """Read back where the files of a scene lie, and compare.

    Args:
        plan: the scene's plan.
        labels: the label map, published.

    Raises:
        InputError: a file is gone or broken.
    """
    if plan.grid.kind == "raster":
        # What is compared is the part that was made.
        source = (plan.inputs[0], place_of_raster(plan.output_grid))
        output = (labels.name, place_of_raster(_grid(RasterSpec(str(labels), (1,)))))
        reference = None if plan.reference is None else (plan.reference.path, _referenced(plan, plan.reference.spec))
        return contract(source, output, reference)
    number = getattr(plan.spec, "resample_to", None) or 0
    return contract(
        (plan.inputs[number], place_of_volume(plan.inputs[number])),
        (labels.name, place_of_volume(str(labels))),
        None if plan.reference is None else (plan.reference.path, place_of_volume(plan.reference.path)),
    )


def geometry_between(prediction: Source, reference: Source, names: tuple[str, str]) -> GeometryReport:
    """Compare where a label map and its reference lie, both open.

    Args:
        prediction: the label map.
        reference: what it is compared with.
        names: of their files.

    Raises:
        InputError: a header cannot be read.
    """
    volume = prediction.grid.kind == "volume"
    pairs = zip(names, (prediction, reference), strict=True)
    one, two = ((name, place_of_volume(name) if volume else place_of_raster(source.grid)) for name, source in pairs)
    return contract(None, one, two)


def contract(source: Named | None, output: Named, reference: Named | None) -> GeometryReport:
    """Compare files by name and place.

    Args:
        source: the input; None where only the label map and its reference are there.
        output: the label map.
        reference: what it was compared with.
    """
    given = (("input", source), ("output", output), ("reference", reference))
    (role, base), *others = ((role, named) for role, named in given if named is not None)
    smallest = min(base[1].spacing or (1.0,)) if len(base[1].shape) == 3 else 1.0
    files = [_file(role, base, None), *(_file(role, named, apart(base[1], named[1])) for role, named in others)]
    known = base[1].matrix is not None
    wrong = [item for item in files[1:] if _is_off(item, files[0], known, _TOLERANCE * smallest)]
    return GeometryReport(agrees=not wrong, verdict=_verdict(files, wrong, known), files=tuple(files))


def _grid(spec: Spec) -> Grid:
    with closing(open_source(spec)) as source:
        return source.grid


def _referenced(plan: ScenePlan, spec: Spec) -> Placement:
    return place_of_raster(_grid(spec).crop(plan.region))


def _file(role: str, named: Named, distance: float | None) -> FileGeometry:
    name, place = named
    return FileGeometry.model_validate(
        {
            "role": role,
            "name": PurePath(shown(name)).name,
            "shape": place.shape,
            "orientation": place.orientation,
            "handedness": None if place.right_handed is None else "right" if place.right_handed else "left",
            "spacing": place.spacing,
            "qform_code": None if place.codes is None else place.codes[0],
            "sform_code": None if place.codes is None else place.codes[1],
            "forms_apart_mm": place.forms_apart_mm,
            "crs": place.crs,
            "apart": distance,
        }
    )


def _is_off(item: FileGeometry, source: FileGeometry, known: bool, tolerance: float) -> bool:
    if not known:
        return item.shape != source.shape
    return item.apart is None or item.apart > tolerance


def _verdict(files: list[FileGeometry], wrong: list[FileGeometry], known: bool) -> str:
    source = files[0]
    volume = len(source.shape) == 3
    unit, cells = ("mm", "voxels") if volume else ("cells", "cells")
    if wrong:
        told = "; ".join(
            f"the {item.role} lies up to {item.apart:.3g} {unit} off"
            if item.apart is not None
            else f"the {item.role} has another grid ({' x '.join(map(str, item.shape))})"
            for item in wrong
        )
        return f"Not on the {source.role}'s {cells}: {told}."
    others = " and ".join(item.role for item in files[1:]).capitalize()
    verb = "lies" if len(files) == 2 else "lie"
    if not known:
        return f"The {source.role} has no georeference. {others} {'has' if len(files) == 2 else 'have'} as many cells."
    furthest = max(item.apart or 0.0 for item in files[1:])
    said = f"{others} {verb} on the {source.role}'s {cells}: no corner is more than {furthest:.1g} {unit} off."
    if not furthest:
        said = f"{others} {verb} on the {source.role}'s {cells} exactly."
    return said + "".join(_remarks(files))


def _remarks(files: list[FileGeometry]) -> list[str]:
    source, other = files[:2]
    said = []
    if source.forms_apart_mm is not None and source.spacing and source.forms_apart_mm > 0.1 * min(source.spacing):
        kept = ", and the output holds both as the input does" if source.role == "input" else ""
        said.append(
            f" The {source.role}'s qform and sform are up to {source.forms_apart_mm:.3g} mm apart; the sform was "
            f"used{kept}."
        )
    if source.orientation != other.orientation:
        said.append(f" The {other.role} is stored {other.orientation}, the {source.role} {source.orientation}.")
    names = {item.crs for item in files}
    if len(names) > 1:
        told = ", ".join(f"{item.role} {item.crs or 'none'}" for item in files)
        said.append(f" Coordinate systems are named differently: {told}.")
    return said
