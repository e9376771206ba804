"""How long a command takes that has nothing to do: help, a plan, and a run of scenes that are all unchanged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.case import Case, recipe_of

YARDSTICK = "python -c 'import torch'"


def commands(case: Case) -> dict[str, list[str]]:
    """Return what is measured, by name. The run finds its scene finished, once the first, uncounted one is over."""
    folder = Path(case.folder) / "startup"
    recipe = folder / "recipe.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    settled = recipe_of(case, folder / "out", {})
    recipe.write_text(settled.model_dump_json(exclude_defaults=True, exclude={"base"}))
    segflow = [sys.executable, "-m", "flows.cli"]
    return {
        YARDSTICK: [sys.executable, "-c", "import torch"],
        "segflow --help": [*segflow, "--help"],
        "segflow plan": [*segflow, "plan", str(recipe)],
        "segflow run, nothing to do": [*segflow, "run", str(recipe)],
    }


def measure(case: Case, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return wall and processor seconds of each command, one pair a round, after one round that is not counted."""
    table = commands(case)
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in table}
    for turn in range(rounds + 1):
        for name, command in table.items():
            taken = _once(command)
            if turn:
                spent[name].append(taken)
    return spent


def _once(command: list[str]) -> tuple[float, float]:
    began = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
    return perf_counter() - began, usage.ru_utime + usage.ru_stime
