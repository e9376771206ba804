"""What the driver and the scheduler pay for a block: a scene of many blocks whose network does nothing.

Plans a real raster (sparse, so that it costs no disk) and has real Dask workers, processes of their own, answer each
block at once with a record; driver and scheduler are this process. Prints processor time a block and resident memory
as it goes on: both must not grow with the number of blocks.

    python benchmarks/blocks.py 100000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from math import ceil, sqrt
from pathlib import Path
from time import process_time
from typing import Any

import dask
import psutil
import rasterio
import yaml
from distributed import Client, LocalCluster

from flows.dask.cluster import NEVER, Fleet
from flows.dask.executor import connected
from pipelines.journal import ChunkRecord
from pipelines.network.settle import settle
from pipelines.planning.prepare import plan_scene
from pipelines.planning.scenes import Selection, find_scenes
from pipelines.predict import Workshop, predict
from segflow.metrics import Counts
from segflow.recipe import read_recipe

CELLS = 64
"""Cells of a block along each axis: one chunk, one patch."""


def dask_setup(_worker: Any) -> None:
    """Have a worker answer at once; Dask calls this in each worker process."""
    import flows.dask.worker

    flows.dask.worker.run_block = _nothing  # type: ignore[assignment]
    flows.dask.worker._forward = lambda *_: None  # type: ignore[assignment, return-value]


def _nothing(_staging: Any, plan: Any, job: Any, *_rest: Any) -> Iterator[ChunkRecord]:
    counts = Counts.zero(plan.card.ids, referenced=False)
    for number in range(job.first_chunk, job.stop_chunk):
        yield ChunkRecord(
            job.block, number, 0, counts, 1, 1, {"forward": 0.001, "read": 0.001, "write": 0.001}, 1 << 30
        )


def main() -> None:
    """Run the blocks and print a line at each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("blocks", type=int, nargs="?", default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options.blocks, options.workers)


def measure(folder: Path, blocks: int, workers: int) -> None:
    """Plan and work off about `blocks` blocks."""
    side = ceil(sqrt(blocks)) * CELLS
    size = {"width": side, "height": side, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 5e6), "nodata": 0}
    with rasterio.open(folder / "a.tif", "w", driver="GTiff", tiled=True, sparse_ok=True, **size, **place):
        pass
    recipe = {
        "kind": "raster",
        "inputs": "a.tif",
        "model": {"weights": "builtin:landcover-rgb", "gsd": 1.0},
        "tiling": {"patch": CELLS, "overlap": 0, "block": CELLS},
        "compute": {"memory": "64 GiB"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    read = read_recipe(folder / "recipe.yaml")
    engine = settle(read)
    began = process_time()
    (item,) = find_scenes(read, engine.model.card)
    plan = plan_scene(read, item, engine, Selection())
    _say(f"{len(plan.task.layout):,} blocks planned in {process_time() - began:.1f} s of processor time")
    settings = {"distributed.worker.preload": [str(Path(__file__).resolve())]}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=NEVER,
        ) as cluster,
    ):

        def connect(seconds: float) -> Client:
            return Client(cluster, timeout=seconds, set_as_default=False)

        with connected(Fleet(connect, "null workers", workers)) as executor:
            predict(plan, Workshop(folder / "workshop"), executor, _Meter(), lambda _: None)
    size_mb = (folder / "workshop" / "plan.json").stat().st_size / 1e6
    journal_mb = (folder / "workshop" / "journal.sqlite").stat().st_size / 1e6
    _say(f"plan {size_mb:.2f} MB, journal {journal_mb:.1f} MB; with its totals summed: {_rss():.0f} MB resident")


class _Meter:
    """Prints a line at 1, 2 and 5 times each power of ten."""

    def __init__(self) -> None:
        self._count = 0
        self._began = process_time()
        self._steps = {lead * 10**power for lead in (1, 2, 5) for power in range(3, 8)}

    def __call__(self, _record: ChunkRecord) -> None:
        """Count a block."""
        self._count += 1
        if self._count in self._steps:
            spent = 1000 * (process_time() - self._began) / self._count
            _say(f"{self._count:>9,} blocks: {spent:.2f} ms of processor time a block, {_rss():.0f} MB resident")


def _rss() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
