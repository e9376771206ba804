"""What is sent to a Dask worker, and what becomes of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable

from distributed import Future, KilledWorker

from flows.dask.trouble import made_with
from flows.dask.worker import Order
from pipelines.journal import ChunkRecord
from pipelines.predict import BlockJob
from segflow.errors import SegflowError

_RESULT_SECONDS = 30.0
"""How long what a block has done may take from its worker to here."""


def errand(order: Order, backend: str) -> Callable[[bytes], list[ChunkRecord]]:
    """Return what is sent: a function that is pickled by value, since it is nobody's attribute.

    A worker that cannot import what it is sent loses its scheduler as it reads the message, and so does the one that a
    nanny starts in its place: nobody would be told why. Nor does the scheduler need segflow. The order, which holds
    secrets, is no argument: Dask writes those of a task that failed into the worker's log.
    """
    sealed, versions = pickle.dumps(order), made_with(backend)

    def segflow_block(job: bytes) -> list[ChunkRecord]:
        from flows.dask.worker import work

        return work(job, sealed, versions, backend)

    return segflow_block


def result_of(future: Future) -> list[ChunkRecord]:
    """Return what an ended block has done; nothing where its worker is gone since: chunks are noted where they lie."""
    try:
        records: list[ChunkRecord] = future.result(timeout=_RESULT_SECONDS)
    except Exception:  # whatever became of it in the meantime becomes of the rest, too, which is sent again
        return []
    return records


def killed(job: BlockJob, error: KilledWorker) -> SegflowError:
    """Return what to say of a block whose workers die before they have stored a chunk of it."""
    return SegflowError(
        f"{error.allowed_failures + 1} workers died, one after the other, while they had the block {job.block}; "
        f"the last was {error.last_worker.address}",
        "workers that live: the system ends one that takes too much memory, and Dask's nanny one at 95 % of its "
        "--memory-limit",
        "see the workers' logs; start them with more memory, set compute.memory to what a worker has, or lower "
        "tiling.batch or compute.workers; the same command goes on from here",
    )
