"""Which scenes of a recipe are new: whole, inside of their folder, and not known to the ledger. Opens no file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.ledger.ledger import Ledger
from flows.ledger.private import Private, bases_of, is_private
from flows.ledger.rows import Sighting, Stamps
from pipelines.planning.naming import is_dicom
from pipelines.planning.scenes import NamedScene, find_scenes, with_key
from segflow.errors import InputError, NothingThereError, SegflowError
from segflow.io.dicom.place import split_path
from segflow.io.discover import Gaps
from segflow.io.names import is_remote
from segflow.masking import hide_texts, open_text
from segflow.models.model import Model
from segflow.recipe import Recipe

UNFINISHED = (".part", ".partial", ".tmp", ".filepart", ".crdownload")
"""How programs call a file that they have not copied to its end."""


@dataclass(slots=True)
class Inventory:
    """What a look at the inputs found.

    Attributes:
        fresh: whole, and to be done.
        waiting: names of scenes whose files are new or still change, or lie beside a part of themselves.
        held: names of scenes that another run has.
        outside: names of scenes whose files lie elsewhere, and are not read.
        unreadable: what gives no scene: places of DICOM that are broken or mean several series, in words.
        known: how many need nothing.
    """

    fresh: list[NamedScene] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    known: int = 0


class Intake:
    """Looks for new scenes of a recipe, again and again.

    Args:
        recipe: what is meant.
        model: decides how files are read.
        ledger: what is known.
        backfill: also what is done by another recipe or other weights is to be done.
    """

    def __init__(self, recipe: Recipe, model: Model, ledger: Ledger, backfill: bool = False) -> None:
        self._recipe = recipe
        self._model = model
        self._ledger = ledger
        self._backfill = backfill
        self._private = Private(recipe)
        self._roots = tuple(roots_of(recipe))

    @cached_property
    def made(self) -> tuple[str, str]:
        """By what scenes are made: fingerprint of the recipe, sha256 of the weights. Read when a scene needs it."""
        return fingerprint_of(self._recipe), self._model.sha256

    def look(self, note: bool = True) -> Inventory:
        """Look once. Two looks, `service.settle_seconds` apart, tell a whole file from one that is being copied.

        Args:
            note: keep in the ledger what was seen.

        Raises:
            SegflowError: the recipe means no scenes, or its folder is not there; an empty one is no error.
        """
        look, seen = Inventory(), dict[str, Stamps]()
        scenes = self._scenes(look)
        before = self._ledger.files.sightings(self._key(item) for item in scenes)
        now = self._ledger.now()
        for item in scenes:
            self._sort(item, before.get(self._key(item)), now, look, seen)
        if note and seen:
            self._ledger.files.saw(seen)
        return look

    def identify(self, item: NamedScene) -> str:
        """Look at a scene's content, keep what it is, and return it.

        Raises:
            InputError: it cannot be read, or reads files that lie elsewhere.
        """
        from segflow.io.opening import files_of, open_source
        from segflow.io.scene_files import spec_of

        recipe = self._recipe
        if is_remote(item.scene.paths[0]):
            return self._known_as(item, (), hashlib.sha256(self._key(item).encode()).hexdigest())
        spec = spec_of(recipe, item.scene, self._model.card)
        files = list(dict.fromkeys(files_of(spec)))
        aoi = None if recipe.inputs.aoi is None else recipe.resolve(recipe.inputs.aoi)
        for path in files:
            if path != aoi and not self._is_inside(path):
                raise _elsewhere(path, self._roots)
        if is_dicom(item.scene):
            hide_texts(text for path in files for text in (str(path), path.name))
        stamps = stamps_of(map(str, files))
        source = open_source(spec)
        try:
            return self._known_as(item, stamps, source.identity())
        finally:
            source.close()

    def identify_broken(self, item: NamedScene) -> str:
        """Return what stands for the content of a scene that cannot be read as one: its files' bytes."""
        digest = hashlib.sha256()
        for path in item.scene.paths:
            for file in sorted(_files([path])):
                try:
                    with Path(file).open("rb") as opened:
                        digest.update(hashlib.file_digest(opened, "sha256").digest())
                except OSError as error:
                    digest.update(f"{file} {error.strerror}".encode())
        return self._known_as(item, stamps_of(item.scene.paths), digest.hexdigest())

    def _known_as(self, item: NamedScene, stamps: Sequence[object], identity: str) -> str:
        self._ledger.files.saw({self._key(item): self._stamps(item, stamps)}, identity)
        return identity

    def _key(self, item: NamedScene) -> str:
        """Return what stands for a scene's files in the ledger."""
        key = "\n".join(item.scene.paths)
        return self._private.sealed(key) if is_private(item) else key

    def _stamps(self, item: NamedScene, stamps: Sequence[object]) -> Stamps:
        """Return stamps as the ledger keeps them; of a private scene a hash, of the places that it was found by."""
        if is_private(item):
            return self._private.sealed(json.dumps(stamps_of(item.scene.paths)))
        return json.dumps(stamps)

    def _is_changed(self, item: NamedScene, before: Sighting) -> bool:
        if is_private(item):
            return self._stamps(item, ()) != before.stamps
        return bool(stamps_of(_stamped(before.stamps) or item.scene.paths) != json.loads(before.stamps))

    def _scenes(self, look: Inventory) -> Sequence[NamedScene]:
        """Return all scenes; what is none yet, or cannot be one, is told and keeps nobody up."""
        self._private.hide_places()
        recipe, card, gaps = self._recipe, self._model.card, Gaps()
        for base in bases_of(recipe):
            if not os.path.exists(base):  # noqa: PTH110 - also where nobody may look
                raise _absent(base)
        try:
            first = find_scenes(recipe, card, gaps=gaps)
            found = with_key(recipe, first, lambda: find_scenes(recipe, card, gaps=Gaps()))
        except NothingThereError:
            found = []
        self._private.hide(found)
        look.waiting.extend(map(open_text, gaps.incomplete))
        for place, error in gaps.unreadable.items():
            hide_texts([place])
            if self._may_grow(place):
                look.waiting.append(open_text(place))
            else:
                look.unreadable.append(open_text(str(error)))
        return found

    def _may_grow(self, place: str) -> bool:
        """Tell of a place that gives no scene whether it is empty, or was written to a short while ago."""
        archive = os.path.isfile(place)  # noqa: PTH113 - of many
        changed = [int(stamp[2]) for stamp in stamps_of([place]) if archive or stamp[0] != place]
        young = time.time() - self._recipe.service.settle_seconds
        return not changed or max(changed) / 1e9 > young or _is_unfinished([place])

    def _sort(
        self, item: NamedScene, before: Sighting | None, now: float, look: Inventory, seen: dict[str, Stamps]
    ) -> None:
        """Put one scene where it belongs."""
        paths = item.scene.paths
        if is_remote(paths[0]):
            return self._by_state(item, before, look)
        if before is None or before.since > now or self._is_changed(item, before):  # or the clock was set back
            if not all(self._is_inside(Path(path)) for path in paths):
                look.outside.append(item.name)
            else:
                seen[self._key(item)] = self._stamps(item, stamps_of(paths))
                look.waiting.append(item.name)
            return None
        if before.identity is not None:
            return self._by_state(item, before, look)
        whole = now - before.since >= self._recipe.service.settle_seconds
        if whole and not _is_unfinished(paths):
            look.fresh.append(item)
        else:
            look.waiting.append(item.name)
        return None

    def _by_state(self, item: NamedScene, before: Sighting | None, look: Inventory) -> None:
        """Put a scene of known content where it belongs."""
        if before is not None and before.held:
            look.held.append(item.name)
        elif before is None or before.state not in ("done", "quarantined") or self._is_outdated(before):
            look.fresh.append(item)
        else:
            look.known += 1

    def _is_outdated(self, before: Sighting) -> bool:
        """Tell whether a scene that is done is to be done again, since it was by another recipe or other weights."""
        made = before.recipe, before.weights
        return self._backfill and before.state == "done" and made != self.made

    def _is_inside(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._roots)


def stamps_of(paths: Iterable[str]) -> list[list[str | int]]:
    """Return path, size, time of change (ns) and inode of files, and of all files in folders; -1 where one is gone."""
    found: list[list[str | int]] = []
    for path in _files(paths):
        try:
            state = os.stat(path)  # noqa: PTH116 - ten thousand of them
            found.append([path, state.st_size, state.st_mtime_ns, state.st_ino])
        except OSError:
            found.append([path, -1, -1, -1])
    return found


def fingerprint_of(recipe: Recipe) -> str:
    """Return a hash of what in a recipe can change labels: not where files lie, how it is cut, or what else is made."""
    wanted: Any = {
        "kind": True,
        "inputs": {"bands", "nodata", "collar", "aoi", "resample_to", "channels"},
        "model": True,
        "tiling": {"patch", "overlap", "tolerance", "blend", "accumulator"},
        "postprocess": True,
        "compute": {"precision", "backend"},
        "outputs": {"nodata"},
    }
    data = recipe.model_dump(mode="json", include=wanted)
    if data.get("model"):
        del data["model"]["weights"]  # their content counts
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def roots_of(recipe: Recipe) -> Iterator[Path]:
    """Yield the folders, links followed, that a recipe's scenes must lie in; a file that is named is its own."""
    for base in bases_of(recipe):
        yield Path(os.path.realpath(base))


def _stamped(stamps: Stamps) -> list[str]:
    return [str(path) for path, *_ in json.loads(stamps)]


def _files(paths: Iterable[str]) -> Iterator[str]:
    for series in paths:
        path = split_path(series)[0]
        inner = [os.path.join(top, name) for top, _, names in os.walk(path) for name in names]  # noqa: PTH118
        yield from sorted(inner) or (path,)


def _is_unfinished(paths: Iterable[str]) -> bool:
    """Tell whether a file's name says that it is being copied, or a part of it lies beside it or in its folder."""
    for series in paths:
        path = split_path(series)[0]
        if path.lower().endswith(UNFINISHED) or any(os.path.exists(path + end) for end in UNFINISHED):  # noqa: PTH110
            return True
        if any(name.lower().endswith(UNFINISHED) for _, _, names in os.walk(path) for name in names):
            return True
    return False


def _absent(base: Path) -> SegflowError:
    return InputError(
        f"there is no {base}, or it cannot be looked into",
        "the folder that inputs.path names, be it empty: a share that is not mounted is no quiet night",
        "mount it, make it, mend its permissions, or correct inputs.path",
    )


def _elsewhere(path: Path, roots: Sequence[Path]) -> SegflowError:
    return InputError(
        f"{path} leads out of {', '.join(map(str, roots))}",
        "scenes that lie in the folder of the recipe, and read nothing from elsewhere",
        "copy the file there, or name the other folder in inputs.path",
    )
