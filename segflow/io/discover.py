"""Which scenes a recipe means: what its inputs name (`patterns`), by channel and series. Only DICOM is opened.

A folder gives the rasters or volumes that lie directly in it, by extension; hidden files and what segflow itself
writes (`OUTPUT_ENDINGS`) are left out, there and in globs. Other label files are not known from images by name: keep
them in a folder of their own, or use a glob. For volumes, a folder without any such file, or whatever is named beside
`inputs.series`, is looked through for DICOM series, and so is a zip; that reads headers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segflow.errors import InputError, NothingThereError, RecipeError
from segflow.grid import Kind
from segflow.io.names import VOLUME_SUFFIXES, fill, is_remote, natural, nearest, parent_of, stem_of
from segflow.io.patterns import Resolve, expand, fixed_part, has_suffix, is_glob, matches
from segflow.recipe import Inputs

if TYPE_CHECKING:
    from segflow.io.dicom.scenes import Found

_LOG = logging.getLogger(__name__)


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
            for path, case in _named(expand(item, kind, resolve, dicom=inputs.series is not None)):
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
    """Yield the scenes of a path that `expand` gave: itself, or the DICOM series that it holds."""
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

    return path.is_dir() or (not has_suffix(path.name, "volume") and is_dicom_file(path))


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
            nearest(fixed_part(resolve(next(iter(items))) / next(iter(channels.values())))),
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
    if not is_glob(str(path)) and "{case}" not in str(path):
        raise InputError(f"there is no file {path}", "a file, or a pattern with {case}", nearest(path))
    files = [(case, str(match)) for match, case in matches(path) if has_suffix(match.name, kind)]
    if files or kind == "raster":
        return files
    return [(case, str(match)) for match, case in (*matches(path), *matches(path, folders=True))]
