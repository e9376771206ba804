"""Names of files and scenes: extensions, natural order, templates, the nearest existing name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from segflow.errors import RecipeError

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2", ".j2k", ".png", ".jpg", ".jpeg", ".img", ".bmp", ".webp")
"""The extensions by which rasters are found in folders. A file that is named may have any that GDAL opens."""

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".nrrd", ".nhdr", ".mha", ".mhd")
"""The extensions of volumes in one file; DICOM series are known by their content."""

OUTPUT_ENDINGS = (
    *("_labels.tif", "_confidence.tif", "_probabilities.tif", "_coverage.tif"),
    *("_dseg.nii.gz", "_confidence.nii.gz", "_probseg.nii.gz", ".seg.nrrd"),
)
"""How our own outputs end: they are not taken for inputs when a folder is searched."""

_KNOWN = tuple(sorted((*RASTER_SUFFIXES, *VOLUME_SUFFIXES), key=len, reverse=True))
_FIELD = re.compile(r"\{([^{}]*)\}")


def is_remote(path: str) -> bool:
    """Tell whether a path is a URL or one of GDAL's virtual file systems: kept as it is, never looked for on disk."""
    return "://" in path or path.startswith("/vsi")


def stem_of(path: str) -> str:
    """Return the file's name without its known extensions: "x" for "x.nii.gz", "a.b" for "a.b.tif"."""
    name = re.split(r"[?#]", path)[0] if "://" in path else path
    name = name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
    lower = name.lower()
    for suffix in _KNOWN:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


def parent_of(path: str) -> str:
    """Return the name of the folder that a file lies in; "" where there is none."""
    parts = (re.split(r"[?#]", path)[0] if "://" in path else path).rstrip("/").split("/")
    return parts[-2] if len(parts) > 1 else ""


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts 2 before 10."""
    return tuple(
        (1, int(piece), piece) if piece.isdigit() and piece.isascii() else (2, 0, piece)
        for piece in re.split(r"([0-9]+)", text)
    )


def nearest(path: Path) -> str:
    """Return a remedy that names what there is in the place of a missing path."""
    folder = path.parent
    if not folder.is_dir():
        while not folder.is_dir():
            path, folder = folder, folder.parent
        return f"there is no folder {path}" + _near(path.name, (p.name for p in _children(folder) if p.is_dir()))
    return "check the name" + _near(path.name, (p.name for p in _children(folder)))


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _near(name: str, names: Iterable[str]) -> str:
    there = [other for other in names if not other.startswith(".")]
    close = get_close_matches(name, there, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    shown = ", ".join(sorted(there, key=natural)[:5])
    return f"; the folder holds {shown}" + (f" and {len(there) - 5} more" if len(there) > 5 else "") if there else ""


def fill(template: str, key: str, *, stem: str, parent: str, case: str) -> str:
    """Fill {stem}, {parent} and {case} into a template of the recipe.

    Raises:
        RecipeError: the template has another field, or {case} where the inputs have none.
    """
    values = {"stem": stem, "parent": parent, "case": case}
    for field in _FIELD.findall(template):
        if field not in values:
            raise RecipeError(
                f"{key} holds {{{field}}}: {template!r}",
                "only {stem}, {parent} and {case}",
                "correct the template",
            )
        if field == "case" and not case:
            raise RecipeError(
                f"{key} holds {{case}}: {template!r}, but the inputs have no {{case}}",
                "a pattern with {case} in inputs.path or inputs.channels",
                "use {stem} or {parent}",
            )
    return _FIELD.sub(lambda match: values[match[1]], template)
