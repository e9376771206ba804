"""Names that tell nothing of a patient.

A DICOM series often lies in a folder that is called after the patient. A keyed hash (HMAC-SHA256, RFC 2104) of its
SeriesInstanceUID is the same for the same series everywhere that has the key, and nobody without the key can find out
whose it is by trying names or numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

from segflow.errors import OutputError, RecipeError
from segflow.io.dicom.place import split_path
from segflow.io.discover import Scene
from segflow.recipe import Recipe

KEY = "SEGFLOW_NAME_KEY"
_DIGITS = 16
_LEAST = 16
"""Letters that a key has at least."""


def is_dicom(scene: Scene) -> bool:
    """Tell whether a scene is made of DICOM series."""
    return any(split_path(path)[1] is not None for path in scene.paths)


def sealed_names(recipe: Recipe, scenes: Sequence[Scene], taken: Iterable[str]) -> list[str]:
    """Return names of DICOM scenes, 16 hexadecimal digits each.

    Args:
        recipe: says where the key is.
        scenes: of DICOM.
        taken: names that others have.

    Raises:
        RecipeError, OutputError: there is no key, and none can be made.
        InputError: a series is gone.
    """
    found, there = list[str](), set(taken)
    key = key_of(recipe, keep=False) if scenes else b""
    for scene in scenes:
        name = sealed(key, "\n".join(map(_uid, scene.paths)))[:_DIGITS]
        if name in there:  # a copy of the series
            name = sealed(key, "\n".join((name, *scene.paths)))[:_DIGITS]
        there.add(name)
        found.append(name)
    return found


def is_key_kept(recipe: Recipe) -> bool:
    """Keep the key by which `sealed_names` has just named scenes; tell whether it is that, or another's was first."""
    return key_of(recipe, keep=False) == key_of(recipe)


def forget_unused_key(recipe: Recipe) -> None:
    """Remove the key from an output folder in which nothing else is: no scene has come of its names."""
    with suppress(OSError):
        if [path.name for path in recipe.folder.iterdir()] == ["ledger.key"]:
            (recipe.folder / "ledger.key").unlink()


def sealed(key: bytes, text: str) -> str:
    """Return a text's keyed hash, 64 hexadecimal digits."""
    return hmac.new(key, text.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()


@lru_cache(maxsize=100_000)
def _uid(path: str) -> str:
    """Return the SeriesInstanceUID of a path that names a series; another path is its own."""
    if split_path(path)[1] is None:
        return path
    from segflow.io.dicom import series_at

    return series_at(path).tags["SeriesInstanceUID"]


def key_of(recipe: Recipe, keep: bool = True) -> bytes:
    """Return the key: of the environment, else of the file beside the ledger.

    Args:
        recipe: says where the ledger is.
        keep: make the file, readable by its owner alone, where there is none; else this process has a key of its own,
            which is kept when one is.

    Raises:
        RecipeError, OutputError: there is no key, and none can be made.
    """
    said = os.environ.get(KEY)
    if said:
        if len(said) < _LEAST:
            raise RecipeError(
                f"{KEY} has {len(said)} letters",
                f"{_LEAST} or more that nobody can guess",
                "see `openssl rand -hex 32`",
            )
        return said.encode(errors="surrogateescape")
    ledger = recipe.service.ledger
    if ledger is not None and "://" in ledger:
        raise RecipeError(
            f"{KEY} is not set, and the ledger is shared by several machines",
            "one key for all of them, by which private names are hashed",
            f"export {KEY}=... on each machine, the same, such as of `openssl rand -hex 32`",
        )
    path = recipe.folder / "ledger.sqlite" if ledger is None else recipe.resolve(ledger)
    return _kept(path.with_suffix(".key"), keep)


def _kept(path: Path, keep: bool) -> bytes:
    try:
        if not path.exists():
            if not keep:
                return _of_this_process().encode()
            path.parent.mkdir(parents=True, exist_ok=True)
            _make(path)
        found = path.read_bytes()
    except OSError as error:
        raise OutputError(
            f"the key of names {path} cannot be used: {error.strerror}",
            "a file that can be read, or a folder in which it can be made",
            f"mend its permissions, or export {KEY}=...",
        ) from error
    if len(found) < _LEAST:
        raise OutputError(
            f"the key of names {path} has {len(found)} bytes",
            f"{_LEAST} or more, as it was made",
            "bring it back from a backup; or remove it, and new scenes get names by another key",
        )
    return found


@cache
def _of_this_process() -> str:
    return secrets.token_hex(32)


def _make(path: Path) -> None:
    """Make a key file, whole or not at all; the first of two that make it at once counts."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # of mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(_of_this_process())
            file.flush()
            os.fsync(file.fileno())
        Path(path).hardlink_to(part)
    except FileExistsError:
        pass
    finally:
        Path(part).unlink()
