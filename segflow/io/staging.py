"""The staging store: finished chunks on their way to the published file, one atomic replacement each."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from segflow.errors import OutputError
from tiling import Box


class Staging:
    """Layers of one scene's region as Zarr arrays, one file a chunk.

    A chunk has one writer, and writing it again writes the same bytes. Boxes speak of the scene's cells.
    """

    def __init__(self, folder: Path, region: Box) -> None:
        self._folder = folder
        self._region = region
        self._arrays = {path.name: zarr.open_array(path, mode="r+") for path in sorted(folder.iterdir())}

    @classmethod
    def prepare(cls, folder: Path, region: Box, chunk: tuple[int, ...], layers: Mapping[str, str]) -> Staging:
        """Open a store, or make an empty one where there is none, or none like this. It appears whole or not at all.

        Args:
            folder: where; it is made.
            region: the scene's cells that the store holds.
            chunk: what one file holds; files count from the region's start.
            layers: name to dtype.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            store = cls(folder, region)
            if {name: str(array.dtype) for name, array in store._arrays.items()} == dict(layers):
                return store
        except (OSError, ValueError, KeyError, TypeError):
            pass
        beside = folder.with_name(folder.name + ".part")
        try:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            for name, dtype in layers.items():
                zarr.create_array(
                    beside / name,
                    shape=region.shape,
                    chunks=chunk,
                    dtype=dtype,
                    compressors=ZstdCodec(level=1),
                    fill_value=0,
                    config={"write_empty_chunks": True},
                )
            beside.replace(folder)
        except OSError as error:
            raise _unwritable(folder, error) from error
        return cls(folder, region)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return tuple(self._arrays)

    def write(self, chunk: Box, layers: Mapping[str, NDArray[Any]]) -> int:
        """Store a chunk and return its checksum.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        checksum = 0
        try:
            for name in self._arrays:
                values = np.ascontiguousarray(layers[name], self._arrays[name].dtype)
                self._arrays[name][chunk.within(self._region)] = values
                checksum = zlib.crc32(values.data, checksum)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        return checksum

    def checksum(self, chunk: Box) -> int | None:
        """Return the checksum of what is stored for a chunk; None where it cannot be read."""
        checksum = 0
        try:
            for name in self._arrays:
                checksum = zlib.crc32(np.ascontiguousarray(self.read(name, chunk)).data, checksum)
        except (OSError, RuntimeError, ValueError):
            return None
        return checksum

    def read(self, layer: str, box: Box) -> NDArray[Any]:
        """Read a part of a layer."""
        return np.asarray(self._arrays[layer][box.within(self._region)])


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"cannot write to {folder}: {error.strerror or error}",
        "a folder that can be written, with room for the staging store",
        "free some space or choose another outputs.folder; the same command goes on from here",
    )
