"""Which scenes a recipe means: paths, globs, folders, lists, URLs and patterns turned into files. Only DICOM is opened.

A folder gives the rasters or volumes that lie directly in it, by extension; hidden files and what segflow itself
writes (`OUTPUT_ENDINGS`) are left out, there and in globs. Other label files are not known from images by name: keep
them in a folder of their own, or use a glob. For volumes, a folder without any such file, or whatever is named beside
`inputs.series`, is looked through for DICOM series, and so is a zip; that reads headers.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segflow.errors import InputError, NothingThereError, RecipeError
from segflow.grid import Kind
from segflow.io.names import (
    OUTPUT_ENDINGS,
    RASTER_SUFFIXES,
    VOLUME_SUFFIXES,
    fill,
    is_remote,
    natural,
    nearest,
    parent_of,
    stem_of,
)
from segflow.recipe import Inputs, References

if TYPE_CHECKING:
    from segflow.io.dicom.scenes import Found

_LOG = logging.getLogger(__name__)
Resolve = Callable[[str], Path]


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene: what is opened together and gives one label map.

    Attributes:
        stem: the file's name without its extensions; the case where channels are grouped by {case}.
        parent: name of the folder that the (first) file lies in.
        case: what {case} stands for; "" where the inputs have no {case}.
        paths: one file or URL, or one for each channel in the order of `inputs.channels`. Files are absolute.
    """

    stem: str
    parent: str
    case: str
    paths: tuple[str, ...]


@dataclass(slots=True)
class Gaps:
    """What of the inputs is no scene, gathered in place of an error: more may arrive, and what is whole goes on.

    Attributes:
        incomplete: cases that lack a channel.
        unreadable: places (of DICOM) that give no scene, and why.
    """

    incomplete: list[str] = field(default_factory=list)
    unreadable: dict[str, InputError] = field(default_factory=dict)


def discover(inputs: Inputs, kind: Kind, resolve: Resolve, gaps: Gaps | None = None) -> list[Scene]:
    """Return the scenes that a recipe's inputs mean, each list item in natural order, doubles left out.

    Args:
        inputs: the recipe's.
        kind: decides which extensions count in folders.
        resolve: makes the recipe's paths absolute (`Recipe.resolve`).
        gaps: takes what would be an error otherwise, but for the last: nothing at all is there.

    Raises:
        InputError: a file is missing, a glob or folder is empty, or a case lacks a channel.
        RecipeError: a pattern cannot be meant.
    """
    items = (inputs.path,) if isinstance(inputs.path, str) else inputs.path
    if not items:
        raise RecipeError("inputs.path is an empty list", "at least one path", "name one")
    if inputs.series and kind != "volume":
        raise RecipeError("inputs.series for rasters", "DICOM series, which are volumes", "set kind: volume")
    if inputs.channels:
        return _grouped(items, inputs, kind, resolve, gaps)
    scenes: dict[str, Scene] = {}
    empty: NothingThereError | None = None
    for item in items:
        try:
            for path, case in _named(_expand(item, kind, resolve, dicom=inputs.series is not None)):
                for scene in _scenes_at(path, case, kind, inputs.series, gaps):
                    scenes.setdefault(scene.paths[0], scene)
        except NothingThereError as error:
            if gaps is None:
                raise
            empty = error
    if empty is not None and not scenes:
        raise empty
    return list(scenes.values())


def _named(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what has no name in UTF-8, which no format and no database takes, and say so.

    Raises:
        InputError: nothing else is there.
    """
    good = [(path, case) for path, case in found if _is_utf8(path)]
    strange = [path.encode(errors="backslashreplace").decode() for path, _ in found if not _is_utf8(path)]
    if strange and not good:
        raise InputError(f"{strange[0]} has a name that is no UTF-8", "a name in UTF-8", "rename it, such as by convmv")
    for path in strange:
        _LOG.warning("%s is left out: its name is no UTF-8; rename it, such as by convmv", path)
    return good


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _scenes_at(
    path: str, case: str, kind: Kind, series: Mapping[str, str] | None, gaps: Gaps | None = None
) -> Iterator[Scene]:
    """Yield the scenes of a path that `_expand` gave: itself, or the DICOM series that it holds."""
    if kind == "raster" or is_remote(path) or not _may_be_dicom(Path(path)):
        if series:
            raise RecipeError(f"inputs.series, and {path} is no DICOM", "DICOM series", "remove one of both")
        yield Scene(stem_of(path), parent_of(path), case, (path,))
        return
    try:
        places = _series_at(path, series, several=True)
    except InputError as error:
        if gaps is None:
            raise
        gaps.unreadable[path] = error
        return
    for found in places:
        yield Scene(found.stem, found.parent, case, (found.path,))


def _series_at(path: str, series: Mapping[str, str] | None, several: bool) -> list[Found]:
    from segflow.io.dicom.scenes import dicom_scenes

    found = dicom_scenes(path, series, several)
    if not found:
        raise InputError(
            f"{path} holds no volume",
            "files ending in " + ", ".join(VOLUME_SUFFIXES) + ", or a series of DICOM images",
            "check the folder, or name the files by a glob such as folder/**/*" + VOLUME_SUFFIXES[0],
        )
    return found


def _may_be_dicom(path: Path) -> bool:
    from segflow.io.dicom.scenes import is_dicom_file

    return path.is_dir() or (not _has_suffix(path.name, "volume") and is_dicom_file(path))


def reference_for(scene: Scene, references: References, resolve: Resolve) -> str:
    """Return the file or URL that a scene is compared with.

    Raises:
        InputError: there is no such file, or a glob does not mean exactly one.
        RecipeError: the pattern has an unknown field.
    """
    return _file_of(scene, references.path, "references.path", "reference", resolve)


def mask_for(scene: Scene, references: References, resolve: Resolve) -> str | None:
    """Return the file or URL that says where a scene's reference counts; None where the recipe has none.

    Raises:
        InputError, RecipeError: as `reference_for`.
    """
    if references.mask is None:
        return None
    return _file_of(scene, references.mask, "references.mask", "mask", resolve)


def _file_of(scene: Scene, pattern: str, key: str, what: str, resolve: Resolve) -> str:
    wanted = fill(pattern, key, stem=scene.stem, parent=scene.parent, case=scene.case)
    if is_remote(wanted):
        return wanted
    path = resolve(wanted)
    if path.is_file():
        return str(path)
    if _is_glob(wanted):
        found = _matches(path)
        if len(found) == 1:
            return str(found[0][0])
        raise InputError(
            f"{len(found)} {what}s for {scene.stem} match {path}",
            "exactly one",
            f"make the pattern of {key} narrower" if found else nearest(path),
        )
    if path.is_dir():
        inside = sorted(item.name for item in path.iterdir() if item.is_file() and stem_of(item.name) == scene.stem)
        example = inside[0].replace(scene.stem, "{stem}", 1) if inside else "{stem}.tif"
        raise InputError(
            f"{key} is the folder {path}",
            f"the {what} of each scene: a pattern with {{stem}}",
            f"write {pattern.rstrip('/')}/{example}",
        )
    raise InputError(f"the {what} of {scene.stem} is missing: {path}", "a file", nearest(path))


def output_names(scenes: Sequence[Scene], template: str) -> list[str]:
    """Return each scene's name, which its outputs begin with.

    Raises:
        RecipeError: two scenes get one name, or a name is no plain file name.
    """
    names: list[str] = []
    first: dict[str, Scene] = {}
    for scene in scenes:
        name = fill(template, "outputs.name", stem=scene.stem, parent=scene.parent, case=scene.case)
        if not name or name.startswith(".") or set(name) & set("/\\\0") or ".." in name:
            raise RecipeError(
                f"outputs.name gives {name!r} for {scene.paths[0]}",
                "a plain file name: no folder, no '..', no dot in front",
                "correct outputs.name; outputs.folder says where results go",
            )
        other = first.setdefault(name, scene)
        if other is not scene:
            remedy = 'set outputs.name: "{parent}_{stem}"' if "{parent}" not in template else "rename one of them"
            raise RecipeError(
                f"{other.paths[0]} and {scene.paths[0]} would both be named {name}", "a name for each scene", remedy
            )
        names.append(name)
    return names


def _expand(item: str, kind: Kind, resolve: Resolve, dicom: bool) -> list[tuple[str, str]]:
    """Return the (path, case) pairs that one item of the inputs means; folders that may hold DICOM among them."""
    if is_remote(item):
        return [(_require_openable(item, kind), "")]
    path = resolve(item)
    if path.is_dir():
        return _inside(path, "", kind, dicom)
    if path.exists():
        return [(str(path), "")]
    if not _is_glob(item) and "{case}" not in item:
        raise InputError(f"there is no file {path}", "a file, folder, glob or URL", nearest(path))
    found = _matches(path)
    if re.fullmatch(r"[*.?]*", path.name):
        found = [(match, case) for match, case in found if _has_suffix(match.name, kind)]
    found = [(match, case) for match, case in found if _is_input(match.name, path.name)]
    if found:
        return [(str(match), case) for match, case in found]
    folders = _matches(path, folders=True) if kind == "volume" else []
    if not folders:
        raise NothingThereError(f"nothing matches {path}", "at least one file", nearest(_fixed_part(path)))
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
        if not child.name.startswith(".") and child.is_file() and _has_suffix(child.name, kind)
    ]
    found = sorted((child for child in found if _is_input(child.name, "")), key=lambda child: natural(child.name))
    if not found and kind == "raster":
        raise NothingThereError(
            f"the folder {folder} holds no {kind}",
            "files ending in " + ", ".join(_suffixes(kind)),
            "check the folder, or name the files by a glob such as folder/**/*" + _suffixes(kind)[0],
        )
    return [(str(child), case) for child in found] or [(str(folder), case)]


def _suffixes(kind: Kind) -> tuple[str, ...]:
    return RASTER_SUFFIXES if kind == "raster" else VOLUME_SUFFIXES


def _has_suffix(name: str, kind: Kind) -> bool:
    return name.lower().endswith(_suffixes(kind))


def _is_input(name: str, pattern: str) -> bool:
    """Leave out our own outputs, unless the pattern asks for them."""
    return not any(name.endswith(end) and not pattern.endswith(end) for end in OUTPUT_ENDINGS)


def _is_glob(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _fixed_part(path: Path) -> Path:
    """Return a pattern up to and with its first part that is not fixed."""
    parts = path.parts
    for count, part in enumerate(parts):
        if _is_glob(part) or "{case}" in part:
            return Path(*parts[: count + 1])
    return path


def _matches(pattern: Path, folders: bool = False) -> list[tuple[Path, str]]:
    """Return the files (or folders) that match a pattern, with their case, in natural order.

    A pattern has *, **, ?, [...] and {case}. {case} stands for a part of one name; where it comes twice it must be the
    same. Hidden files and folders are matched by patterns that name them only.
    """
    parts = pattern.parts
    first = next(count for count, part in enumerate(parts) if _is_glob(part) or "{case}" in part)
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


def _grouped(
    items: Iterable[str], inputs: Inputs, kind: Kind, resolve: Resolve, gaps: Gaps | None = None
) -> list[Scene]:
    """Group one file a channel by {case}. A channel's pattern starts from inputs.path."""
    channels = inputs.channels or {}
    found: dict[tuple[str, str], dict[str, str]] = {}
    for item in items:
        for channel, pattern in channels.items():
            for case, path in _channel(item, pattern, kind, resolve):
                there = found.setdefault((item, case), {})
                if channel in there:
                    raise InputError(
                        f"channel {channel} of {case or item} is both {there[channel]} and {path}",
                        "one file for each channel of a case",
                        f"make inputs.channels.{channel} narrower",
                    )
                there[channel] = path
    scenes = []
    for (item, case), files in sorted(found.items(), key=lambda entry: natural(entry[0][1])):
        missing = [channel for channel in channels if channel not in files]
        if missing and gaps is not None:
            gaps.incomplete.append(case or item)
            continue
        if missing:
            raise InputError(
                f"case {case or item} has no channel {', '.join(missing)} (it has {', '.join(files)})",
                "a file for each of inputs.channels: " + ", ".join(f"{k} = {v}" for k, v in channels.items()),
                "add the file, take the case away, or correct the pattern",
            )
        paths = tuple(_volume_at(files[channel], inputs.series) for channel in channels)
        first = files[next(iter(channels))]
        scenes.append(Scene(case or stem_of(first), parent_of(first), case, paths))
    if not scenes:
        raise NothingThereError(
            f"nothing matches inputs.channels under {', '.join(items)}",
            "files for " + ", ".join(f"{channel} = {pattern}" for channel, pattern in channels.items()),
            nearest(_fixed_part(resolve(next(iter(items))) / next(iter(channels.values())))),
        )
    return scenes


def _volume_at(path: str, series: Mapping[str, str] | None) -> str:
    """Return a channel's file; of a folder or a zip the one series that it holds."""
    return _series_at(path, series, several=False)[0].path if _may_be_dicom(Path(path)) else path


def _channel(item: str, pattern: str, kind: Kind, resolve: Resolve) -> list[tuple[str, str]]:
    """Return (case, path) for one channel's pattern below one item."""
    path = resolve(item) / pattern if item else resolve(pattern)
    if path.is_file() or (kind == "volume" and path.is_dir()):
        return [("", str(path))]
    if not _is_glob(str(path)) and "{case}" not in str(path):
        raise InputError(f"there is no file {path}", "a file, or a pattern with {case}", nearest(path))
    files = [(case, str(match)) for match, case in _matches(path) if _has_suffix(match.name, kind)]
    if files or kind == "raster":
        return files
    return [(case, str(match)) for match, case in (*_matches(path), *_matches(path, folders=True))]
