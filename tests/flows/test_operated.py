"""A real server, worker and schedule: what is due runs, what is killed comes back, nothing is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import psutil
import pytest

from tests.flows.ledgers import free_port, postgres
from tests.flows.servers import asked, kill_group, process, running, server
from tests.flows.test_train_command import folder

__all__ = ["folder"]  # a fixture
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
    previews = [item for item in artifacts if item["key"].startswith("served-preview-")]
    assert {(item["type"], item["description"]) for item in previews} == {("markdown", "s0"), ("markdown", "s1")}
    assert all("](data:image/" in item["data"] and len(item["data"]) < 100_000 for item in previews)
    (summary,) = [item["data"] for item in artifacts if item["key"] == "served-summary"]
    assert "**broken**" in summary
    logs = {"logs": {"flow_run_id": {"any_": [first["id"]]}}}
    wait(lambda: any("s0: done" in row["message"] for row in asked(api, "logs", **logs)), "logs", 30)
    labels = sorted(path.name for path in (making.folder / "out").glob("*_labels.tif"))
    assert labels == ["s0_labels.tif", "s1_labels.tif"]


@dataclass
class Long:
    """A recipe with one scene that takes a while, given to the work pool, and what it comes to undisturbed."""

    recipe: Path
    whole: dict[str, str]


@pytest.fixture
def long(place: Any, making: Any, spawn: Any, request: pytest.FixtureRequest) -> Long:
    _, env = place
    making.model(width=16)
    making.raster("in/long.tif", shape=(2400, 320))
    making.raster("in/after.tif", shape=(90, 80), seed=1)
    name = f"killed-{request.function.__name__.split('_')[2]}"
    service = {"settle_seconds": 0.2, "limit": "segflow-gpu"}
    recipe = making.recipe(name=name, inputs="in", tiling={"overlap": 0.5}, service=service)
    assert spawn("run", recipe, "--set", f"outputs.folder={making.folder / 'whole'}").code == 0
    segflow(env, making.folder, "deploy", str(recipe), "--pool", "night")
    run = [sys.executable, "-m", "prefect", "deployment", "run", f"segflow-new/{name}"]
    subprocess.run(run, env=env, check=True, cwd=making.folder, stdout=subprocess.DEVNULL)
    return Long(recipe, making.digests("whole"))


WORKER = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "night"]


def require_whole(api: str, making: Any, long: Long, name: str, states: list[str]) -> None:
    """The run after the one that was killed did the rest, and nothing twice."""
    wait(lambda: any(run["state_type"] == "COMPLETED" for run in runs(api, name)), "the run after", 500)
    found = [(run["state_type"], run["state"]["message"]) for run in runs(api, name)]
    assert [state for state, _ in found] == states, found
    assert making.digests("out") == long.whole
    forwards = next(item["report"]["run"] for item in making.report()["scenes"] if item["scene"] == "long")
    assert forwards["forwards"] < forwards["forwards_minimum"] + 10 * 20


def free_slots(api: str) -> bool:
    found = httpx.get(f"{api}/v2/concurrency_limits/segflow-gpu", timeout=30).json()
    return bool(found["active_slots"] == 0)


def test_a_flow_that_is_killed_is_crashed_started_again_and_goes_on(place: Any, making: Any, long: Long) -> None:
    api, env = place
    with process(WORKER, making.folder / "worker.log", env):
        wait(lambda: making.stored("long") >= 2, "two chunks")
        assert not free_slots(api)
        kill_flow(making.folder / "out" / ".segflow" / "lock")
        require_whole(api, making, long, "killed-flow", ["CRASHED", "COMPLETED"])
    wait(lambda: free_slots(api), "the slot of the run that was killed", 180)


def test_a_worker_that_is_killed_with_its_flow_is_noticed_by_silence(place: Any, making: Any, long: Long) -> None:
    api, env = place
    with process(WORKER, making.folder / "worker.log", env) as worker:
        wait(lambda: making.stored("long") >= 2, "two chunks")
        kill_group(worker)
        kill_flow(making.folder / "out" / ".segflow" / "lock")
    with process(WORKER, making.folder / "worker.log", env):
        require_whole(api, making, long, "killed-worker", ["CRASHED", "COMPLETED"])
    wait(lambda: free_slots(api), "the slot of the run that was killed", 180)


def test_a_server_that_is_killed_in_mid_run_and_comes_back_costs_no_scene(making: Any, spawn: Any) -> None:
    making.model(width=16)
    making.raster("in/long.tif", shape=(2400, 320))
    making.raster("in/after.tif", shape=(90, 80), seed=1)
    recipe = making.recipe(name="lost", inputs="in", tiling={"overlap": 0.5}, service={"settle_seconds": 0.2})
    assert spawn("run", recipe, "--set", f"outputs.folder={making.folder / 'whole'}").code == 0
    home, port = making.folder / "server", free_port()
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    log = making.folder / "run.log"
    with running(home, port) as (api, first):
        env = {**kept, "PREFECT_API_URL": api, "PREFECT_HOME": str(making.folder / "home"), "DO_NOT_TRACK": "1"}
        with process([str(EXECUTABLE), "run", str(recipe), "--new"], log, env) as run:
            wait(lambda: making.stored("long") >= 2, "two chunks")
            kill_group(first)
            sleep(2)
            with running(home, port):
                run.wait(240)
                again = subprocess.run([EXECUTABLE, "run", recipe, "--new"], env=env, capture_output=True, text=True)
    assert again.returncode == 0, log.read_text() + again.stderr
    assert making.digests("out") == making.digests("whole")
    forwards = next(item["report"]["run"] for item in reports(making) if item["scene"] == "long")
    assert forwards["forwards"] < forwards["forwards_minimum"] + 10 * 20


def test_a_training_is_a_flow_run(place: Any, folder: Path) -> None:
    api, env = place
    segflow(env, folder, "train", "toy.yaml", "--prefect")
    named = {"flow_runs": {"name": {"any_": [f"train-toy-{date.today().isoformat()}"]}}}
    (run,) = asked(api, "flow_runs", **named)
    assert (run["state_type"], run["state"]["message"]) == ("COMPLETED", str(folder / "made" / "toy.safetensors"))
    assert (folder / "made" / "toy.safetensors").exists()
    of_run = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    shown = {item["key"]: json.loads(item["data"]) for item in asked(api, "artifacts", **of_run)}
    assert shown["toy-models"][0]["report"] == str(folder / "made" / "toy_training.html")
    assert {row["class"] for row in shown["toy-scores"]} == {"dark", "bright"}


def reports(making: Any) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in (making.folder / "out").glob("*_report.json")]
    return [{"scene": report["scene"], "report": report} for report in found]


@pytest.mark.system
def test_server_and_ledger_in_postgresql_do_the_same(making: Any, spawn: Any, tmp_path: Path) -> None:
    making.model()
    making.raster("in/s0.tif")
    (tmp_path / "server").mkdir()
    with postgres() as url:
        database = url.replace("postgresql://", "postgresql+asyncpg://")
        service = {"settle_seconds": 0.2, "ledger": url}
        recipe = making.recipe(name="both", inputs="in", service=service)
        with server(tmp_path / "server", PREFECT_API_DATABASE_CONNECTION_URL=database) as api:
            for message in ("1 new, 0 known before", "nothing new, 1 known before"):
                assert spawn("run", recipe, "--new", PREFECT_API_URL=api).code == 0
                assert message in [run["state"]["message"] for run in runs(api, "both")]


def kill_flow(lock: Path) -> bool:
    """Kill the process that works in an output folder, as its lock tells."""
    number = int(lock.read_text().split()[1])
    with suppress(psutil.NoSuchProcess):
        os.kill(number, signal.SIGKILL)
        return True
    return False
