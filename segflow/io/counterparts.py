"""The files that belong to a scene by the recipe's patterns: its reference, and where that counts."""

from __future__ import annotations

from segflow.errors import InputError
from segflow.io.discover import Scene
from segflow.io.names import fill, is_remote, nearest, stem_of
from segflow.io.patterns import Resolve, is_glob, matches
from segflow.recipe import References


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
    if is_glob(wanted):
        found = matches(path)
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
