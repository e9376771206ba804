"""Names that tell nothing of a patient, and what stands in the ledger for places that others must not read.

A DICOM series often lies in a folder that is called after the patient. A keyed hash (HMAC-SHA256, RFC 2104) is the same
for the same series every night, and nobody without the key can find out whose it is by trying names or numbers.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from flows.ledger.place import place_of
from pipelines.planning.scenes import NamedScene
from segflow.errors import OutputError, RecipeError
from segflow.io.dicom.place import ENDINGS, split_path
from segflow.io.names import VOLUME_SUFFIXES, is_remote
from segflow.masking import hide_texts, open_text
from segflow.recipe import Recipe

KEY = "SEGFLOW_NAME_KEY"
_DIGITS = 16


class Private:
    """Seals what a recipe's ledger, logs and outputs must not tell.

    Args:
        recipe: says where the ledger is, and whether it names its scenes itself.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._bases = tuple(bases_of(recipe))
        self._uids: dict[str, str] = {}

    def hide_places(self) -> None:
        """Hide the folders and archives below the recipe's inputs that may hold DICOM: before they are looked into."""
        if self._recipe.kind == "volume":
            for base in self._bases:
                hide_texts(_places_in(str(base)))

    def sealed(self, text: str) -> str:
        """Return a text's keyed hash, 64 hexadecimal digits."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def named(self, scenes: Sequence[NamedScene]) -> list[NamedScene]:
        """Return scenes with those of DICOM named by their series, unless the recipe sets `outputs.name`.

        Where their files lie is hidden in what this process logs and tells from now on.
        """
        places = (split_path(path)[0] for item in scenes if is_dicom(item) for path in item.scene.paths)
        hide_texts(place for place in places if Path(place) not in self._bases)
        if "name" in self._recipe.outputs.model_fields_set:
            return list(scenes)
        found, taken = list[NamedScene](), {item.name for item in scenes if not is_dicom(item)}
        for item in scenes:
            name = self._name(item) if is_dicom(item) else item.name
            if is_dicom(item) and name in taken:
                name = self.sealed("\n".join((name, *item.scene.paths)))[:_DIGITS]
            taken.add(name)
            found.append(replace(item, name=name))
        return found

    def _name(self, item: NamedScene) -> str:
        uids = []
        for path in item.scene.paths:
            if split_path(path)[1] is not None and path not in self._uids:
                from segflow.io.dicom import series_at

                self._uids[path] = series_at(path).tags["SeriesInstanceUID"]
            uids.append(self._uids.get(path, path))
        return self.sealed("\n".join(uids))[:_DIGITS]

    @cached_property
    def _key(self) -> bytes:
        said = os.environ.get(KEY)
        if said:
            return said.encode()
        ledger = place_of(self._recipe)
        if not isinstance(ledger, Path):
            raise RecipeError(
                f"{KEY} is not set, and the ledger is shared by several machines",
                "one key for all of them, by which private names are hashed",
                f"export {KEY}=... on each machine, the same, such as of `openssl rand -hex 32`",
            )
        return _kept(ledger.with_suffix(".key"))


def is_dicom(item: NamedScene) -> bool:
    """Tell whether a scene is made of DICOM series."""
    return any(split_path(path)[1] is not None for path in item.scene.paths)


def is_private(item: NamedScene) -> bool:
    """Tell whether the ledger must not hold where a scene lies: DICOM, and a URL with what gives access to it."""
    return is_dicom(item) or any(is_remote(path) and open_text(path) != path for path in item.scene.paths)


def bases_of(recipe: Recipe) -> Iterator[Path]:
    """Yield the folders that a recipe's inputs name, up to their first part that is a pattern; a file is its own."""
    inputs = recipe.inputs
    for item in (inputs.path,) if isinstance(inputs.path, str) else inputs.path:
        if not is_remote(item):
            parts = recipe.resolve(item).parts
            fixed = next((n for n, part in enumerate(parts) if set(part) & set("*?[{")), len(parts))
            yield Path(*parts[:fixed])


def _places_in(base: str) -> Iterator[str]:
    """Yield archives, DICOM files and the folders that hold no other volume, at any depth below a folder."""
    others: set[str] = set()
    for top, _, files in os.walk(base, topdown=False):
        if top in others or any(name.lower().endswith(VOLUME_SUFFIXES) for name in files):
            others.add(os.path.dirname(top))  # noqa: PTH120 - of many
        elif top != base:
            yield top
            continue
        yield from (f"{top}/{name}" for name in files if name.lower().endswith(ENDINGS))


def _kept(path: Path) -> bytes:
    """Return the key that a file holds; made, readable by its owner alone, where there is none.

    Raises:
        OutputError: it can be neither read nor made.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _make(path)
        return path.read_bytes()
    except OSError as error:
        raise OutputError(
            f"the key of names {path} cannot be used: {error.strerror}",
            "a file that can be read, or a folder in which it can be made",
            f"mend its permissions, or export {KEY}=...",
        ) from error


def _make(path: Path) -> None:
    """Make a key file, whole or not at all; the first of two that make it at once counts."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # of mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        Path(path).hardlink_to(part)
    except FileExistsError:
        pass
    finally:
        Path(part).unlink()
