"""Files that a reader never sees half written: made beside their place, checked there, flushed, renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segflow.errors import OutputError

PART = ".segflow-part-"


def part_of(path: Path) -> Path:
    """Return the name under which `path` is made: in its own folder, hidden, with the same extensions."""
    return path.with_name(PART + path.name)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a part file to write and to check; on a clean exit it takes the place of `path`.

    The body writes the part, closes it, reopens and checks it. Then the part is flushed to the disk and renamed, and
    the folder is flushed too, so that after a power cut there is the old file or the new one. If the body raises,
    the part is removed and `path` stays as it was. What an attempt that was killed left is removed first. One writer
    a path: the name of the part is fixed.

    Args:
        path: the file's final place; its folder is made if it is missing.

    Raises:
        OutputError: the folder or the file cannot be written, or the body has left no file.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(part)
        yield part
        flush(part)
        part.replace(path)
        flush(path.parent)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}",
            "a folder with room and the right to write",
            "move the folder of that name away, or set outputs.folder"
            if path.is_dir()
            else "free space, check the folder's permissions, or set outputs.folder",
        ) from error
    finally:
        with suppress(OSError):
            _sweep(part)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file that a reader never sees half written.

    Raises:
        OutputError: the file cannot be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def remove_parts(folder: Path) -> None:
    """Remove what killed attempts left in a folder, under whatever name. The folder's owner alone may.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        for leftover in folder.glob(f"{PART}*"):
            if not leftover.is_dir():
                leftover.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}",
            "a folder with the right to write",
            "check the folder's permissions, or set outputs.folder",
        ) from error


def _sweep(part: Path) -> None:
    """Remove the part and what format libraries put beside it (overview scratch, .aux.xml)."""
    if not part.parent.is_dir():
        return
    for leftover in part.parent.iterdir():
        if (leftover.name == part.name or leftover.name.startswith(f"{part.name}.")) and not leftover.is_dir():
            leftover.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Force a file or a folder to the disk."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
