"""Paths, globs, folders and URLs turned into files. Nothing is opened."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from segflow.errors import InputError, NothingThereError
from segflow.grid import Kind
from segflow.io.names import OUTPUT_ENDINGS, RASTER_SUFFIXES, VOLUME_SUFFIXES, is_remote, natural, nearest

Resolve = Callable[[str], Path]


def expand(item: str, kind: Kind, resolve: Resolve, dicom: bool) -> list[tuple[str, str]]:
    """Return the (path, case) pairs that one item of the inputs means; folders that may hold DICOM among them.

    Args:
        item: a path, folder, glob or URL, as in `inputs.path`.
        kind: decides which extensions count in folders.
        resolve: makes the recipe's paths absolute (`Recipe.resolve`).
        dicom: whether folders are looked through for DICOM only.

    Raises:
        InputError: there is no such file, or a URL that cannot be opened.
        NothingThereError: a glob matches nothing, or a folder is empty.
    """
    if is_remote(item):
        return [(_require_openable(item, kind), "")]
    path = resolve(item)
    if path.is_dir():
        return _inside(path, "", kind, dicom)
    if path.exists():
        return [(str(path), "")]
    if not is_glob(item) and "{case}" not in item:
        raise InputError(f"there is no file {path}", "a file, folder, glob or URL", nearest(path))
    found = matches(path)
    if re.fullmatch(r"[*.?]*", path.name):
        found = [(match, case) for match, case in found if has_suffix(match.name, kind)]
    found = [(match, case) for match, case in found if _is_input(match.name, path.name)]
    if found:
        return [(str(match), case) for match, case in found]
    folders = matches(path, folders=True) if kind == "volume" else []
    if not folders:
        raise NothingThereError(f"nothing matches {path}", "at least one file", nearest(fixed_part(path)))
    return [pair for folder, case in folders for pair in _inside(folder, case, kind, dicom)]


def _require_openable(url: str, kind: Kind) -> str:
    if "*" in url:
        raise InputError(f"{url} is a glob on a remote place", "one URL for each scene", "list the URLs in inputs.path")
    if kind == "volume":
        raise InputError(f"{url} is not on this machine", "a local volume", "download it first")
    return url


def _inside(folder: Path, case: str, kind: Kind, dicom: bool) -> list[tuple[str, str]]:
    """Return a folder's rasters or volumes in natural order; the folder itself where it can only hold DICOM."""
    if dicom:
        return [(str(folder), case)]
    found = [
        child
        for child in folder.iterdir()
        if not child.name.startswith(".") and child.is_file() and has_suffix(child.name, kind)
    ]
    found = sorted((child for child in found if _is_input(child.name, "")), key=lambda child: natural(child.name))
    if not found and kind == "raster":
        raise NothingThereError(
            f"the folder {folder} holds no {kind}",
            "files ending in " + ", ".join(_suffixes(kind)),
            "check the folder, or name the files by a glob such as folder/**/*" + _suffixes(kind)[0],
        )
    return [(str(child), case) for child in found] or [(str(folder), case)]


def matches(pattern: Path, folders: bool = False) -> list[tuple[Path, str]]:
    """Return the files (or folders) that match a pattern, with their case, in natural order.

    A pattern has *, **, ?, [...] and {case}. {case} stands for a part of one name; where it comes twice it must be the
    same. Hidden files and folders are matched by patterns that name them only.
    """
    parts = pattern.parts
    first = next(count for count, part in enumerate(parts) if is_glob(part) or "{case}" in part)
    root, rest = Path(*parts[:first]), parts[first:]
    matcher = re.compile(_regex(rest))
    wide = [part if part == "**" else re.sub(r"\*\*+", "*", part.replace("{case}", "*")) for part in rest]
    wide += ["*"] if wide[-1] == "**" else []
    found = []
    for path in root.glob("/".join(wide)) if root.is_dir() else ():
        inner = path.relative_to(root)
        match = matcher.fullmatch(inner.as_posix())
        shown = all(not part.startswith(".") or any(wanted.startswith(".") for wanted in rest) for part in inner.parts)
        if match and shown and (path.is_dir() if folders else path.is_file()):
            found.append((path, match.groupdict().get("case") or ""))
    return sorted(found, key=lambda item: natural(str(item[0])))


def _regex(parts: Sequence[str]) -> str:
    """Turn the parts of a pattern into a regular expression with the group `case`."""
    text = "/".join(parts)
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{case}": ""}
    out, seen = "", False
    for piece in re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|\{case\})", text):
        if piece == "{case}":
            out += "(?P=case)" if seen else "(?P<case>[^/]+?)"
            seen = True
        elif piece in signs:
            out += signs[piece]
        elif piece.startswith("[") and piece.endswith("]"):
            out += piece.replace("[!", "[^")
        else:
            out += re.escape(piece)
    return out


def fixed_part(path: Path) -> Path:
    """Return a pattern up to and with its first part that is not fixed."""
    parts = path.parts
    for count, part in enumerate(parts):
        if is_glob(part) or "{case}" in part:
            return Path(*parts[: count + 1])
    return path


def is_glob(text: str) -> bool:
    """Tell whether a path is a pattern for several."""
    return any(sign in text for sign in "*?[")


def has_suffix(name: str, kind: Kind) -> bool:
    """Tell whether a file is a raster, or a volume, by its name."""
    return name.lower().endswith(_suffixes(kind))


def _suffixes(kind: Kind) -> tuple[str, ...]:
    return RASTER_SUFFIXES if kind == "raster" else VOLUME_SUFFIXES


def _is_input(name: str, pattern: str) -> bool:
    """Leave out our own outputs, unless the pattern asks for them."""
    return not any(name.endswith(end) and not pattern.endswith(end) for end in OUTPUT_ENDINGS)
