"""The part of a report's page that tells how it ran and what was written, as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import PurePath

from segflow.report import numbers
from segflow.report.geometry import FileGeometry, GeometryReport
from segflow.report.parts import Cell, checksum, facts_list, file_size, meter, section, table
from segflow.report.schema import FileFacts, GridReport, RunFacts, SceneReport, TilingFacts

_CODES = {0: "not given", 1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI 152", 5: "other template"}
_STAGES = {
    "read": "Reading the input",
    "forward": "Network",
    "blend": "Blending patches",
    "score": "Counting for the scores",
    "write": "Keeping finished parts",
    "export": "Writing the label map",
    "exports": "Other formats",
    "measure": "Distances and the like",
    "statistics": "Statistics of the scene",
    "postprocess": "Cleaning up labels",
    "total": "All, by the clock",
}
"""Stages of a run, as the page calls them."""


def lead(report: SceneReport) -> str:
    """Return in a sentence or two what ran on what."""
    model, run = report.model, report.run
    against = (
        f"<b>{escape(', '.join(PurePath(name).name for name in report.references))}</b>" if report.references else ""
    )
    said = []
    if model is not None:
        named = f" ({escape(model.architecture)})" if model.architecture else ""
        said.append(f"Model <b>{escape(model.name)}</b>{named} on {extent(report.grid)}")
    elif against:
        said.append(f"Compared with {against} on {extent(report.grid)}")
    else:
        said.append(extent(report.grid))
    if run is not None:
        time = f", {numbers.seconds(run.seconds['total'])}" if "total" in run.seconds else ""
        said.append(f"Ran by {escape(run.backend)} on {escape(run.device)}{time}")
    if model is not None and against:
        said.append(f"Reference {against}")
    purpose = f'<p class="lead">{escape(model.description)}</p>' if model is not None and model.description else ""
    return f'<p class="lead">{". ".join(said)}.</p>{purpose}'


def extent(grid: GridReport) -> str:
    """Return the grid's size as people say it: columns × rows for rasters, x × y × z for volumes."""
    shape = grid.shape[::-1] if grid.kind == "raster" else grid.shape
    cells = " × ".join(f"{n:,}" for n in shape) + (" px" if grid.kind == "raster" else " voxels")
    if grid.spacing is None:
        return cells
    if grid.kind == "volume":
        return f"{cells} of {' × '.join(f'{value:.3g}' for value in grid.spacing)} mm"
    across = numbers.length(grid.spacing[1])
    down = numbers.length(grid.spacing[0])
    return f"{cells} of {across}" if across == down else f"{cells} of {across} × {down}"


def crs_name(wkt: str | None) -> str | None:
    """Return the name in a WKT, and code in a WKT, such as 'NAD83 / North Carolina (EPSG:32119)'."""
    found = re.search(r'"([^"]+)"', wkt or "")
    code = re.search(r'(?:AUTHORITY|ID)\["(\w+)",\s*"?(\w+)"?\]\s*\]\s*$', wkt or "")
    if found is None:
        return None
    return f"{found.group(1)} ({code.group(1)}:{code.group(2)})" if code else found.group(1)


def run_section(report: SceneReport) -> str:
    """Return time by stage beside the other facts of the run."""
    run = report.run
    if run is None:
        return ""
    body = f'<div class="columns"><div>{_stages(run)}</div>{facts_list(_run_facts(run))}</div>'
    return section("run", "How it ran", body)


def _stages(run: RunFacts) -> str:
    total = run.seconds.get("total")
    stages = [(name, value) for name, value in run.seconds.items() if name != "total"]
    most = max([value for _, value in stages] + [total or 0.0], default=0.0) or 1.0
    rows = "".join(
        f"<div>{escape(_STAGES.get(name, name))}</div><div>{meter(value / most)}</div>"
        f'<div class="value">{numbers.seconds(value)}</div>'
        for name, value in stages
    )
    if total is not None:
        rows += (
            f'<div><b>{_STAGES["total"]}</b></div><div></div><div class="value"><b>{numbers.seconds(total)}</b></div>'
        )
    return (
        '<p class="hint" style="margin:0">Each stage\'s busy time by the clock. Stages overlap, so they need not add '
        f'up to the total.</p><div class="stages">{rows}</div>'
    )


def _run_facts(run: RunFacts) -> list[tuple[str, str]]:
    minimum = run.forwards_minimum
    said = f"{run.forwards:,}, as few as cover the scene"
    if run.forwards != minimum:
        times = f", {run.forwards / minimum:.2f} × as many" if minimum else ""
        said = f"{run.forwards:,}; {minimum:,} cover the scene{times}"
    return [
        ("Patches run", said),
        *([] if run.tiling is None else [("Patches", _patches(run.tiling))]),
        ("Peak memory", numbers.size(run.peak_rss_bytes)),
        ("Backend", escape(f"{run.backend}, {run.why}" if run.why else run.backend)),
        ("Device", escape(run.device)),
        ("Versions", escape(", ".join(f"{name} {version}" for name, version in run.versions.items()))),
        ("Fingerprint", f"<code>{escape(run.fingerprint)}</code>"),
    ]


def _patches(tiling: TilingFacts) -> str:
    """Return size, step and overhead of the patches, and what `auto` went by."""
    patch, step = (" × ".join(f"{n:,}" for n in sizes) for sizes in (tiling.patch, tiling.step))
    said = f"{patch}, a step of {step}, blended by {tiling.blend}; {tiling.overhead:.2f} × the scene's cells"
    auto = tiling.auto
    if auto is None or auto.tolerance is None:
        return said
    sees = "no bound of its field was found" if auto.reach is None else f"the network sees {auto.reach} cells far"
    measured = "" if auto.change is None else f", measured here {auto.change:.2g}"
    return f"{said}. A cut may change a probability by {auto.tolerance:g}{measured}; {sees}"


def place_section(report: SceneReport) -> str:
    """Return the grid, the model and the files that were read and written."""
    grid = report.grid
    shown = [("Grid", extent(grid)), ("Coordinate system", escape(_crs(report)))]
    if grid.kind == "volume":
        shown = shown[:1]
    if grid.affine is not None:
        shown.append(("Affine", f"<code>{', '.join(f'{value:.8g}' for value in grid.affine)}</code>"))
    shown.append(("Excluded", f"{report.excluded:,} cells: no valid input, or nothing to compare with"))
    if report.overall is None:
        shown[-1] = ("Excluded", f"{report.excluded:,} cells without valid input")
    if report.inputs:
        shown.append(("Input", _names(report.inputs)))
    if report.references:
        shown.append(("Reference", _names(report.references)))
    if report.model is not None:
        shown.append(
            ("Weights", f"{escape(report.model.name)}<br><code>sha256 {escape(report.model.weights_sha256)}</code>")
        )
        if report.model.licence:
            shown.append(("Licence of the weights", escape(report.model.licence)))
    body = f'<div class="columns">{facts_list(shown)}<div>{_files(report.outputs)}</div></div>'
    return section("place", "Grid and files", body)


def _crs(report: SceneReport) -> str:
    """Return the name of the coordinate system; of one that is called nothing its code, where the files gave one."""
    name = crs_name(report.grid.crs) or "none"
    known = report.geometry.files[0].crs if report.geometry is not None else None
    return known if known and name.lower() in ("unnamed", "unknown") else name


def _files(files: Sequence[FileFacts]) -> str:
    if not files:
        return ""
    rows = [(escape(item.name), file_size(item.bytes), checksum(item.sha256)) for item in files]
    return table("Files", ("Written", "Size", Cell("sha256", "text")), rows)


def _names(names: Sequence[str]) -> str:
    return "<br>".join(escape(name) for name in names)


def geometry_section(geometry: GeometryReport | None) -> str:
    """Return the contract of input, output and reference; nothing where there is none (reports of older versions)."""
    if geometry is None:
        return ""
    volume = len(geometry.files[0].shape) == 3
    heads: list[str | Cell] = ["File", "Cells", Cell("Orientation", "text"), "Spacing (mm)" if volume else "Cell"]
    heads += [Cell(text, "text") for text in (("qform", "sform") if volume else ("Coordinate system",))]
    heads += ["Between both"] * volume + [f"From the {geometry.files[0].role}"]
    rows = [_geometry_row(item, volume) for item in geometry.files]
    hint = f"{'✓' if geometry.agrees else '⚠'} {escape(geometry.verdict)}"
    return section("geometry", "Geometry", table("Geometry", heads, rows), hint)


def _geometry_row(item: FileGeometry, volume: bool) -> list[str | Cell]:
    turned = item.orientation or "unknown"
    if item.handedness is not None:
        turned += f", {item.handedness}-handed"
    shape = item.shape if volume else item.shape[::-1]
    spacing = "unknown" if item.spacing is None else " × ".join(f"{value:.4g}" for value in item.spacing)
    row: list[str | Cell] = [
        f"{escape(item.name)} <small>{item.role}</small>",
        " × ".join(f"{n:,}" for n in shape),
        Cell(escape(turned), "text"),
        spacing,
    ]
    if volume:
        row += [Cell(escape(_code(code)), "text") for code in (item.qform_code, item.sform_code)]
        row.append(_distance(item.forms_apart_mm, "mm"))
    else:
        row.append(Cell(escape(item.crs or "none"), "text"))
    return [*row, _distance(item.apart, "mm" if volume else "cells")]


def _code(code: int | None) -> str:
    return "" if code is None else f"{code}, {_CODES.get(code, 'unknown')}"


def _distance(apart: float | None, unit: str) -> str:
    return "" if apart is None else f"{apart:.2g} {unit}"
