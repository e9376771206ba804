"""What work pools of each type make of a deployment: looked at without the daemons, which none of our tests has run."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import kubernetes_validate
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessJobConfiguration
from prefect_docker.worker import DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from tests.flows.conftest import EXECUTABLE, environment
from tests.flows.servers import server

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
IMAGE = "registry.example/segflow:0.1"
CONFIGURATIONS: dict[str, Any] = {
    "process": ProcessJobConfiguration,
    "docker": DockerWorkerJobConfiguration,
    "kubernetes": KubernetesWorkerJobConfiguration,
}


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A server with a pool of each type, made by Prefect's own command; give its URL and an environment."""
    home = tmp_path_factory.mktemp("pools")
    (home / "server").mkdir()
    with server(home / "server") as api:
        env = environment(home, PREFECT_API_URL=api, DO_NOT_TRACK="1")
        for kind in CONFIGURATIONS:
            called(env, home, "prefect", "work-pool", "create", f"of-{kind}", "--type", kind)
        called(env, home, "segflow", "prefect", "setup", "--pool", "segflow")
        yield api, env


def called(env: dict[str, str], folder: Path, program: str, *words: str) -> str:
    done = tried(env, folder, program, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tried(env: dict[str, str], folder: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [EXECUTABLE.with_name(program), *words]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_pool_s_worker_would_start_our_flow_in_our_image(kind: str, pools: Any, making: Any) -> None:
    api, env = pools
    recipe = making.recipe(name=f"in-{kind}", inputs="in")
    image = [] if kind == "process" else ["--image", IMAGE]
    words = ("deploy", str(recipe), "--pool", f"of-{kind}", "--cron", "0 2 * * *", *image, "--json")
    made = json.loads(called(env, making.folder, "segflow", *words))
    found = httpx.get(f"{api}/deployments/{made['id']}", timeout=60).json()
    assert found["entrypoint"] == "flows.prefect.flow.segment_new"
    template = httpx.get(f"{api}/work_pools/of-{kind}", timeout=60).json()["base_job_template"]
    with temporary_settings({PREFECT_API_URL: api}):
        configuration = asyncio.run(CONFIGURATIONS[kind].from_template_and_values(template, found["job_variables"]))
    configuration.prepare_for_flow_run(FlowRun(flow_id=found["flow_id"], name="segment-in"))
    require_job(kind, configuration)


def require_job(kind: str, configuration: Any) -> None:
    """Hold what would be started against what the image and the flow need."""
    if kind == "kubernetes":
        manifest = configuration.job_manifest
        kubernetes_validate.validate(manifest, "1.31", strict=False)
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        assert container["image"] == IMAGE
        assert container["args"] == ["prefect", "flow-run", "execute"]
        env = {item["name"]: item.get("value") for item in container["env"]}
    else:
        assert kind == "process" or configuration.image == IMAGE
        assert configuration.command.endswith("-m prefect.engine" if kind == "process" else "prefect flow-run execute")
        env = configuration.env
    assert env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert env["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_pool_of_containers_without_an_image_is_refused_with_the_remedy(kind: str, pools: Any, making: Any) -> None:
    _, env = pools
    done = tried(env, making.folder, "segflow", "deploy", str(making.recipe(inputs="in")), "--pool", f"of-{kind}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"of type {kind} starts containers, and no image is named" in done.stderr
    assert "--image" in done.stderr


def test_a_pool_that_is_not_there_is_told_with_the_remedy(pools: Any, making: Any) -> None:
    _, env = pools
    done = tried(env, making.folder, "segflow", "deploy", str(making.recipe(inputs="in")), "--pool", "nowhere")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "segflow prefect setup --pool nowhere" in done.stderr


def test_prefect_deploy_all_takes_the_committed_file(pools: Any) -> None:
    api, env = pools
    called(env, ROOT, "prefect", "--no-prompt", "deploy", "--all")
    found = httpx.get(f"{api}/deployments/name/segflow-new/demo-aerial", timeout=60).json()
    assert found["work_pool_name"] == "segflow"
    assert found["parameters"]["recipe"]["name"] == "demo-aerial"
    (schedule,) = found["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert found["tags"] == ["segflow"]


def test_setting_up_again_takes_no_gpu_away(pools: Any, tmp_path: Path) -> None:
    """From a machine with fewer of them, or by `make up`."""
    _, env = pools
    for more, limit in ((("--gpus", "4"), 4), ((), 4), (("--gpus", "2"), 2), ((), 2)):
        told = json.loads(called(env, tmp_path, "segflow", "prefect", "setup", "--json", *more))
        found = json.loads(called(env, tmp_path, "prefect", "gcl", "inspect", "segflow-gpu", "--output", "json"))
        assert found["limit"] == limit
        assert told[0]["does"].startswith(f"{limit} at once")


def test_a_server_with_our_settings_drops_runs_of_long_ago_with_their_logs_and_artifacts(tmp_path: Path) -> None:
    tables = ("flow_run", "log", "artifact")
    settings = {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_LOOP_SECONDS": "1",
    }
    with server(tmp_path, **settings) as api:
        env = environment(tmp_path, PREFECT_API_URL=api, DO_NOT_TRACK="1", PREFECT_LOGGING_TO_API_BATCH_INTERVAL="0.1")
        called(env, tmp_path, "python", "-c", NIGHTS)
        with closing(sqlite3.connect(tmp_path / "prefect.db", timeout=60, isolation_level=None)) as db:

            def count(table: str) -> int:
                return int(db.execute(f"select count(*) from {table}").fetchone()[0])

            both = [count(table) for table in tables]
            assert min(both) >= 2
            old = "update flow_run set end_time = datetime('now', '-91 days') where name = 'old'"
            assert db.execute(old).rowcount == 1
            end = monotonic() + 60
            while (found := [count(table) for table in tables]) != (
                half := [n // 2 for n in both]
            ) and monotonic() < end:
                sleep(0.5)
            assert found == half


NIGHTS = """
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

@flow
def night():
    get_run_logger().info("told")
    create_markdown_artifact("picture", key="preview")

for name in ("old", "new"):
    night.with_options(flow_run_name=name)()
"""
