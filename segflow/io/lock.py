"""One driver an output folder: an advisory lock that the system lets go when the process ends, however it ends.

The file's content, process and machine, is for people; what locks is the system.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segflow.errors import BusyError, OutputError


@contextmanager
def locked(path: Path, who: str = "run") -> Iterator[None]:
    """Hold the lock.

    Args:
        path: the lock's file, in a hidden folder of the output folder.
        who: what works there one at a time.

    Raises:
        BusyError: another process holds it.
        OutputError: the folder cannot be written.
    """
    handle = _hold(path, who)
    try:
        yield
    finally:
        os.close(handle)


def _hold(path: Path, who: str) -> int:
    """Open and lock the file; once more where the one who held it has just removed it."""
    while True:
        handle = _open(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                _sign(handle)
                return handle
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            holder = os.pread(handle, 200, 0).decode(errors="replace").strip()
            os.close(handle)
            raise BusyError(
                f"another {who} is working in {path.parent.parent}" + (f": {holder}" if holder else ""),
                f"one {who} an output folder at a time",
                "wait for it to end, or choose another outputs.folder",
            ) from error
        except OSError as error:
            os.close(handle)
            raise OutputError(
                f"{path.parent.parent} cannot be locked: {error.strerror}",
                "a file system that has locks (flock)",
                "choose another outputs.folder, or mount it with locks",
            ) from error
        os.close(handle)


def _sign(handle: int) -> None:
    """Say who holds the lock; a full disk, which has no room for that, does not matter."""
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(
            f"cannot write to {path.parent.parent}: {error.strerror}",
            "an output folder that can be written",
            "choose another outputs.folder, or mend its permissions",
        ) from error
