"""A real server, worker and schedule: what is due runs, what is killed comes back, nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import psutil
import pytest

from tests.flows.servers import asked, process, server

pytestmark = pytest.mark.slow
EXECUTABLE = Path(sys.executable).with_name("segflow")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A server that is set up for segflow; give its URL and the environment of who talks to it."""
    home = tmp_path_factory.mktemp("operated")
    (home / "server").mkdir()
    with server(home / "server") as api:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        env = {**kept, "PREFECT_API_URL": api, "PREFECT_HOME": str(home / "home"), "DO_NOT_TRACK": "1"}
        env |= {"PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
        for _ in range(2):  # the second time all is there
            segflow(env, home, "prefect", "setup", "--pool", "night", "--gpus", "1")
        yield api, env


def segflow(env: dict[str, str], folder: Path, *arguments: str) -> str:
    done = subprocess.run([EXECUTABLE, *arguments], env=env, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs(api: str, name: str) -> list[dict[str, Any]]:
    named = {"flow_runs": {"name": {"any_": [f"segment-{name}-{date.today().isoformat()}"]}}}
    return asked(api, "flow_runs", **named, sort="START_TIME_ASC")


def wait(holds: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    end = monotonic() + seconds
    while not (found := holds()):
        assert monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        sleep(0.5)
    return found


def test_a_served_schedule_fires_and_its_run_shows_what_it_did(place: Any, making: Any) -> None:
    api, env = place
    making.model()
    for number in range(2):
        making.raster(f"in/s{number}.tif", seed=number)
    service = {"settle_seconds": 0.2, "max_failed": "50 %"}
    recipe = making.recipe(name="served", inputs="in", service=service, model={"weights": "${WEIGHTS}"})
    (making.folder / "in" / "broken.tif").write_bytes(b"II*\0 no more")
    secret = str(making.folder / "toy.safetensors")
    command = [str(EXECUTABLE), "serve", str(recipe), "--cron", "* * * * *"]
    log = making.folder / "serve.log"
    with process(command, log, env | {"WEIGHTS": secret, "PLANTED": "planted-secret"}):
        ended = ("COMPLETED", "FAILED", "CRASHED")
        first = wait(lambda: [run for run in runs(api, "served") if run["state_type"] in ended], "the schedule")[0]
    assert (first["state_type"], first["state_name"]) == ("COMPLETED", "Degraded"), log.read_text()
    assert first["state"]["message"] == "2 new, 1 failed (broken), 0 known before"
    assert first["parameters"]["recipe"]["model"] == {"weights": "${WEIGHTS}"}
    of_run = {"artifacts": {"flow_run_id": {"any_": [first["id"]]}}}
    artifacts = wait(lambda: asked(api, "artifacts", **of_run), "artifacts", 30)
    assert {item["key"] for item in artifacts} >= {"served-progress", "served-scenes", "served-classes"}
    assert {item["key"] for item in artifacts} >= {"served-summary", "served-report"}
    (summary,) = [item["data"] for item in artifacts if item["key"] == "served-summary"]
    assert "**broken**" in summary
    logs = {"logs": {"flow_run_id": {"any_": [first["id"]]}}}
    wait(lambda: any("s0: done" in row["message"] for row in asked(api, "logs", **logs)), "logs", 30)
    labels = sorted(path.name for path in (making.folder / "out").glob("*_labels.tif"))
    assert labels == ["s0_labels.tif", "s1_labels.tif"]


def test_a_flow_that_is_killed_is_crashed_started_again_and_goes_on(place: Any, making: Any, spawn: Any) -> None:
    api, env = place
    making.model(width=16)
    making.raster("in/long.tif", shape=(1600, 320))
    making.raster("in/after.tif", shape=(90, 80), seed=1)
    service = {"settle_seconds": 0.2, "limit": "segflow-gpu"}
    recipe = making.recipe(name="killed", inputs="in", tiling={"overlap": 0.5}, service=service)
    whole = f"outputs.folder={making.folder / 'whole'}"
    assert spawn("run", recipe, "--set", whole).code == 0
    start = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "night"]
    with process(start, making.folder / "worker.log", env):
        deploy = [EXECUTABLE, "deploy", recipe, "--pool", "night"]
        subprocess.run(deploy, env=env, check=True, cwd=making.folder, stdout=subprocess.DEVNULL)
        run = [sys.executable, "-m", "prefect", "deployment", "run", "segflow-new/killed"]
        subprocess.run(run, env=env, check=True, cwd=making.folder, stdout=subprocess.DEVNULL)
        wait(lambda: making.stored("long") >= 2, "two chunks")
        limit = httpx.get(f"{api}/v2/concurrency_limits/segflow-gpu", timeout=30).json()
        assert limit["active_slots"] == 1
        stored, killed = making.stored("long"), kill_flow(making.folder / "out" / ".segflow" / "lock")
        wait(lambda: any(run["state_type"] == "COMPLETED" for run in runs(api, "killed")), "the run after")
    states = [(run["state_type"], run["state"]["message"]) for run in runs(api, "killed")]
    assert [state for state, _ in states] == ["CRASHED", "COMPLETED"], states
    assert states[1][1] in ("2 new, 0 known before", "1 new, 1 known before")
    assert making.digests("out") == making.digests("whole")
    assert killed
    forwards = next(item["report"]["run"] for item in making.report()["scenes"] if item["scene"] == "long")
    assert forwards["forwards"] < forwards["forwards_minimum"] + 10 * 20
    assert stored >= 2
    wait(
        lambda: httpx.get(f"{api}/v2/concurrency_limits/segflow-gpu", timeout=30).json()["active_slots"] == 0,
        "the slot of the run that was killed",
        180,
    )


def kill_flow(lock: Path) -> bool:
    """Kill the process that works in an output folder, as its lock tells."""
    number = int(lock.read_text().split()[1])
    with suppress(psutil.NoSuchProcess):
        os.kill(number, signal.SIGKILL)
        return True
    return False
