"""Who is measured, by name, and the process that each of them runs in.

    python -m benchmarks.contestants CASE.json NAME

says that it is ready, does the job for each line that it reads, and answers each with a line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks import ours, peers
from benchmarks.case import Case, read_case
from segflow.memory import peak_rss_bytes

Contestant = Callable[[Case], Callable[[], Mapping[str, Any]]]

BARE = "bare forwards"
OURS = "segflow"
TABLE: dict[str, Contestant] = {
    BARE: ours.bare,
    OURS: ours.run({}),
    "segflow, int8": ours.run({"compute.precision": "int8"}),
    "segflow, overlap auto": ours.run({"tiling.overlap": "auto"}),
    "MONAI": peers.monai,
    "nnU-Net": peers.nnunet,
    "TorchIO": peers.torchio,
    "torchgeo": peers.torchgeo,
    "tiler": peers.tiler,
}
PEERS = {
    "raster": ("MONAI", "nnU-Net", "TorchIO", "torchgeo", "tiler"),
    "volume": ("MONAI", "nnU-Net", "TorchIO", "tiler"),
}


def measured(job: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Do a job; return its wall and processor seconds, unless it says them itself, and the process's peak memory."""
    wall, processor = perf_counter(), process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        told = dict(job())
    spent = {"seconds": perf_counter() - wall, "processor": process_time() - processor, "startup": 0.0}
    return {**spent, **told, "peak_bytes": peak_rss_bytes()}


def main() -> None:
    """Be one contestant."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    case, name = read_case(Path(sys.argv[1])), sys.argv[2]
    answers = sys.stdout

    def answer(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            job = TABLE[name](case)
        answer({"ready": True})
        for _ in sys.stdin:
            answer(measured(job))
    except Exception as error:  # told to the driver, whose table has a row for it
        answer({"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]})


if __name__ == "__main__":
    main()
