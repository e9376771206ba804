"""Where staged arrays, notes and networks lie: a folder, or a prefix of an object store such as s3://bucket/prefix.

Both keep one promise: what is put there appears whole or not at all, and is durable when the call returns. A folder
does so by renaming and flushing; an object store by the nature of a PUT, and by a marker that is put last. What an
object store needs (endpoint, region, credentials) it takes from the environment of each process, never from a recipe.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from segflow.errors import OutputError, SegflowError
from segflow.io.atomic import flush

_HEADER = "zarr.json"
_WHOLE = "whole.json"


class Place(Protocol):
    """A folder of arrays and small files. All methods but `remove` raise OSError when it cannot be used."""

    failures: tuple[type[Exception], ...]
    """What Zarr raises when it cannot use the place."""

    def __truediv__(self, name: str) -> Place:
        """Return a place inside of this one."""

    def arrays(self) -> list[str]:
        """Return the names of the arrays; FileNotFoundError where the place was never made, or not to its end."""

    def store(self, name: str, *, read_only: bool = False) -> Store:
        """Return an array as Zarr sees it."""

    def renew(self, names: Sequence[str], fill: Callable[[Place], None]) -> None:
        """Make the place anew: `fill` makes the arrays `names` in the place that it is given."""

    def settle(self, name: str, keys: Iterable[str]) -> None:
        """Have an array's chunks on the disk; FileNotFoundError where the array is not there any more."""

    def put(self, name: str, data: bytes) -> None:
        """Put a file, in the stead of what has its name."""

    def get(self, name: str) -> bytes:
        """Return a file's content."""

    def remove(self) -> None:
        """Remove all, as far as that can be done."""


def place_of(where: str | Path) -> Place:
    """Return the place that a path or a URL names; nothing is touched."""
    if isinstance(where, str) and is_url(where):
        return Bucket(where)
    return Folder(Path(where))


def is_url(where: str) -> bool:
    """Tell whether a place lies in an object store."""
    return "://" in where


def require_known(where: str) -> None:
    """Refuse the URL of an object store that cannot be used here, whatever it holds.

    Raises:
        OutputError: fsspec does not know its scheme, or the scheme's package is not installed.
    """
    if is_url(where):
        Bucket(where).require_known()


class Folder:
    """A place in a file system."""

    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __truediv__(self, name: str) -> Folder:
        return Folder(self._path / name)

    def __str__(self) -> str:
        return str(self._path)

    def arrays(self) -> list[str]:
        """See `Place`."""
        return [path.name for path in sorted(self._path.iterdir()) if (path / _HEADER).is_file()]

    def store(self, name: str, *, read_only: bool = False) -> LocalStore:
        """See `Place`."""
        return LocalStore(self._path / name, read_only=read_only)

    def renew(self, names: Sequence[str], fill: Callable[[Place], None]) -> None:
        """See `Place`."""
        beside = self._path.with_name(self._path.name + ".part")
        shutil.rmtree(self._path, ignore_errors=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        fill(Folder(beside))
        beside.replace(self._path)

    def settle(self, name: str, keys: Iterable[str]) -> None:
        """See `Place`."""
        # Zarr makes the folders that it misses; without the header they belong to nothing.
        (self._path / name / _HEADER).stat()
        files = [self._path / name / key for key in keys]
        for path in (*files, *{path.parent for path in files}):
            flush(path)

    def put(self, name: str, data: bytes) -> None:
        """See `Place`."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two may put one file: a worker that was given up, and the one in its place.
        beside = path.with_name(f"{path.name}.{uuid4().hex}.part")
        beside.write_bytes(data)
        beside.replace(path)

    def get(self, name: str) -> bytes:
        """See `Place`."""
        return (self._path / name).read_bytes()

    def remove(self) -> None:
        """See `Place`."""
        shutil.rmtree(self._path, ignore_errors=True)


class Bucket:
    """A place in an object store that fsspec knows. Files are never listed: listings may lag behind what was put."""

    failures: tuple[type[Exception], ...] = (Exception,)

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def __truediv__(self, name: str) -> Bucket:
        return Bucket(f"{self._url}/{name}")

    def __str__(self) -> str:
        return self._url

    def arrays(self) -> list[str]:
        """See `Place`."""
        return [str(name) for name in json.loads(self.get(_WHOLE))]

    def store(self, name: str, *, read_only: bool = False) -> Store:
        """See `Place`."""
        with self._told():
            return FsspecStore.from_url(f"{self._url}/{name}", read_only=read_only)

    def renew(self, names: Sequence[str], fill: Callable[[Place], None]) -> None:
        """See `Place`."""
        with self._told():
            system, root = self._system()
            with suppress(FileNotFoundError):
                system.rm(root, recursive=True)
            fill(self)
        self.put(_WHOLE, json.dumps(list(names)).encode())

    def settle(self, name: str, keys: Iterable[str]) -> None:
        """See `Place`: what was put is durable."""

    def put(self, name: str, data: bytes) -> None:
        """See `Place`."""
        with self._told():
            system, root = self._system()
            system.pipe_file(f"{root}/{name}", data)

    def get(self, name: str) -> bytes:
        """See `Place`."""
        with self._told():
            system, root = self._system()
            found: bytes = system.cat_file(f"{root}/{name}")
            return found

    def remove(self) -> None:
        """See `Place`."""
        with suppress(OSError), self._told():
            system, root = self._system()
            system.rm(root, recursive=True)

    def require_known(self) -> None:
        """Refuse a scheme that cannot be used here; nothing is connected to.

        Raises:
            OutputError: fsspec does not know it, or its package is not installed.
        """
        from fsspec import get_filesystem_class

        with self._usable():
            get_filesystem_class(self._url.partition("://")[0])

    def _system(self) -> tuple[Any, str]:
        """Return fsspec's file system, which it keeps for all places of one store, and the path in it."""
        from fsspec.core import url_to_fs

        with self._usable():
            system, root = url_to_fs(self._url, use_listings_cache=False)
        return system, str(root)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (ImportError, ValueError) as error:
            raise OutputError(
                f"{self._url} cannot be used: {error}",
                "a folder, or a URL that fsspec knows and whose package is installed",
                'pip install "segflow[s3]" for s3://, gcsfs for gs://, adlfs for az://; or correct compute.staging',
            ) from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Make an OSError of what libraries raise when a store cannot be reached or refuses."""
        try:
            yield
        except (OSError, SegflowError):
            raise
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
