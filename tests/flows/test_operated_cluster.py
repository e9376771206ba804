"""A schedule, a work pool, a Dask cluster, all of real processes: whatever is killed in mid-run, the night is whole."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.flows.clusters import Kept, Processes, processes
from tests.flows.servers import process, supervised
from tests.flows.test_operated import WORKER, kill_flow, runs, segflow, wait

pytestmark = pytest.mark.slow
WORKERS = 2
PATCHES_A_BLOCK = 11 * 11


@dataclass(frozen=True)
class Site:
    """What runs all the time, each under a supervisor: server, a worker of its pool, scheduler, Dask workers."""

    api: str
    env: dict[str, str]
    server: Kept
    dask: Processes
    scheduler: Kept
    workers: list[Kept]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """All of it, once."""
    home = tmp_path_factory.mktemp("site")
    (home / "server").mkdir()
    with supervised(home / "server") as (api, server), processes(home / "dask") as dask:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        env = {**kept, "PREFECT_API_URL": api, "PREFECT_HOME": str(home / "home"), "DO_NOT_TRACK": "1"}
        env |= {"PREFECT_WORKER_QUERY_SECONDS": "2"}
        segflow(env, home, "prefect", "setup", "--pool", "night", "--gpus", "1")
        scheduler = dask.supervised(dask.scheduler)
        workers = [dask.supervised() for _ in range(WORKERS)]
        with process(WORKER, home / "worker.log", env):
            yield Site(api, env, server, dask, scheduler, workers)


@dataclass(frozen=True)
class Night:
    """A recipe with two scenes that a schedule runs, and what they come to in one process without a schedule."""

    making: Any
    name: str
    whole: dict[str, str]
    forwards: int

    @property
    def hidden(self) -> Path:
        """Where an unfinished run keeps what it has."""
        return Path(self.making.folder / "out" / ".segflow")


@pytest.fixture
def night(site: Site, making: Any, spawn: Any, request: pytest.FixtureRequest) -> Iterator[Night]:
    """A deployment that is due each minute, in mid-run: two chunks of the long scene are stored."""
    making.model(width=16)
    making.raster("in/long.tif", shape=(1600, 320))
    making.raster("in/after.tif", shape=(90, 80), seed=1)
    name = f"cluster-{request.node.callspec.params['who'].replace(' ', '-')}"
    service = {"settle_seconds": 0.2, "limit": "segflow-gpu"}
    compute = {"cluster": site.dask.address, "workers": WORKERS}
    tiling = {"overlap": 0.5, "block": 160}
    recipe = making.recipe(name=name, inputs="in", tiling=tiling, service=service, compute=compute)
    alone = ("--set", "compute.cluster=local", "--set", "compute.workers=1")
    assert spawn("run", recipe, *alone, "--set", f"outputs.folder={making.folder / 'whole'}").code == 0
    segflow(site.env, making.folder, "deploy", str(recipe), "--pool", "night", "--cron", "* * * * *")
    wait(lambda: making.stored("long") >= 2, "two chunks", 300)
    yield Night(making, name, making.digests("whole"), forwards_of(making, "whole"))
    found = httpx.get(f"{site.api}/deployments/name/segflow-new/{name}", timeout=60).json()
    httpx.delete(f"{site.api}/deployments/{found['id']}", timeout=60).raise_for_status()


def forwards_of(making: Any, folder: str) -> int:
    """Return how many patches of the long scene were run."""
    scenes = making.report(folder)["scenes"]
    return int(next(item["report"]["run"]["forwards"] for item in scenes if item["scene"] == "long"))


KILLS: dict[str, Callable[[Site, Night], Any]] = {
    "dask worker": lambda site, _: site.workers[0].kill(),
    "scheduler": lambda site, _: site.scheduler.kill(),
    "flow": lambda _, night: kill_flow(night.hidden / "lock"),
    "server": lambda site, _: site.server.kill(),
}


@pytest.mark.parametrize("who", KILLS)
def test_what_is_killed_in_mid_run_costs_neither_byte_nor_scene(who: str, site: Site, night: Night) -> None:
    assert (night.hidden / "lock").exists()
    KILLS[who](site, night)
    wait(lambda: done(night) == {"after", "long"}, "both scenes in the ledger", 500)
    wait(lambda: completed(site, night) and not (night.hidden).exists(), "a run that is Completed", 300)
    assert night.making.digests("out") == night.whole
    assert forwards_of(night.making, "out") <= night.forwards + WORKERS * PATCHES_A_BLOCK
    once(night)
    wait(lambda: "nothing new, 2 known before" in messages(site, night), "the next minute's run", 300)
    once(night)
    wait(lambda: httpx_slots(site) == 0, "the slot", 180)
    wait(lambda: not left(night), "the end of all that worked for the night")


def done(night: Night) -> set[str]:
    """Return the scenes that the ledger knows as done."""
    return {name for name, state in asked(night, "select name, state from segflow_scene") if state == "done"}


def once(night: Night) -> None:
    """The runs together have done each scene once, and none is lost, failed or put aside."""
    (total,) = asked(night, "select sum(done), sum(failed) from segflow_run")
    rows = asked(night, "select name, state, failures from segflow_scene order by name")
    assert rows == [("after", "done", 0), ("long", "done", 0)]
    assert total[0] <= 2  # a run that was killed has told nobody what it had done by then
    assert total[1] == 0


def asked(night: Night, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{night.making.folder / 'out' / 'ledger.sqlite'}?mode=ro", uri=True)) as ledger:
        return ledger.execute(query).fetchall()


def answered(site: Site, night: Night) -> list[dict[str, Any]]:
    """Return the night's flow runs; none while the server is away."""
    try:
        return runs(site.api, night.name)
    except (httpx.HTTPError, ValueError):
        return []


def completed(site: Site, night: Night) -> bool:
    return any(run["state_type"] == "COMPLETED" for run in answered(site, night))


def messages(site: Site, night: Night) -> list[str]:
    return [run["state"]["message"] for run in answered(site, night)]


def httpx_slots(site: Site) -> int:
    found = httpx.get(f"{site.api}/v2/concurrency_limits/segflow-gpu", timeout=30).json()
    return int(found["active_slots"])


def left(night: Night) -> list[list[str]]:
    """Return the processes that have a file of the night's outputs open, or its lock."""
    found = []
    for item in psutil.process_iter():
        try:
            files = [file.path for file in item.open_files()]
            if any(path.startswith(str(night.making.folder / "out")) for path in files):
                found.append(item.cmdline())
        except psutil.Error:
            continue
    return found
