"""What a Prefect server needs for segflow: a limit for GPUs, a work pool, and automations that bring dead runs back."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import cast

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.prefect.deployments import TAG
from flows.prefect.slots import GPU_LIMIT, gpus_here

SILENT_SECONDS = 100
"""Three heartbeats of 30 seconds, and a little."""
AGAIN_SECONDS = 20
_OURS = {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
_ENDED = ("Completed", "Degraded", "Failed", "Cancelled", "Crashed")


def set_up(pool: str, gpus: int | None) -> list[tuple[str, str, str]]:
    """Make all that is missing, bring the rest up to date; return kind, name and purpose of each."""
    made = []
    with get_client(sync_client=True) as client:
        wanted = max(1, gpus) if gpus is not None else max(gpus_here(), _limit(client))
        client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, wanted)
        made.append(("limit", GPU_LIMIT, f"{wanted} at once; a slot comes back a minute after its holder was killed"))
        made.append(("work pool", pool, _pool(client, pool)))
    for automation in automations():
        _put(automation)
        made.append(("automation", automation.name, automation.description))
    return made


def automations() -> tuple[Automation, ...]:
    """Return the automations: a silent run is Crashed; a crashed run is started again."""
    silent = Automation(
        name="segflow: a run that is silent has crashed",
        description=f"marks a run Crashed that was not heard of for {SILENT_SECONDS} s",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{state}" for state in _ENDED)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(_OURS),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT_SECONDS),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="not heard of any more: killed, or lost")],
    )
    again = Automation(
        name="segflow: a run that crashed is started again",
        description="starts its deployment; it resumes, and a scene that always kills its run comes to quarantine",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(_OURS),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(source="inferred", schedule_after=timedelta(seconds=AGAIN_SECONDS))],
    )
    return silent, again


def _put(wanted: Automation) -> None:
    try:
        found = cast(Automation, Automation.read(name=wanted.name))
    except ValueError:
        wanted.create()
        return
    wanted.id = found.id
    wanted.update()


def _limit(client: SyncPrefectClient) -> int:
    """Return how many GPUs the server knows of, one at least: this machine may have fewer than those that work."""
    try:
        return max(1, client.read_global_concurrency_limit_by_name(GPU_LIMIT).limit)
    except ObjectNotFound:
        return 1


def _pool(client: SyncPrefectClient, name: str) -> str:
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=name, type="process", description="segflow"))
    return f"runs deployments; `prefect worker start --pool {name}` on each machine that works"
