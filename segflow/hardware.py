"""What this machine, or the container on it, has: cores, memory, the processor's name. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

_CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")
"""Where the control groups are mounted."""
OWN = Path("/proc/self/cgroup")
"""Names the control group of this process."""

# The extensions that choose between kernels in oneDNN and PyTorch, widest last.
_EXTENSIONS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_bf16", "amx_fp16", "amx_int8", "avx10_1", "avx10_2"),
    *("asimd", "asimdhp", "bf16", "sve", "sve2", "svebf16"),
)


def usable_cores(cgroup: Path = CGROUP, own: Path = OWN) -> int:
    """Return how many cores this process may keep busy: its CPU affinity, cut by a container's quota. At least 1.

    Args:
        cgroup: where the control groups are mounted; version 2 (`cpu.max`) and 1 (`cpu/cpu.cfs_quota_us`) are read.
        own: the file that names this process's group; those that it lies in bind as well.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quotas = [quota for group in _groups(cgroup, own, "cpu") if (quota := _quota(group)) is not None]
    return max(1, min([cores, *map(int, quotas)]))


def _groups(cgroup: Path, own: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups that bind this process: the mount's own, and those down to its own.

    In a container the mount is the container's group. Under a batch system (Slurm) or systemd it is the machine's, and
    what binds a job lies deeper.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        lines = []
    for root, wanted in ((cgroup, ""), (cgroup / controller, controller)):
        yield root
        for _, controllers, path in (line for line in lines if len(line) == 3):
            if wanted not in controllers.split(",") or ".." in path:
                continue
            group = root
            for name in path.strip("/").split("/"):
                group = group / name
                if group != root:
                    yield group


def _quota(group: Path) -> float | None:
    """Return the cores that a control group is granted; None where it is not limited."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{what}_us").read_text() for what in ("quota", "period"))
        granted = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
        return None
    return granted if granted > 0 else None


def memory_room(cgroup: Path = CGROUP, own: Path = OWN) -> int | None:
    """Return the bytes that container and batch job may still take; None where nothing limits them.

    Pages of files that were read count as used, but go when memory is wanted: they are taken off (version 2).

    Args:
        cgroup: as in `usable_cores`; version 2 (`memory.max`) and 1 (`memory/memory.limit_in_bytes`) are read.
        own: as in `usable_cores`.
    """
    rooms = [room for group in _groups(cgroup, own, "memory") if (room := _room(group)) is not None]
    return min(rooms, default=None)


def _room(group: Path) -> int | None:
    """Return the bytes that are left in one control group; None where it is not limited."""
    version_2 = ("memory.max", "memory.current")
    files = version_2 if (group / "memory.max").is_file() else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    try:
        limit, used = (int((group / name).read_text()) for name in files)
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return max(0, limit - used + min(used, _idle_pages(group)))


def memory_left(cgroup: Path = CGROUP) -> int:
    """Return the bytes that this process may still take: what machine and container leave."""
    free: int = psutil.virtual_memory().available
    room = memory_room(cgroup)
    return free if room is None else min(free, room)


def _idle_pages(group: Path) -> int:
    """Return the bytes of cached files that the system would give up at once."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instruction_set() -> str:
    """Return the machine and those of its vector extensions that choose between kernels: 'x86_64 avx2 fma avx512f'."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return " ".join([platform.machine(), *(name for name in _EXTENSIONS if name in flags)])


def _cpuinfo(key: str) -> str:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")
