"""The staging store: finished chunks on their way to the published file, one atomic replacement each.

Every file ends with a CRC-32C of its bytes that each reading checks, and a file that is not there is an error, not
zeros. A chunk is on the disk, not only in the system's memory, before `Staging.write` returns. The place may be
an object store (`segflow.io.store`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, Store
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from segflow.errors import OutputError, first_line
from segflow.io.store import Place, place_of
from tiling import Box

_NOTES = "notes"


class DamagedStagingError(OutputError):
    """A stored chunk is not there any more, or not as it was stored. What is made again is whole."""


class Staging:
    """Layers of one scene's region as Zarr arrays, one file a chunk, and a note for each chunk.

    A chunk has one writer, and writing it again writes the same bytes. Boxes speak of the scene's cells.
    """

    def __init__(self, place: Place | Path, region: Box) -> None:
        self._place = place_of(place) if isinstance(place, Path) else place
        self._region = region
        self._unreadable: tuple[type[Exception], ...] = (*self._place.failures, RuntimeError, ValueError)
        names = self._place.arrays()
        arrays = {name: zarr.open_array(self._place.store(name), mode="r+") for name in names}
        # An array does not keep how it was made: a chunk of background alone would have no file.
        self._arrays = {name: array.with_config({"write_empty_chunks": True}) for name, array in arrays.items()}
        stores = {name: _Whole(self._place.store(name, read_only=True)) for name in names}
        self._stored = {name: zarr.open_array(store, mode="r") for name, store in stores.items()}

    @classmethod
    def prepare(cls, place: Place | Path, region: Box, chunk: tuple[int, ...], layers: Mapping[str, str]) -> Staging:
        """Open a store, or make an empty one where there is none, or none like this. It appears whole or not at all.

        Args:
            place: where; it is made.
            region: the scene's cells that the store holds.
            chunk: what one file holds; files count from the region's start.
            layers: name to dtype.

        Raises:
            OutputError: the place cannot be written.
        """
        place = place_of(place) if isinstance(place, Path) else place
        try:
            store = cls(place, region)
            if {name: str(array.dtype) for name, array in store._arrays.items()} == dict(layers):
                return store
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            pass  # none, or none like this; a place that cannot be reached is another matter
        except OSError as error:
            raise _unwritable(place, error) from error

        def fill(empty: Place) -> None:
            for name, dtype in layers.items():
                zarr.create_array(
                    empty.store(name),
                    shape=region.shape,
                    chunks=chunk,
                    dtype=dtype,
                    compressors=(ZstdCodec(level=1), Crc32cCodec()),
                    fill_value=0,
                    config={"write_empty_chunks": True},
                )

        try:
            place.renew(list(layers), fill)
            return cls(place, region)
        except OSError as error:
            raise _unwritable(place, error) from error

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(self._arrays)

    def write(self, chunk: Box, layers: Mapping[str, NDArray[Any]]) -> int:
        """Store a chunk, have it on the disk and return its checksum.

        Raises:
            OutputError: the disk is full or cannot be written, or the store is not there any more.
        """
        checksum = 0
        try:
            for name, array in self._arrays.items():
                values = np.ascontiguousarray(layers[name], array.dtype)
                array[chunk.within(self._region)] = values
                checksum = zlib.crc32(values.data, checksum)
            for name in self._arrays:
                self._place.settle(name, self._keys(name, chunk))
        except self._place.failures as error:
            raise _unwritable(self._place, error) from error
        return checksum

    def _keys(self, name: str, chunk: Box) -> Iterator[str]:
        """Yield the keys of the files that hold a chunk of a layer."""
        array = self._arrays[name]
        sides = zip(chunk.within(self._region), array.chunks, strict=True)
        for index in product(*(range(at.start // n, -(-at.stop // n)) for at, n in sides)):
            yield array.metadata.encode_chunk_key(index)

    def note(self, name: str, text: str) -> None:
        """Leave a note with a chunk, for whoever comes to make it again.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        try:
            (self._place / _NOTES).put(name, text.encode())
        except OSError as error:
            raise _unwritable(self._place, error) from error

    def noted(self, name: str) -> str | None:
        """Return a note; None where there is none that can be read."""
        try:
            return (self._place / _NOTES).get(name).decode()
        except (OSError, UnicodeDecodeError):
            return None

    def checksum(self, chunk: Box) -> int | None:
        """Return the checksum of what is stored for a chunk; None where it cannot be read."""
        checksum = 0
        try:
            for name in self._arrays:
                checksum = zlib.crc32(np.ascontiguousarray(self.read(name, chunk)).data, checksum)
        except DamagedStagingError:
            return None
        return checksum

    def read(self, layer: str, box: Box) -> NDArray[Any]:
        """Read a part of a layer.

        Raises:
            DamagedStagingError: a file that holds a part of it is gone, or not as it was written.
        """
        at = box.within(self._region)
        try:
            return np.asarray(self._stored[layer][at])
        except self._unreadable as error:
            raise DamagedStagingError(
                f"a staged chunk in {self._place} is damaged: {first_line(error)}",
                "the bytes that were stored",
                "check the disk; the same command makes the chunk again",
            ) from error


class _Whole(WrapperStore[Store]):  # type: ignore[misc]
    """A store in which a chunk that is not there is an error: Zarr would take it for zeros."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return what is stored."""
        found = await super().get(key, prototype, byte_range)
        if found is None and key.startswith("c/"):
            raise ValueError(f"{key} is missing")
        return found


def _unwritable(place: Place, error: Exception) -> OutputError:
    return OutputError(
        f"cannot write to {place}: {getattr(error, 'strerror', None) or error}",
        "a folder that can be written, with room for the staging store",
        "free some space, or choose another outputs.folder or compute.staging; the same command goes on from here",
    )
