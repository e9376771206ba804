"""A folder or an object store to which runs are published: one folder a run, whole when its manifest is there.

<url>/<run>/...            files of the run
<url>/<run>/manifest.json  put last: names, sizes and sha256 of all of them
<url>/latest.json          which run is the newest, and which the newest good one; replaced in one step
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

from segflow.errors import OutputError, SegflowError, first_line
from segflow.io.atomic import PART, flush
from segflow.io.manifest import MANIFEST, Manifest, StoredFile, made_of, name_of
from segflow.io.store import is_url

LATEST = "latest.json"
_GIVEN_UP = timedelta(days=1)
"""After so long, an upload that was cut off is not finished any more."""


class Depot:
    """The place. Nothing is touched before the first method is called.

    Args:
        where: a path, or a URL that fsspec knows.
    """

    def __init__(self, where: str) -> None:
        self._where = where if is_url(where) else str(Path(where).expanduser().absolute())

    def put(self, content: str, files: Mapping[str, Path], manifest: Manifest, now: datetime) -> Manifest:
        """Upload a run, and let `latest.json` point to it.

        What the last attempt has uploaded of the same content is written again or, if it was whole, left.

        Args:
            content: hash of what is published, hexadecimal; the last run is not sent again if it has the same.
            files: by name in the folder.
            manifest: of them; its run's name is settled here.
            now: the time.

        Returns:
            The manifest as it is stored.

        Raises:
            OutputError: the place cannot be written, or a file did not arrive whole.
        """
        with self._told():
            system, root = self._system()
            run = self._run_for(content[:8], system, root, now)
            there = self._manifest(system, root, run)
            if there is None:
                there = Manifest(run, manifest.good, manifest.scenes, manifest.files)
                system.makedirs(f"{root}/{run}", exist_ok=True)
                for item in manifest.files:
                    self._upload(system, f"{root}/{run}/{item.name}", files[item.name], item)
                self._write(system, f"{root}/{run}/{MANIFEST}", asdict(there))
            self._point(system, root)
            return there

    def runs(self) -> list[Manifest]:
        """Return the runs that are whole, oldest first.

        Raises:
            OutputError: the place cannot be read.
        """
        with self._told():
            system, root = self._system()
            return self._runs(system, root)

    def prune(self, keep: int | None, days: float | None, now: datetime, spare_scenes: bool = False) -> tuple[str, ...]:
        """Remove runs that are too many or too old, and uploads that were cut off long ago; return their names.

        Never removed are the newest run and the newest good one.

        Args:
            keep: how many of the newest stay; None: all.
            days: after how many days they go; None: never.
            now: the time.
            spare_scenes: nor is a run that holds the newest copy of a scene.

        Raises:
            OutputError: the place cannot be read or written.
        """
        with self._told():
            system, root = self._system()
            runs = self._runs(system, root)
            names = [manifest.run for manifest in runs]
            spared = {*names[-1:], *[manifest.run for manifest in runs if manifest.good][-1:]}
            if spare_scenes:
                spared |= set({scene: manifest.run for manifest in runs for scene in manifest.scenes}.values())
            old = set() if keep is None else set(names[:-keep])
            if days is not None:
                old |= {manifest.run for manifest in runs if now - manifest.made > timedelta(days=days)}
            broken = {
                name for name in self._names(system, root) if name not in names and now - made_of(name) > _GIVEN_UP
            }
            removed = sorted((old - spared) | broken)
            for name in removed:
                with suppress(FileNotFoundError):  # first, so that nobody takes a half of it for a run
                    system.rm_file(f"{root}/{name}/{MANIFEST}")
                with suppress(FileNotFoundError):
                    system.rm(f"{root}/{name}", recursive=True)
            return tuple(removed)

    def _run_for(self, content: str, system: Any, root: str, now: datetime) -> str:
        """Name a run so that it sorts behind all others, whatever the clock says.

        The newest is taken again if it is of the same content: it was cut off, or nobody heard that it is whole.
        """
        names = self._names(system, root)
        if not names:
            return name_of(now, content)
        if names[-1].endswith(f"-{content}"):
            return names[-1]
        return name_of(max(now, made_of(names[-1]) + timedelta(seconds=1)), content)

    def _upload(self, system: Any, target: str, path: Path, item: StoredFile) -> None:
        """Put a file, in one step, and look at what has arrived."""
        if "file" in system.protocol:
            with _replacing(Path(target)) as part:
                shutil.copyfile(path, part)
                _require_same(target, path, item, _checksum(part))
        else:
            system.put_file(str(path), target)
            _require_same(target, path, item, self._arrived(system, target, path, item))

    def _arrived(self, system: Any, target: str, path: Path, item: StoredFile) -> str:
        """Return the sha256 of what a store holds; its own MD5 spares reading it back, where it tells one."""
        tag = str(system.info(target).get("ETag", "")).strip('"')
        with path.open("rb") as file:
            if tag and tag == hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest():
                return item.sha256
        with system.open(target, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _point(self, system: Any, root: str) -> None:
        """Let `latest.json` tell of the newest runs; looked at again, since others may publish at the same time."""
        told = None
        while told != (newest := self._newest(system, root)):
            self._write(system, f"{root}/{LATEST}", newest)
            told = newest

    def _newest(self, system: Any, root: str) -> dict[str, str | None]:
        """Return the newest run that is whole, and the newest whose scenes all are."""
        newest: str | None = None
        for name in reversed(self._names(system, root)):
            found = self._manifest(system, root, name)
            if found is None:
                continue
            newest = newest or name
            if found.good:
                return {"run": newest, "good": name}
        return {"run": newest, "good": None}

    def _runs(self, system: Any, root: str) -> list[Manifest]:
        found = (self._manifest(system, root, name) for name in self._names(system, root))
        return [manifest for manifest in found if manifest is not None]

    def _names(self, system: Any, root: str) -> list[str]:
        """Return the names of runs, also of those that are not whole, oldest first."""
        try:
            listed = [path.rstrip("/").rsplit("/", 1)[-1] for path in system.ls(root, detail=False)]
        except FileNotFoundError:
            return []
        names = []
        for name in listed:
            with suppress(ValueError):
                made_of(name)
                names.append(name)
        return sorted(names)

    def _manifest(self, system: Any, root: str, run: str) -> Manifest | None:
        try:
            data = json.loads(system.cat_file(f"{root}/{run}/{MANIFEST}"))
            files = tuple(StoredFile(**item) for item in data.pop("files"))
            return Manifest(**data, files=files)
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise OutputError(
                f"{self._where}/{run}/{MANIFEST} cannot be read: {first_line(error)}",
                "a manifest that segflow wrote",
                "remove that folder, or publish elsewhere",
            ) from error

    def _write(self, system: Any, path: str, data: Any) -> None:
        """Write JSON in one step: by renaming where the place is a file system; a PUT is one."""
        text = json.dumps(data, indent=1) + "\n"
        if "file" in system.protocol:
            with _replacing(Path(path)) as part:
                part.write_text(text, encoding="utf-8", newline="\n")
        else:
            system.pipe_file(path, text.encode())

    def _system(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        try:
            system, root = url_to_fs(self._where, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise OutputError(
                f"{self._where} cannot be used: {first_line(error)}",
                "a folder, or a URL that fsspec knows and whose package is installed",
                'pip install "segflow[s3]" for s3://, gcsfs for gs://, adlfs for az://',
            ) from error
        return system, str(root).rstrip("/")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Make one kind of error of what libraries raise when a store cannot be reached or refuses."""
        try:
            yield
        except SegflowError:
            raise
        except Exception as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> OutputError:
        return OutputError(
            f"{self._where} cannot be used: {type(error).__name__}: {first_line(error)}",
            "a place that can be reached and written, with credentials in the environment",
            "check the address, the network, the room and the credentials; the next run publishes what is missing",
        )


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give the name of a part that takes a file's place in one step; two may do so at once.

    What was killed a day ago or longer is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{PART}*"):
        with suppress(FileNotFoundError):
            if time() - left.stat().st_mtime > _GIVEN_UP.total_seconds():
                left.unlink()
    part = path.with_name(f"{PART}{uuid4().hex}")
    try:
        yield part
        flush(part)
        part.replace(path)
        flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_same(target: str, path: Path, item: StoredFile, arrived: str) -> None:
    if arrived != item.sha256:
        raise OutputError(
            f"{target} is not {path} after the upload: sha256 {arrived}",
            f"{item.bytes} bytes of sha256 {item.sha256}",
            "check the network and the disk there; the next run publishes what is missing",
        )
