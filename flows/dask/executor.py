"""The executor that runs blocks on Dask workers: coordinates go out, records of a few hundred bytes come back."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

from distributed import Client, Future, KilledWorker

from flows.dask.cluster import Fleet, first_client
from flows.dask.errand import errand, killed, result_of
from flows.dask.parcel import send
from flows.dask.trouble import error_of
from flows.dask.worker import Order, busy
from pipelines.journal import ChunkRecord
from pipelines.planning.plan import ScenePlan, to_data
from pipelines.planning.sealing import Secrets
from pipelines.predict import BlockJob, Executor, Workshop
from segflow.errors import ClusterError

_LOG = logging.getLogger(__name__)

AHEAD = 4
"""Blocks submitted for each worker, so that none waits for the driver: half of them before more are sent in one go."""

_PATIENCE_SECONDS = 60.0
"""How long a scene that failed waits for the chunks that other workers are making."""

_LOOK_SECONDS = 2.0
"""How often workers are counted."""


class _LostSchedulerError(Exception):
    """The client has no scheduler any more."""


@contextmanager
def connected(fleet: Fleet) -> Iterator[Executor]:
    """Give the executor that uses a fleet.

    Raises:
        ClusterError: no scheduler answers.
    """
    executor = DaskExecutor(fleet, first_client(fleet))
    try:
        yield executor
    finally:
        executor.close()


class DaskExecutor:
    """Runs blocks on the workers of a fleet. See `pipelines.predict.Executor`."""

    def __init__(self, fleet: Fleet, client: Client) -> None:
        self._fleet = fleet
        self._client = client
        self._topic = f"segflow-{uuid4().hex}"
        self._orders = count()

    def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Iterable[BlockJob]) -> Iterator[ChunkRecord]:
        """Submit a bounded number of blocks and yield chunks as they are stored.

        When the scheduler goes away, what is not done is submitted again to the one that comes in its place.

        Raises:
            ClusterError: there is no worker, or no scheduler, for as long as the recipe waits.
            SegflowError: what a worker raised, or that workers died again and again on one block.
        """
        if self._client.status != "running":  # lost while the scene before was published
            self._reconnect()
        secrets = Secrets.of(to_data(plan))
        if self._fleet.remote:
            send(plan, workshop, secrets)
        while True:
            order = Order(workshop, plan.staging_key, self._fleet.remote, self._topic, next(self._orders), secrets)
            shift = _Shift(self._fleet, self._client, order, iter(jobs), plan.forward.backend)
            try:
                yield from shift.records()
                return
            except _LostSchedulerError:
                jobs = shift.left()
                self._reconnect()

    def close(self) -> None:
        """Let go of the scheduler."""
        with suppress(OSError, TimeoutError, RuntimeError):
            self._client.close(timeout=5)

    def _reconnect(self) -> None:
        seconds = self._fleet.wait_seconds
        _LOG.warning("the scheduler at %s is gone; waiting up to %.0f s for it to come back", self._fleet.name, seconds)
        self.close()
        end = monotonic() + seconds
        while True:
            try:
                self._client = self._fleet.connect(max(1.0, min(10.0, end - monotonic())))
                break
            except (OSError, ValueError, RuntimeError) as error:
                if monotonic() < end:
                    sleep(0.5)
                    continue
                raise ClusterError(
                    f"the scheduler at {self._fleet.name} went away and did not come back within {seconds:.0f} s",
                    "a running Dask scheduler",
                    "start it again, or raise compute.wait_seconds; the same command goes on from here",
                ) from error
        _LOG.warning("the scheduler at %s is back; what was not done is submitted again", self._fleet.name)


@dataclass(slots=True)
class _Sent:
    """A job that a scheduler has, and the next of its chunks that will be told."""

    job: BlockJob
    future: Future
    next: int

    @property
    def rest(self) -> BlockJob:
        """What is not told yet."""
        return replace(self.job, first_chunk=self.next)


class _Shift:
    """Jobs worked off by way of one client."""

    def __init__(self, fleet: Fleet, client: Client, order: Order, jobs: Iterator[BlockJob], backend: str) -> None:
        self._fleet = fleet
        self._client = client
        self._order = order
        self._errand = errand(order, backend)
        self._jobs = jobs
        self._sent: dict[str, _Sent] = {}
        self._inbox: SimpleQueue[bytes | Future] = SimpleQueue()
        self._resources = {"GPU": 1} if fleet.gpu else None
        self._looked = self._seen = monotonic()
        self._told_paused = False
        self._window = AHEAD * max(1, fleet.most)

    def records(self) -> Iterator[ChunkRecord]:
        """Yield chunks as they are stored.

        Raises:
            _LostSchedulerError: the client has no scheduler any more; `left` says what is not done.
            SegflowError: see `DaskExecutor`.
        """
        self._client.subscribe_topic(self._order.topic, lambda event: self._inbox.put(event[1]))
        try:
            self._submit()
            while self._sent:
                self._look()
                try:
                    told = self._inbox.get(timeout=_LOOK_SECONDS)
                except Empty:
                    continue
                yield from self._ended(told) if isinstance(told, Future) else self._told(*pickle.loads(told))
                self._submit()
        except _LostSchedulerError:
            raise
        except BaseException as error:
            self._give_up(_PATIENCE_SECONDS if isinstance(error, Exception) else 0.0)
            raise
        with suppress(OSError, RuntimeError):
            self._client.unsubscribe_topic(self._order.topic)

    def left(self) -> Iterator[BlockJob]:
        """Return the jobs that are not done."""
        return chain([item.rest for item in self._sent.values()], self._jobs)

    def _submit(self) -> None:
        """Fill the window when half of it is free: what one call to the scheduler costs is shared by many blocks."""
        if 2 * len(self._sent) <= self._window:
            self._send(list(islice(self._jobs, self._window - len(self._sent))))

    def _send(self, jobs: list[BlockJob]) -> None:
        if not jobs:
            return
        keys = [f"segflow-{uuid4().hex}" for _ in jobs]
        options = {"key": keys, "pure": False, "resources": self._resources}
        sent = self._client.map(self._errand, [pickle.dumps(job) for job in jobs], **options)
        for future, job in zip(sent, jobs, strict=True):
            self._sent[future.key] = _Sent(job, future, job.first_chunk)
            future.add_done_callback(self._inbox.put)

    def _told(self, key: str, record: ChunkRecord) -> Iterator[ChunkRecord]:
        """Yield a record that is new; a block that another worker runs once more tells its chunks once more."""
        item = self._sent.get(key)
        if item is not None and record.number == item.next:
            item.next += 1
            self._seen = monotonic()  # a worker that Dask has paused ends what it has begun
            yield record

    def _ended(self, future: Future) -> Iterator[ChunkRecord]:
        """Yield what an ended block has not told yet; what it left undone, since Dask took it back, is sent again."""
        item = self._sent.get(future.key)
        if item is None:
            return
        if future.status == "cancelled" or self._client.status != "running":
            raise _LostSchedulerError
        if future.status == "error":
            self._failed(item, future)
            return
        if item.next < item.job.stop_chunk:
            for record in result_of(future):
                yield from self._told(future.key, record)
        del self._sent[future.key]
        if item.next < item.job.stop_chunk:
            self._send([item.rest])

    def _failed(self, item: _Sent, future: Future) -> None:
        """Raise what a worker raised. A block whose workers died is tried again for as long as it gets on."""
        error = future.exception()
        if isinstance(error, KilledWorker):
            if item.next > item.job.first_chunk:
                del self._sent[future.key]
                self._send([item.rest])
                return
            raise killed(item.job, error) from error
        raise error_of(error) from None

    def _look(self) -> None:
        """Count the workers now and then: the window grows with them, and a run without any ends.

        Raises:
            _LostSchedulerError: there is no scheduler to ask.
            ClusterError: there has been no worker for too long.
        """
        if monotonic() - self._looked < _LOOK_SECONDS:
            return
        try:
            if self._client.status != "running":
                raise _LostSchedulerError
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        except (OSError, RuntimeError, KeyError) as error:
            raise _LostSchedulerError from error
        able = [item for item in workers if not self._fleet.gpu or item.get("resources", {}).get("GPU", 0) >= 1]
        running = sum(item.get("status", "running") == "running" for item in able)
        self._looked = monotonic()
        self._window = AHEAD * max(1, len(able), self._fleet.most)
        if running:
            self._seen, self._told_paused = self._looked, False
            return
        if able and not self._told_paused:
            self._told_paused = True
            _LOG.warning("all workers of %s are paused by Dask, since their memory is short", self._fleet.name)
        if self._looked - self._seen > self._fleet.wait_seconds:
            raise self._forsaken(len(workers), len(able))

    def _forsaken(self, workers: int, able: int) -> ClusterError:
        """Return what to say of a fleet in which nobody has worked for too long."""
        seconds = f"{self._fleet.wait_seconds:.0f} s"
        if able:
            return ClusterError(
                f"all {able} workers of {self._fleet.name} have been paused by Dask for {seconds}: memory is short",
                "workers whose memory holds a block, as `segflow plan` tells it",
                "start workers with a higher --memory-limit, or set compute.memory to what a worker has, so that "
                "blocks are cut smaller; the same command goes on from here",
            )
        offered = f", of {workers} none with a GPU" if workers else ""
        return ClusterError(
            f"{self._fleet.name} has had no worker for {seconds}{offered}",
            "at least one worker" + (" that offers Dask's resource GPU" if self._fleet.gpu else ""),
            ("start workers with --resources GPU=1" if self._fleet.gpu else "start workers")
            + ", or raise compute.wait_seconds where a queue starts them; the same command goes on from here",
        )

    def _give_up(self, seconds: float) -> None:
        """Have the workers stop at their next chunk, and wait for that, so that none writes into a given up scene."""
        with suppress(Exception):
            self._client.unsubscribe_topic(self._order.topic)
            self._client.cancel([item.future for item in self._sent.values()], force=True)
            end = monotonic() + seconds
            while monotonic() < end and self._busy():
                sleep(0.05)

    def _busy(self) -> bool:
        told: dict[str, Any] = self._client.run(busy, self._order.topic, self._order.number, on_error="ignore")
        return any(told.values())
