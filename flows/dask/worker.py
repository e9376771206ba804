"""What runs on a Dask worker: one block at a time, the scene and the network opened once and kept."""

from __future__ import annotations

import logging
import pickle
import shutil
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from distributed import get_worker
from pydantic import TypeAdapter

from flows.dask.parcel import receive, scratch_of
from flows.dask.trouble import require_versions, told
from flows.masked_log import mask_logs
from pipelines.journal import ChunkRecord
from pipelines.planning.plan import ScenePlan, read_plan
from pipelines.planning.sealing import Secrets
from pipelines.predict import BlockJob, OpenScene, Workshop, run_block
from segflow.backends import Forward, ForwardSettings, load_forward, probe
from segflow.errors import ModelError, OutputError
from segflow.io.opening import open_source
from segflow.io.staging import Staging
from segflow.models.model import Model

mask_logs()

_MODELS: TypeAdapter[Model] = TypeAdapter(Model)
_turn = Lock()
_at_work: Counter[tuple[str, int]] = Counter()


def dask_setup(_worker: Any) -> None:
    """Leave Ctrl-C, which a terminal sends to workers too, to the driver; Dask calls this in local workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker is to do.

    Attributes:
        workshop: the driver's.
        key: the plan's staging key; what is open for it is kept.
        sent: whether plan and network were sent (`flows.dask.parcel`); else their paths are this machine's.
        topic: where chunks are told; one for all orders of a driver, since a scheduler keeps all that it has heard of.
        number: of the driver's order: a scene, or one more try at it.
        secrets: of the plan, which neither stand in its file nor in a log.
    """

    workshop: Workshop
    key: str
    sent: bool
    topic: str
    number: int
    secrets: Secrets = Secrets()  # noqa: RUF009 - frozen


@dataclass(slots=True)
class _Held:
    """What a worker holds open between two blocks of a scene."""

    order: Order
    plan: ScenePlan
    scene: OpenScene
    staging: Staging
    scratch: Path | None

    def close(self) -> None:
        self.scene.close()
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)


_held: list[_Held] = []


def work(job: bytes, order: bytes, versions: Mapping[str, str], backend: str) -> list[ChunkRecord]:
    """Run a block; each chunk is told under the order's topic, with this task's key, as soon as it is stored.

    Args:
        job: a `BlockJob`, pickled; read only by a worker that has the driver's versions.
        order: an `Order`, pickled.
        versions: the driver's.
        backend: the library that runs the network.

    Raises:
        ToldError: whatever went wrong, in words.
    """
    worker: Any = get_worker()
    where = f"the worker {worker.name}" + ("" if worker.name == worker.address else f" at {worker.address}")
    try:
        require_versions(versions, backend, where)
        return _worked(worker, pickle.loads(job), pickle.loads(order))
    except BaseException as error:  # SystemExit, too: Dask would end the worker, and start it again for the same end
        trouble = told(error, where)
    raise trouble  # outside of `except`, so that it is linked to nothing


def _worked(worker: Any, job: BlockJob, order: Order) -> list[ChunkRecord]:
    """Run a block.

    A process runs one block at a time, however many threads Dask gives it: its memory is planned for one. It stops
    at the next chunk when nobody waits for it any more: the driver has given up, or is gone.
    """
    key = worker.get_current_task()
    records: list[ChunkRecord] = []
    _at_work[order.topic, order.number] += 1
    try:
        with _turn:
            if not _is_awaited(worker, key):
                return records
            held = _open(order, worker)
            forward = _forward(_MODELS.dump_json(held.plan.model), held.plan.forward, held.plan.probe)
            for record in run_block(held.staging, held.plan, job, held.scene, forward):
                worker.log_event(order.topic, pickle.dumps((key, record)))
                records.append(record)
                if not _is_awaited(worker, key):
                    break
    finally:
        _at_work[order.topic, order.number] -= 1
    return records


def busy(topic: str, number: int) -> bool:
    """Tell whether this worker works on a block of an order."""
    return _at_work[topic, number] > 0


def _is_awaited(worker: Any, key: str) -> bool:
    """Tell whether a client still wants a task's result; Dask cannot end a thread, it marks its task as cancelled."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state != "cancelled"


def _open(order: Order, worker: Any) -> _Held:
    """Return a scene's files; they stay open until another scene comes."""
    if _held and _held[0].order == order:
        return _held[0]
    while _held:
        _held.pop().close()
    here = Path(worker.local_directory) / "segflow"
    plan = receive(order.workshop, here, order.secrets) if order.sent else read_plan(order.workshop.plan, order.secrets)
    try:
        staging = Staging(order.workshop.staging, plan.region)
    except OSError as error:
        raise OutputError(
            f"a worker does not find the staging store {order.workshop.staging}: {error}",
            "a folder or an object store that the driver and all workers reach under one name",
            "set compute.staging to a shared folder or to s3://BUCKET/PREFIX",
        ) from error
    reference = None if plan.reference is None else open_source(plan.reference.spec)
    scene = OpenScene(open_source(plan.spec), reference)
    _held.append(_Held(order, plan, scene, staging, scratch_of(here) if order.sent else None))
    return _held[0]


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
    logging.getLogger(__name__).info("%s loaded", model.card.name)
    return forward
