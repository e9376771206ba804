"""What work pools of each type make of a deployment: looked at without the daemons, which none of our tests has run."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
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
