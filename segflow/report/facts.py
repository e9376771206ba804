"""The part of a report's page that tells how it ran and what was written, as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import PurePath

from segflow.report import numbers
from segflow.report.schema import FileFacts, GridReport, RunFacts, SceneReport, TilingFacts
from segflow.report.sections import meter


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
    return (
        '<section aria-labelledby="run"><h2 id="run">How it ran</h2><div class="columns">'
        f'<div>{_stages(run)}</div><dl class="facts">{_facts(_run_facts(run))}</dl></div></section>'
    )


def _stages(run: RunFacts) -> str:
    total = run.seconds.get("total")
    stages = [(name, value) for name, value in run.seconds.items() if name != "total"]
    most = max([value for _, value in stages] + [total or 0.0], default=0.0) or 1.0
    rows = "".join(
        f'<div>{escape(name)}</div><div>{meter(value / most)}</div><div class="value">{numbers.seconds(value)}</div>'
        for name, value in stages
    )
    if total is not None:
        rows += f'<div><b>total</b></div><div></div><div class="value"><b>{numbers.seconds(total)}</b></div>'
    return (
        '<p class="hint" style="margin:0">Each stage\'s busy time by the clock. Stages overlap, so they need not add '
        f'up to the total.</p><div class="stages">{rows}</div>'
    )


def _run_facts(run: RunFacts) -> list[tuple[str, str]]:
    minimum = run.forwards_minimum
    times = f" ({run.forwards / minimum:.2f} ×)" if minimum and run.forwards != minimum else ""
    said = f"{run.forwards:,}; the lattice needs {minimum:,}{times}"
    return [
        ("Forward passes", said),
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
    shown = [("Grid", extent(grid)), ("Coordinate system", escape(crs_name(grid.crs) or "none"))]
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
    return (
        '<section aria-labelledby="place"><h2 id="place">Grid and files</h2><div class="columns">'
        f'<dl class="facts">{_facts(shown)}</dl><div>{_files(report.outputs)}</div></div></section>'
    )


def _files(files: Sequence[FileFacts]) -> str:
    if not files:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(item.name)}</th>'
        f"<td>{numbers.size(item.bytes) if item.bytes is not None else numbers.DASH}</td>"
        f'<td><code title="{escape(item.sha256)}">{escape(item.sha256[:12])}…</code></td></tr>'
        for item in files
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Files, table">'
        '<table><thead><tr><th scope="col">Written</th><th scope="col">Size</th><th scope="col">sha256</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _names(names: Sequence[str]) -> str:
    return "<br>".join(escape(name) for name in names)


def _facts(shown: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in shown)
