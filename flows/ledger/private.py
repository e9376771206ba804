"""What stands in the ledger for places that others must not read, and what logs must not tell.

Names of DICOM scenes are the work of `pipelines.planning.naming`; the ledger's hashes have the same key.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

from pipelines.planning.naming import is_dicom, key_of, sealed
from pipelines.planning.scenes import NamedScene
from segflow.io.dicom.place import ENDINGS, split_path
from segflow.io.names import VOLUME_SUFFIXES, is_remote
from segflow.masking import hide_texts, open_text
from segflow.recipe import Recipe


class Private:
    """Seals what a recipe's ledger, logs and outputs must not tell.

    Args:
        recipe: says where the ledger is, and whether it names its scenes itself.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._bases = tuple(bases_of(recipe))

    def hide_places(self) -> None:
        """Hide the folders and archives below the recipe's inputs that may hold DICOM: before they are looked into."""
        if self._recipe.kind == "volume":
            for base in self._bases:
                hide_texts(_places_in(str(base)))

    def sealed(self, text: str) -> str:
        """Return a text's keyed hash, 64 hexadecimal digits."""
        return sealed(self._key, text)

    @cached_property
    def _key(self) -> bytes:
        return key_of(self._recipe)

    def hide(self, scenes: Iterable[NamedScene]) -> None:
        """Hide where these scenes' DICOM files lie in what this process logs and tells from now on."""
        places = (split_path(path)[0] for item in scenes if is_dicom(item.scene) for path in item.scene.paths)
        hide_texts(place for place in places if Path(place) not in self._bases)


def is_private(item: NamedScene) -> bool:
    """Tell whether the ledger must not hold where a scene lies: DICOM, and a URL with what gives access to it."""
    return is_dicom(item.scene) or any(is_remote(path) and open_text(path) != path for path in item.scene.paths)


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
