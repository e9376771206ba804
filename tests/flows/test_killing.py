"""Whatever moment a process of a run is killed at: the same command goes on to the same bytes, and leaves nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.flows.killing import Harness, Moment

SEED = 20261123


def harness(kind: str, workers: int, folder: Path, making_in: Callable[[Path], Any], env: dict[str, str]) -> Harness:
    """Make a scene, and run it undisturbed."""
    making = making_in(folder)
    making.model("volume" if kind == "volume" else "raster")
    compute = {"workers": workers, "backend": "openvino", "memory": "16GiB"}
    outputs = {"folder": "out", "confidence": True}
    if kind == "volume":
        making.volume(shape=(44, 40, 96))
        making.volume("truth.nii.gz", (44, 40, 96), labels=True)
        recipe = {"kind": "volume", "inputs": "a.nii.gz", "references": "truth.nii.gz"}
    else:
        making.raster(shape=(640, 160))
        making.labels(shape=(640, 160))
        recipe = {"inputs": "a.tif", "references": "truth.tif"}
    path = making.recipe(**recipe, outputs=outputs, compute=compute, tiling={"overlap": 0.5, "batch": 1})
    return Harness(Path(sys.executable).with_name("segflow"), path, env, workers)


@pytest.fixture
def made(tmp_path: Path, making_in: Callable[[Path], Any], clean_environment: dict[str, str]) -> Callable[..., Harness]:
    """Makes a harness in the test's folder."""
    return lambda kind, workers: harness(kind, workers, tmp_path, making_in, clean_environment)


def report(one: Harness, kind: str, workers: int) -> None:
    """Tell the tally, where `-s` or a failure shows it."""
    sys.stderr.write(f"\n{kind}, workers: {workers}, seed {SEED}: {one.tally}\n")


@pytest.mark.parametrize(("kind", "workers", "kills"), [("raster", 1, 2), ("volume", 1, 1)])
def test_a_run_that_is_killed_goes_on_to_the_same_bytes_and_leaves_nothing(
    kind: str, workers: int, kills: int, made: Any
) -> None:
    one = made(kind, workers)
    one.chain(one.moments(SEED), kills)
    report(one, kind, workers)


def test_killed_drivers_and_workers_cost_no_sealed_chunk_and_no_process_stays(made: Any) -> None:
    one = made("raster", 2)
    one.chain(iter([Moment("driver", "chunk", stored=one.whole.stored // 2)]), 1)
    # The worker that was looked at may have had both of two blocks; another has one of them, and comes half through it.
    late = [step.number for step in one.whole.worker if step.stage == "chunk"]
    one.chain(iter([Moment("worker", "chunk", late[len(late) // 4])]), 1)
    assert one.tally.kills.total() == 2
    report(one, "raster", 2)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "workers", "kills"), [("raster", 1, 20), ("volume", 1, 12), ("raster", 2, 18)])
def test_fifty_random_moments(kind: str, workers: int, kills: int, made: Any) -> None:
    one = made(kind, workers)
    moments = one.moments(SEED)
    while (left := kills - one.tally.kills.total()) > 0:
        one.chain(moments, min(3, left))
    report(one, kind, workers)
    assert one.tally.kills.total() == kills
