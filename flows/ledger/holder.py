"""Who has a scene: which process on which machine, and whether it is surely gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil


def this_process() -> str:
    """Return what the ledger keeps of this process: where it is, its number, and when it began."""
    return f"{_where()} {os.getpid()} {_began(os.getpid())}"


def is_gone(holder: str | None) -> bool:
    """Tell whether a process was in this place and is not any more; of one elsewhere nothing can be told.

    Args:
        holder: what `this_process` gave there.
    """
    if holder is None:
        return False
    where, process, began = holder.rsplit(" ", 2)
    return where == _where() and _began(int(process)) != began


def _where() -> str:
    """Name this machine since its start, and the space of its process numbers.

    Containers may share a machine, its name too, and not see each other's processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return socket.gethostname()


def _began(process: int) -> str | None:
    """Return when a process began, by a clock that is never set: ticks since the machine's start.

    Where there is no such clock, seconds since 1970; None where there is no such process.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    try:
        return f"{psutil.Process(process).create_time():.0f}"
    except psutil.NoSuchProcess:
        return None
