"""Peaks of runs in processes of their own: what the system says that they held, beside what the plan said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any

import psutil
import yaml


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        plan: the row that `segflow plan --json` gives.
        peaks: resident memory at most, in bytes: of the process that was started, then of those that it started.
        report: the run's report.
    """

    plan: dict[str, Any]
    peaks: tuple[int, ...]
    report: dict[str, Any]

    @property
    def worker_peaks(self) -> tuple[int, ...]:
        """The peaks of those processes that sweep."""
        workers = self.plan["workers"]
        return self.peaks[:1] if workers == 1 else tuple(sorted(self.peaks[1:])[-workers:])


def measure(recipe: dict[str, Any], folder: Path) -> Measured:
    """Plan and run a recipe by the command line, each in a process of its own, and watch the second one."""
    path = folder / f"{recipe['name']}.yaml"
    path.write_text(
        yaml.safe_dump({**recipe, "outputs": {**recipe.get("outputs", {}), "folder": str(folder / recipe["name"])}})
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEGFLOW_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "flows.cli"]
    planned = subprocess.run(
        [*command, "plan", str(path), "--json"], env=environment, capture_output=True, text=True, check=True
    )
    running = subprocess.Popen([*command, "run", str(path), "-q"], env=environment)
    peaks: dict[int, int] = {running.pid: 0}
    while running.poll() is None:
        for pid in [running.pid, *_started_by(running.pid)]:
            peaks[pid] = max(peaks.get(pid, 0), _peak(pid))
        sleep(0.02)
    assert running.returncode == 0
    (report,) = (folder / recipe["name"]).glob("*_report.json")
    return Measured(json.loads(planned.stdout)[0], tuple(peaks.values()), json.loads(report.read_text()))


def _started_by(pid: int) -> list[int]:
    """Return the programs that a process has started; a fork that has begun none yet has the memory of its parent."""
    try:
        process = psutil.Process(pid)
        words = process.cmdline()
        return [child.pid for child in process.children(recursive=True) if child.cmdline() != words]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _peak(pid: int) -> int:
    """Return the peak so far of a program; that of `wait4` would begin with ours, which started it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
