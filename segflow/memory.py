"""How much memory a run may use."""

from __future__ import annotations

import re
from pathlib import Path

from segflow.hardware import CGROUP, memory_left

_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}
_SHARE = 0.8


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
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} B"
