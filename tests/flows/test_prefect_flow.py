"""A run as a flow run of a real Prefect server: one task a stage and scene, the same bytes; none without an API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import psutil
import pytest

from tests.flows.servers import asked, server


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on a free port with a database of its own; gives the API's URL."""
    with server(tmp_path_factory.mktemp("prefect")) as url:
        yield url


def flow_runs(api: str, name: str) -> list[dict[str, Any]]:
    filters = {"flow_runs": {"name": {"any_": [f"segment-{name}-{date.today().isoformat()}"]}}}
    found: list[dict[str, Any]] = httpx.post(f"{api}/flow_runs/filter", json=filters, timeout=30).json()
    return found


def task_runs(api: str, run: dict[str, Any]) -> list[str]:
    filters = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    found = httpx.post(f"{api}/task_runs/filter", json=filters, timeout=30).json()
    return sorted(f"{row['name']}: {row['state_type']}" for row in found)


def require_task_runs(api: str, run: dict[str, Any], expected: list[str]) -> None:
    """Task runs come to the server as events, a little later."""
    end = monotonic() + 30
    while task_runs(api, run) != expected and monotonic() < end:
        sleep(0.2)
    assert task_runs(api, run) == expected


def require_logged(api: str, run: dict[str, Any], expected: list[str]) -> None:
    """Logs come to the server in batches, a little later."""
    end = monotonic() + 30
    while True:
        rows = asked(api, "logs", logs={"flow_run_id": {"any_": [run["id"]]}})
        lacking = [text for text in expected if not any(row["message"].startswith(text) for row in rows)]
        if not lacking:
            return
        assert monotonic() < end, (lacking, rows)
        sleep(0.2)


def test_a_run_is_a_flow_run_with_one_task_a_stage_and_the_same_bytes(
    api: str, making: Any, segflow: Callable[..., Any], spawn: Callable[..., Any]
) -> None:
    making.model()
    for number in range(2):
        making.raster(f"in/s{number}.tif", seed=number)
    path = making.recipe(name="two", inputs="in/*.tif", tiling={"block": 64}, outputs={"folder": "direct"})
    assert segflow("run", path).code == 0
    into = ("--set", f"outputs.folder={making.folder / 'flow'}", "--set", "compute.workers=2")
    result = spawn("run", path, *into, PREFECT_API_URL=api)
    assert result.code == 0, result.err
    assert making.digests("flow") == making.digests("direct")
    assert [line for line in result.err.splitlines() if not line.startswith(("s0: ", "s1: "))] == []
    (run,) = flow_runs(api, "two")
    assert run["state"]["type"] == "COMPLETED"
    assert run["state"]["message"] == f"2 scenes in {making.folder / 'flow'}"
    require_logged(api, run, ["s0: scene 1 of 2, ", "s1: scene 2 of 2, "])
    stages = ("export", "plan", "predict", "report")
    require_task_runs(api, run, [f"{stage} {scene}: COMPLETED" for stage in stages for scene in ("s0", "s1")])
    assert run["parameters"] == {
        "recipe": {
            "kind": "raster",
            "name": "two",
            "inputs": {"path": "in/*.tif"},
            "model": {"weights": "toy.safetensors"},
            "tiling": {"block": 64},
            "compute": {"workers": 2},
            "outputs": {"folder": str(making.folder / "flow")},
        },
        "base": str(making.folder),
        "selection": None,
        "force": False,
    }


def test_a_failed_scene_makes_a_failed_flow_run_that_names_it(api: str, making: Any, spawn: Callable[..., Any]) -> None:
    making.model()
    making.raster("in/good.tif")
    (making.folder / "in" / "broken.tif").write_bytes(b"II*\0 no more")
    result = spawn("run", making.recipe(name="half", inputs="in/*.tif"), "--limit", "2", PREFECT_API_URL=api)
    assert result.code == 1
    assert "Traceback" not in result.err
    (run,) = flow_runs(api, "half")
    assert run["state"]["type"] == "FAILED"
    assert run["state"]["message"] == "1 of 2 scenes failed: broken"
    assert run["parameters"]["selection"] == {"limit": 2}
    stages = [f"{stage} good: COMPLETED" for stage in ("export", "plan", "predict", "report")]
    require_task_runs(api, run, sorted([*stages, "plan broken: FAILED"]))


def test_a_run_that_cannot_be_is_a_failed_flow_run_and_told_as_ever(
    api: str, making: Any, spawn: Callable[..., Any]
) -> None:
    making.model()
    before = set(making.folder.rglob("*"))
    path = making.recipe(name="none", inputs="nowhere.tif")
    result = spawn("run", path, PREFECT_API_URL=api)
    assert result.code == 2
    assert "there is no file" in result.err
    assert "  remedy: " in result.err
    assert "Traceback" not in result.err
    (run,) = flow_runs(api, "none")
    assert run["state"]["type"] == "FAILED"
    left = set(making.folder.rglob("*")) - before - {path}
    assert all("prefect" in item.parts for item in left)


def test_a_stopped_flow_run_is_told_as_stopped_and_goes_on(
    api: str, making: Any, segflow: Callable[..., Any], start: Callable[..., Any], wait_for: Callable[..., None]
) -> None:
    making.model(width=16)
    making.raster(shape=(1200, 320))
    path = making.recipe(name="stop", tiling={"overlap": 0.5})
    assert segflow("run", path, "--set", f"outputs.folder={making.folder / 'whole'}").code == 0
    process = start("run", path, PREFECT_API_URL=api)
    wait_for(lambda: process.poll() is not None or making.stored() >= 2, "two chunks")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    (run,) = flow_runs(api, "stop")
    assert run["state"]["type"] in ("CRASHED", "CANCELLED")
    assert segflow("run", path).code == 0
    assert making.digests("out") == making.digests("whole")


def test_without_an_api_prefect_is_neither_imported_nor_started(making: Any) -> None:
    making.model()
    making.raster()
    path = making.recipe()
    code = (
        "import sys, psutil; from flows.cli import main; "
        f"code = main(['run', {str(path)!r}, '-q']); "
        "print(code, 'prefect' in sys.modules, 'distributed' in sys.modules, len(psutil.Process().children()))"
    )
    home = making.folder / "home"
    env = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**env, "PREFECT_HOME": str(home)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "False", "False", "0"], done.stderr
    assert not home.exists()
    fresh = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in before and str(home) in str(p.info["cmdline"])]
    assert not fresh


@pytest.mark.parametrize(
    ("profiles", "env", "expected"),
    [
        (None, {}, False),
        (None, {"PREFECT_API_URL": "http://127.0.0.1:1/api"}, True),
        ('active = "one"\n[profiles.one]\nPREFECT_API_URL = "http://h/api"\n', {}, True),
        ('active = "two"\n[profiles.one]\nPREFECT_API_URL = "http://h/api"\n[profiles.two]\n', {}, False),
        ('active = "two"\n[profiles.one]\nPREFECT_API_URL = "http://h/api"\n', {"PREFECT_PROFILE": "one"}, True),
        ("not toml [", {}, False),
    ],
)
def test_an_api_is_configured_by_the_environment_or_the_active_profile(
    profiles: str | None, env: dict[str, str], expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.launch import prefect_configured

    for key in [key for key in os.environ if key.startswith("PREFECT_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    if profiles is not None:
        (tmp_path / "profiles.toml").write_text(profiles)
    assert prefect_configured() is expected
