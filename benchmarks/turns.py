"""Contestants in processes of their own that take turns, so that whatever else the machine does hits all alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.case import Case


@dataclass
class Result:
    """What a contestant came to.

    Attributes:
        name: of the contestant.
        rounds: one answer of its process a round.
        loading: seconds from the start of its process until it was ready, and of what it loads in the job (ours).
        failure: why it has no rounds.
    """

    name: str
    rounds: list[dict[str, Any]] = field(default_factory=list)
    loading: float = 0.0
    failure: str | None = None

    def each(self, key: str) -> list[float]:
        """Return a number of every round."""
        return [float(answer[key]) for answer in self.rounds]

    @property
    def peak_bytes(self) -> int:
        """Largest resident memory of its process."""
        return max(int(answer["peak_bytes"]) for answer in self.rounds)


class Process:
    """A contestant's process. A context manager: leaving it ends the process."""

    def __init__(self, case: Path, name: str) -> None:
        self._command = [sys.executable, "-m", "benchmarks.contestants", str(case), name]

    def __enter__(self) -> Process:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def answer(self) -> dict[str, Any]:
        """Wait for its next line."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        return json.loads(line) if line else {"error": f"ended with exit code {self._process.wait()}"}

    def go(self) -> dict[str, Any]:
        """Let it do the job once."""
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"error": f"ended with exit code {self._process.wait()}"}
        return self.answer()


def in_turns(case: Case, names: Sequence[str], rounds: int) -> dict[str, Result]:
    """Measure contestants on a case, `rounds` times in turns.

    A contestant that fails leaves the turns; its result says why.
    """
    path = case.save()
    results = {name: Result(name) for name in names}
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        for name in names:
            began = perf_counter()
            process = stack.enter_context(Process(path, name))
            answer = process.answer()
            results[name].loading = perf_counter() - began
            if "error" in answer:
                results[name].failure = answer["error"]
            else:
                processes[name] = process
        for _ in range(rounds):
            for name, process in list(processes.items()):
                answer = process.go()
                if "error" in answer:
                    results[name].failure = answer["error"]
                    del processes[name]
                else:
                    results[name].rounds.append(answer)
    for result in results.values():
        if result.rounds:
            result.loading += result.rounds[0]["startup"]
    return results


def spread(values: Iterable[float], digits: int = 2) -> str:
    """Return ``median (min-max)``."""
    numbers = list(values)
    low, middle, high = min(numbers), statistics.median(numbers), max(numbers)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def ratios(above: Result, below: Result, key: str = "seconds") -> list[float]:
    """Return one ratio a round, of what was measured one after the other."""
    return [a / b for a, b in zip(above.each(key), below.each(key), strict=True)]
