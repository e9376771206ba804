"""How much memory a run may use, and how much this process has used."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from segflow.hardware import CGROUP, memory_left

_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}
_SHARE = 0.8
_PROCESS = Path("/proc/self")
_highest = 0


def bytes_of(size: str) -> int:
    """Return the bytes of a size such as "8 GiB" (powers of 1024) or "8 GB" (powers of 1000)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", size)
    if match is None:
        raise ValueError(f"{size!r} is no size such as 8 GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _UNITS[match[2]])


def allowance(size: str | None, held_bytes: int, cgroup: Path = CGROUP) -> int:
    """Return the bytes that a run may use in all.

    Args:
        size: what the user says, such as "8 GiB"; None for what this process holds already and four fifths of what
            machine and cgroup leave.
        held_bytes: what this process holds already.
        cgroup: where the control groups are mounted.
    """
    if size is not None:
        return bytes_of(size)
    return held_bytes + int(_SHARE * memory_left(cgroup))


def shown(size: int) -> str:
    """Return bytes in the unit that reads best."""
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} B"


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    held: int = psutil.Process().memory_info().rss
    return held


def give_back() -> None:
    """Give freed memory back to the system, where the C library keeps it: glibc does, in a heap for each thread."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def peak_rss_bytes() -> int:
    """Return the largest resident memory that this process has had.

    Linux tells it of this program alone; what `getrusage` tells there begins with the peak of the process that started
    this one.
    """
    return max(_highest, _peak())


@dataclass(slots=True)
class Growth:
    """What `growth` measures.

    Attributes:
        bytes: by how much the resident memory grew at most.
    """

    bytes: int = 0


@contextmanager
def growth() -> Iterator[Growth]:
    """Measure by how much the resident memory grows at most while the block runs, also where it is freed again."""
    global _highest
    found, before = Growth(), rss_bytes()
    _highest = peak_rss_bytes()
    with suppress(OSError):  # not on Linux, or not allowed: then the peak so far hides a smaller one
        (_PROCESS / "clear_refs").write_text("5")
    peak = _peak()
    yield found
    reached = _peak()
    found.bytes = max(0, (reached if reached > peak else rss_bytes()) - before)


def _peak() -> int:
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
