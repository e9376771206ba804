"""The executor that runs blocks on Dask workers: coordinates go out, records of a few hundred bytes come back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from distributed import Client, Future, LocalCluster, get_worker

from pipelines.journal import ChunkRecord
from pipelines.plan import ScenePlan, read_plan
from pipelines.predict import BlockJob, Executor, Workshop, run_block
from segflow.backends import Forward, ForwardSettings, load_forward, probe
from segflow.errors import ModelError
from segflow.models.model import Model

AHEAD = 2
"""Blocks submitted per thread, so that no worker waits for the driver."""


@contextmanager
def cluster(workers: int) -> Iterator[Executor]:
    """Start worker processes on this machine and give the executor that uses them; they end with the block."""
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,
        ) as local,
        Client(local) as client,
    ):
        yield DaskExecutor(client)


class DaskExecutor:
    """Runs blocks on the workers of a client. See `pipelines.predict.Executor`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Sequence[BlockJob]) -> Iterator[ChunkRecord]:
        """Submit a bounded number of blocks and yield chunks as they are stored, block by block as they end."""
        inbox: SimpleQueue[ChunkRecord | Future] = SimpleQueue()
        topic = f"segflow-{uuid4().hex}"
        waiting = iter(jobs)
        room = AHEAD * sum(self._client.nthreads().values())
        pending: set[str] = set()
        seen: set[tuple[tuple[int, ...], int]] = set()

        def submit() -> None:
            job = next(waiting, None)
            if job is None:
                return
            future = self._client.submit(_work, workshop, job, topic, pure=False)
            pending.add(future.key)
            future.add_done_callback(inbox.put)

        self._client.subscribe_topic(topic, lambda event: inbox.put(event[1]))
        try:
            for _ in range(room):
                submit()
            while pending:
                told = inbox.get()
                records = [told]
                if isinstance(told, Future):
                    records = told.result()
                    pending.discard(told.key)
                    submit()
                for record in records:
                    if (record.block, record.number) not in seen:
                        seen.add((record.block, record.number))
                        yield record
        finally:
            self._client.unsubscribe_topic(topic)


def _work(workshop: Workshop, job: BlockJob, topic: str) -> list[ChunkRecord]:
    """Run a block on a worker; each chunk is told as soon as it is stored."""
    worker: Any = get_worker()
    plan = _plan(workshop.plan, workshop.plan.stat().st_mtime_ns)
    forward = _forward(plan.card.model_dump_json(), plan.weights, plan.forward, plan.probe)
    records = []
    for record in run_block(workshop, plan, job, forward):
        worker.log_event(topic, record)
        records.append(record)
    return records


@lru_cache(maxsize=4)
def _plan(path: Path, _written: int) -> ScenePlan:
    return read_plan(path)


@lru_cache(maxsize=1)
def _forward(card: str, weights: Path, settings: ForwardSettings, expected: str) -> Forward:
    """Load the network once a worker; one whose bits differ from the plan's is refused, not averaged in."""
    from segflow.models.card import Card

    model = Model(Card.model_validate_json(card), weights)
    forward = load_forward(model, settings)
    found = probe(forward, model.card, settings.patch)
    if found != expected:
        raise ModelError(
            f"this worker's network gives other bits than the driver's ({found[:12]} against {expected[:12]})",
            "the same backend version, instruction set and weights on all machines",
            "give all workers the same environment and kind of processor",
        )
    return forward
