"""The executor that runs blocks on Dask workers: coordinates go out, records of a few hundred bytes come back."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker, wait
from pydantic import TypeAdapter

from pipelines.journal import ChunkRecord
from pipelines.plan import ScenePlan, read_plan
from pipelines.predict import BlockJob, Executor, OpenScene, Workshop, run_block
from segflow.backends import Forward, ForwardSettings, load_forward, probe
from segflow.errors import ModelError, SegflowError
from segflow.io.opening import open_source
from segflow.models.model import Model

_NEVER = logging.CRITICAL + 1
for _name in ("distributed", "distributed.client", "distributed.gc"):
    logging.getLogger(_name).setLevel(_NEVER)  # importing distributed has just made them talk

AHEAD = 2
"""Blocks submitted per thread, so that no worker waits for the driver."""

_MODELS: TypeAdapter[Model] = TypeAdapter(Model)

_PATIENCE_SECONDS = 60.0
"""How long a scene that failed waits for the chunks that other workers are making."""


@contextmanager
def cluster(workers: int) -> Iterator[Executor]:
    """Start worker processes on this machine and give the executor that uses them; they end with the block.

    They listen on 127.0.0.1 only, open no dashboard, and say nothing: what goes wrong in them is raised here.
    """
    # Without routes nothing is served by HTTP; on port 0 two runs do not meet on 8787.
    settings: dict[str, Any] = {f"distributed.{who}.http.routes": [] for who in ("scheduler", "worker")}
    settings["distributed.worker.preload"] = [__name__]
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            silence_logs=_NEVER,
        ) as local,
        Client(local) as client,
    ):
        yield DaskExecutor(client)


def dask_setup(_worker: Any) -> None:
    """Leave Ctrl-C, which a terminal sends to workers too, to the driver; Dask calls this in each worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class DaskExecutor:
    """Runs blocks on the workers of a client. See `pipelines.predict.Executor`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Sequence[BlockJob]) -> Iterator[ChunkRecord]:
        """Submit a bounded number of blocks and yield chunks as they are stored, block by block as they end.

        Raises:
            SegflowError: what a worker raised, or that workers died again and again on one block.
        """
        inbox: SimpleQueue[bytes | Future] = SimpleQueue()
        topic = f"segflow-{uuid4().hex}"
        halt = workshop.folder / f"halt-{topic}"
        waiting = iter(jobs)
        pending: dict[str, Future] = {}
        seen: set[tuple[tuple[int, ...], int]] = set()

        def submit() -> None:
            job = next(waiting, None)
            if job is not None:
                future = self._client.submit(_work, workshop, job, topic, halt, pure=False)
                pending[future.key] = future
                future.add_done_callback(inbox.put)

        self._client.subscribe_topic(topic, lambda event: inbox.put(event[1]))
        try:
            for _ in range(AHEAD * sum(self._client.nthreads().values())):
                submit()
            while pending:
                told = inbox.get()
                if isinstance(told, Future):
                    records = _result(told)
                    del pending[told.key]
                    submit()
                else:
                    records = [pickle.loads(told)]
                for record in records:
                    if (record.block, record.number) not in seen:
                        seen.add((record.block, record.number))
                        yield record
        except BaseException as error:
            _halt(halt, pending, _PATIENCE_SECONDS if isinstance(error, Exception) else 0.0)
            raise
        finally:
            self._client.unsubscribe_topic(topic)


def _result(future: Future) -> list[ChunkRecord]:
    try:
        records: list[ChunkRecord] = future.result()
    except KilledWorker as error:
        raise SegflowError(
            f"a worker died again and again: {error}",
            "workers that live; the system ends those that take too much memory",
            "lower compute.workers or tiling.batch, set compute.memory; the same command goes on from here",
        ) from error
    return records


def _halt(flag: Path, pending: dict[str, Future], seconds: float) -> None:
    """Have the workers stop at their next chunk, so that none writes into a scene that is given up."""
    with suppress(OSError):
        flag.touch()
    if seconds:
        with suppress(TimeoutError):
            wait(list(pending.values()), timeout=seconds)
    with suppress(OSError):
        flag.unlink()


def _work(workshop: Workshop, job: BlockJob, topic: str, halt: Path) -> list[ChunkRecord]:
    """Run a block on a worker; each chunk is told as soon as it is stored."""
    records: list[ChunkRecord] = []
    if halt.exists():
        return records
    worker: Any = get_worker()
    plan, scene = _scene(workshop.plan, workshop.plan.stat().st_mtime_ns)
    forward = _forward(_MODELS.dump_json(plan.model), plan.forward, plan.probe)
    for record in run_block(workshop, plan, job, scene, forward):
        worker.log_event(topic, pickle.dumps(record))
        records.append(record)
        if halt.exists():
            break
    return records


@lru_cache(maxsize=1)
def _scene(path: Path, _written: int) -> tuple[ScenePlan, OpenScene]:
    """Open a scene once a worker, and keep it for all its blocks; the next scene takes its place."""
    plan = read_plan(path)
    reference = None if plan.reference is None else open_source(plan.reference.spec)
    return plan, OpenScene(open_source(plan.spec), reference)


@lru_cache(maxsize=1)
def _forward(plain: bytes, settings: ForwardSettings, expected: str) -> Forward:
    """Load the network once a worker; one whose bits differ from the plan's is refused, not averaged in."""
    model = _MODELS.validate_json(plain)
    forward = load_forward(model, settings)
    found = probe(forward, model.card, settings.patch)
    if found != expected:
        raise ModelError(
            f"this worker's network gives other bits than the driver's ({found[:12]} against {expected[:12]})",
            "the same backend version, instruction set and weights on all machines",
            "give all workers the same environment and kind of processor",
        )
    return forward
