"""The whole table.

    python -m benchmarks [--size quick|usual|full] [--rounds 3] [--only run,overhead,peers,startup] [--json FILE]

`usual` takes about ten minutes on two quiet cores, `quick` about two, `full` (8,192 x 8,192 and 256 x 256 x 256 with a
network of 300 ms a window and more) the better part of an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from benchmarks import startup
from benchmarks.agreement import agreement
from benchmarks.case import Case, make
from benchmarks.contestants import BARE, OURS, PEERS
from benchmarks.turns import Result, in_turns, ratios, spread
from segflow.backends import available

Kind = Literal["raster", "volume"]
KINDS: tuple[Kind, ...] = ("raster", "volume")
EXTRA = ("segflow, int8", "segflow, overlap auto")


@dataclass(frozen=True)
class Size:
    """Cells along an axis: (raster, volume)."""

    run: tuple[int, int]
    overhead: tuple[int, int]
    peers: tuple[int, int]


SIZES = {
    "quick": Size(run=(896, 96), overhead=(2048, 128), peers=(896, 96)),
    "usual": Size(run=(4352, 168), overhead=(4096, 256), peers=(1664, 168)),
    "full": Size(run=(8192, 256), overhead=(8192, 256), peers=(3584, 240)),
}
"""Sides of ``512 + k * 384`` and ``96 + k * 72`` cells give everyone the same windows."""


def heavy(kind: Kind, side: int, folder: str) -> Case:
    """Return a case whose network takes 300 ms a window on one core, or more."""
    if kind == "raster":
        return Case(kind, side, patch=512, width=20, depth=4, classes=6, folder=folder)
    return Case(kind, side, patch=96, width=16, depth=3, classes=4, folder=folder)


def tiny(kind: Kind, side: int, folder: str) -> Case:
    """Return a case whose network costs next to nothing, so that the rest shows."""
    return Case(kind, side, patch=512 if kind == "raster" else 96, width=2, depth=1, classes=6, folder=folder)


class Bench:
    """Measures section by section, tells each at once, and keeps the numbers."""

    def __init__(self, size: Size, rounds: int, folder: str) -> None:
        self._size = size
        self._rounds = rounds
        self._folder = folder
        self.numbers: dict[str, Any] = {"machine": available()}

    def run(self) -> None:
        """A run against the forwards that no run can do without: a network of 300 ms a window and more."""
        said("\n## (a) Our run against bare forwards of the least number of windows\n")
        header(
            "input", "windows", "ms a window, bare", "run / bare, wall", "run / bare, processor", "peak MB", "bare MB"
        )
        for kind, side in zip(KINDS, self._size.run, strict=True):
            case, found = self._measured("run", heavy(kind, side, self._folder), (BARE, OURS))
            with failures(found) as fine:
                if fine:
                    ours, bare = found[OURS], found[BARE]
                    row(
                        shape(case),
                        f"{case.windows} ({windows(ours)} run)",
                        f"{1000 * median(bare.each('seconds')) / case.windows:.0f}",
                        spread(ratios(ours, bare), 3),
                        spread(ratios(ours, bare, "processor"), 3),
                        megabytes(ours),
                        megabytes(bare),
                    )

    def overhead(self) -> None:
        """What everything but the forwards costs, by a network that costs next to nothing."""
        said("\n## (a) Everything but forwards, for a tiny network: ms a megapixel or a megavoxel\n")
        header("input", "processor", "wall", "of it, in stages (wall, one round)")
        for kind, side in zip(KINDS, self._size.overhead, strict=True):
            case, found = self._measured("overhead", tiny(kind, side, self._folder), (BARE, OURS))
            with failures(found) as fine:
                if fine:
                    ours, bare = found[OURS], found[BARE]
                    row(
                        shape(case),
                        *(rest(case, ours, bare, key) for key in ("processor", "seconds")),
                        stages(case, ours),
                    )

    def peers(self) -> None:
        """The same job by the peers, on the same windows; then int8 and fewer windows."""
        for kind, side in zip(KINDS, self._size.peers, strict=True):
            said(f"\n## (b, c) Peers, {kind}\n")
            names = (OURS, BARE, *PEERS[kind], *EXTRA)
            case, found = self._measured("peers", heavy(kind, side, self._folder), names)
            said(f"{shape(case)}, {case.patch} windows, step {case.step}, U-Net of width {case.width}, float32\n")
            header(
                "who",
                "windows",
                "seconds",
                "segflow is x times as fast",
                "processor s",
                "peak MB",
                "loading s",
                "same labels",
            )
            with failures(found):
                ours = found[OURS]
                for result in found.values():
                    if result.failure is None and ours.failure is None:
                        self._peer(result, ours)

    def _peer(self, result: Result, ours: Result) -> None:
        labels = result.rounds[-1].get("labels")
        row(
            result.name,
            windows(result),
            spread(result.each("seconds")),
            spread(ratios(result, ours)),
            f"{median(result.each('processor')):.2f}",
            megabytes(result),
            f"{result.loading:.1f}",
            "" if labels is None else f"{100 * agreement(labels, ours.rounds[-1]['labels']):.3f} %",
        )

    def startup(self) -> None:
        """Commands that have nothing to do."""
        said("\n## (d) Start-up\n")
        header("command", "wall s", "processor s")
        case = Case("raster", 512, patch=256, width=8, depth=2, classes=6, folder=self._folder)
        make(case)
        found = startup.measure(case, self._rounds)
        for name, spent in found.items():
            row(f"`{name}`", spread(wall for wall, _ in spent), spread(processor for _, processor in spent))
        self.numbers["startup"] = found

    def _measured(self, section: str, case: Case, names: tuple[str, ...]) -> tuple[Case, dict[str, Result]]:
        make(case)
        found = in_turns(case, names, self._rounds)
        kept = self.numbers.setdefault(section, {})
        kept[case.kind] = {"case": asdict(case), "results": {name: asdict(result) for name, result in found.items()}}
        return case, found


@contextmanager
def failures(found: dict[str, Result]) -> Iterator[bool]:
    """Let a table be written, told whether it can be whole, and tell below it who failed and why."""
    failed = [result for result in found.values() if result.failure is not None]
    yield not failed
    for result in failed:
        said(f"\n{result.name} is not in this table: {result.failure}\n")


def rest(case: Case, ours: Result, bare: Result, key: str) -> str:
    """Return what a run takes beyond bare forwards, in ms a million cells."""
    pairs = zip(ours.each(key), bare.each(key), strict=True)
    return spread((1000 * (a - b) / case.megacells for a, b in pairs), 1)


def stages(case: Case, ours: Result) -> str:
    """Return the stages of the last round, in ms a million cells."""
    spent = ours.rounds[-1]["stages"]
    names = ("read", "blend", "score", "write", "export")
    return ", ".join(f"{name} {1000 * spent[name] / case.megacells:.0f}" for name in names if name in spent)


def windows(result: Result) -> str:
    """Return how many windows went through the network."""
    return str(result.rounds[-1]["windows"])


def megabytes(result: Result) -> str:
    """Return the peak of a process in MB."""
    return f"{result.peak_bytes / 1e6:.0f}"


def shape(case: Case) -> str:
    """Return the input's shape."""
    return " x ".join([f"{case.side:,}"] * case.axes)


def said(text: str) -> None:
    """Tell something at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def header(*names: str) -> None:
    """Begin a table."""
    row(*names)
    row(*["---"] * len(names))


def row(*cells: str) -> None:
    """Tell a row of a table."""
    said("| " + " | ".join(cells) + " |")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="usual")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="run,overhead,peers,startup", help="sections, with commas")
    parser.add_argument("--json", type=Path, help="also write all numbers here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="segflow-bench-") as folder:
        os.environ["SEGFLOW_CACHE"] = str(Path(folder) / "cache")  # nothing of earlier runs helps
        bench = Bench(SIZES[asked.size], asked.rounds, folder)
        said(f"# segflow, {asked.size} sizes, {asked.rounds} rounds in turns: median (min to max)\n")
        said(", ".join(f"{key} {value}" for key, value in bench.numbers["machine"].items()))
        sections: dict[str, Callable[[], None]] = {
            "run": bench.run, "overhead": bench.overhead, "peers": bench.peers, "startup": bench.startup
        }  # fmt: skip
        for name in asked.only.split(","):
            sections[name]()
        if asked.json is not None:
            asked.json.write_text(json.dumps(bench.numbers, indent=1))


if __name__ == "__main__":
    main()
