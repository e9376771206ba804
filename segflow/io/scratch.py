"""Unpacking of packed files to scratch, once and in flat memory, so that their voxels can be read in any order."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from segflow.errors import InputError, OutputError

CHUNK_BYTES = 4 << 20


def scratch_file(key: str, needed_bytes: int, folder: str | None, write: Callable[[BinaryIO], None]) -> BinaryIO:
    """Return an open file that `write` has filled.

    Without a folder the file is nameless: it goes when it is closed, also after a crash. With one, it is named after
    `key`, written beside, flushed to the disk and renamed, so that several processes share it and none sees half of
    it, also after a power cut; the folder's owner removes it.

    Args:
        key: says what the content is; equal keys must mean equal content.
        needed_bytes: what will be written.
        folder: the scratch folder; made if missing.
        write: writes the content to a binary file at its start.

    Raises:
        InputError: what is to be written is larger than the folder's room.
        OutputError: the folder cannot be written, or was filled up meanwhile.
    """
    place = Path(folder) if folder else Path(tempfile.gettempdir())
    try:
        if folder is None:
            _require_room(place, needed_bytes)
            nameless: BinaryIO = tempfile.TemporaryFile(dir=place)  # noqa: SIM115  # the caller closes it
            return _filled(nameless, write)
        place.mkdir(parents=True, exist_ok=True)
        path = place / (hashlib.sha256(key.encode()).hexdigest()[:24] + ".raw")
        with contextlib.suppress(FileNotFoundError):
            return path.open("rb")
        _require_room(place, needed_bytes)
        descriptor, beside = tempfile.mkstemp(prefix=path.stem, suffix=".part", dir=place)
        try:
            file = _filled(os.fdopen(descriptor, "w+b"), write)
            os.fsync(file.fileno())
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
        return file
    except OSError as error:
        raise OutputError(
            f"scratch files cannot be written to {place}: {error.strerror or error}",
            f"a folder with {needed_bytes} bytes of room",
            "free some room, or set TMPDIR to a folder that has it",
        ) from error


def unpack(path: str, wanted_bytes: int, packing: str = "gzip", start: int = 0) -> Callable[[BinaryIO], None]:
    """Return a writer that unpacks a file's first bytes, and reads on to its end to check its sum.

    Args:
        path: the file.
        wanted_bytes: how many bytes, unpacked.
        packing: gzip, zlib or bzip2.
        start: where in the file the packed bytes begin.

    Raises (when called):
        InputError: the file cannot be read, is cut short or damaged.
        OSError: the target cannot be written.
    """

    def write(target: BinaryIO) -> None:
        left = wanted_bytes
        for chunk in _unpacked(path, packing, start):
            target.write(chunk[:left])
            left -= min(left, len(chunk))
        if left:
            raise InputError(
                f"{path} is cut short: {wanted_bytes - left} bytes when unpacked",
                f"{wanted_bytes} bytes, as its header says",
                "copy or download it again",
            )

    return write


def _unpacked(path: str, packing: str, start: int) -> Iterator[bytes]:
    """Yield a packed file's content. Apart from the writing, so that a full disk is not taken for a broken file."""
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            if packing == "zlib":
                yield from _inflated(file)
                return
            with gzip.open(file, "rb") if packing == "gzip" else bz2.open(file, "rb") as packed:
                while chunk := packed.read(CHUNK_BYTES):
                    yield chunk
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path} is broken: {error}", f"a whole {packing} file", "copy or download it again"
        ) from error


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a zlib or gzip stream, in pieces of bounded size; what follows it is left."""
    packed = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    piece = b""
    while not packed.eof:
        piece = packed.unconsumed_tail or file.read(CHUNK_BYTES)
        if not piece:
            raise EOFError("the packed voxels end too early")
        yield packed.decompress(piece, CHUNK_BYTES)


def _filled(file: BinaryIO, write: Callable[[BinaryIO], None]) -> BinaryIO:
    try:
        write(file)
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _require_room(folder: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise InputError(
            f"{folder} has {free} bytes free",
            f"{needed_bytes} bytes, to unpack the input once",
            "free some room, or set TMPDIR to a folder that has it",
        )
