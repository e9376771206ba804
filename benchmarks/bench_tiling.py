"""Milliseconds of what the sweep does between two forwards: adding a patch, deciding labels, making weights.

Run with ``python benchmarks/bench_tiling.py``. The best of several rounds; the cases take turns, so that a busy machine
slows all of them alike.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np

from tiling import AxisMap, Box, Lattice, NumpyBand, Store, argmax, patch_weight


def best(cases: dict[str, Callable[[], object]], rounds: int = 15) -> dict[str, float]:
    """Return each case's fastest round, in milliseconds."""
    fastest = dict.fromkeys(cases, float("inf"))
    for _ in range(rounds):
        for name, case in cases.items():
            began = perf_counter()
            case()
            fastest[name] = min(fastest[name], (perf_counter() - began) * 1e3)
    return {name: round(value, 3) for name, value in fastest.items()}


def adding(channels: int, patch: tuple[int, ...], store: Store) -> Callable[[], object]:
    """Add one patch to a band four patches wide."""
    random = np.random.default_rng(0)
    scene = tuple(4 * n for n in patch)
    band = NumpyBand(channels, Box.whole(scene), 0, patch[0], store)
    values = random.random((channels, *patch), np.float32)
    weight = np.zeros(patch, np.float32)
    where = Box((0, *patch[1:]), (patch[0], *(2 * n for n in patch[1:])))
    return lambda: band.add(values, weight, where)


def deciding(channels: int, store: Store) -> Callable[[], object]:
    """Label one megapixel."""
    sums = np.random.default_rng(0).integers(0, 30000, (channels, 1000, 1000)).astype(store)
    return lambda: argmax(sums, range(channels))


def weighing(patch: tuple[int, ...]) -> Callable[[], object]:
    """Make the weight of a patch in the middle."""
    lattice = Lattice.of([4 * n for n in patch], patch, [n // 2 for n in patch])
    return lambda: patch_weight(lattice, (2,) * len(patch), 2**24)


def resampling(source: int, target: int) -> Callable[[], object]:
    """Resample a band of 6 channels along its last axis."""
    values = np.random.default_rng(0).random((6, 128, source), np.float32)
    return lambda: AxisMap(source, target).apply(values, 2, 0, 0, target)


if __name__ == "__main__":
    stores: tuple[Store, ...] = ("int32", "int16")
    cases: dict[str, Callable[[], object]] = {}
    for store in stores:
        cases[f"add 6x256x256 {store}"] = adding(6, (256, 256), store)
        cases[f"add 3x64x64x64 {store}"] = adding(3, (64, 64, 64), store)
        for channels in (2, 6, 19):
            cases[f"argmax of {channels} a megapixel {store}"] = deciding(channels, store)
    cases["weight 256x256"] = weighing((256, 256))
    cases["weight 64x64x64"] = weighing((64, 64, 64))
    cases["resample 6x128x1000 to 2000"] = resampling(1000, 2000)
    cases["resample 6x128x2000 to 1000"] = resampling(2000, 1000)
    json.dump(best(cases), sys.stdout, indent=2)
    sys.stdout.write("\n")
