"""Whether files are still those that were there: by size, time of change and place on the disk, as the system tells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segflow.errors import InputError


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the system says of a file.

    Attributes:
        path: the file.
        bytes: its size.
        changed_ns: when it was last written, in ns.
        inode: which file has the name: another one after a replacement.
    """

    path: str
    bytes: int
    changed_ns: int
    inode: int


def stamps_of(paths: Iterable[Path]) -> tuple[Stamp, ...]:
    """Take the stamps of files; before their content is looked at, so that no change falls between.

    Raises:
        InputError: a file cannot be looked at.
    """
    return tuple(map(_stamp, paths))


def require_unchanged(stamps: Iterable[Stamp]) -> None:
    """Compare files with their stamps.

    Raises:
        InputError: a file was changed, replaced or removed.
    """
    for stamp in stamps:
        if _stamp(Path(stamp.path)) != stamp:
            raise InputError(
                f"{stamp.path} was changed while it was read",
                "files that nobody writes to during a run",
                "wait until the file is whole; the same command then does what its content needs",
            )


def _stamp(path: Path) -> Stamp:
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read any more: {error.strerror or error}",
            "files that stay where they are during a run",
            "put it back; the same command goes on from here",
        ) from error
    return Stamp(str(path), state.st_size, state.st_mtime_ns, state.st_ino)
