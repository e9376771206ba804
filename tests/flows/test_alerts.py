"""The alerts of docs/operations.md, loaded into a real server as they stand there, call a real receiver."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copy
from threading import Thread
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
import yaml

from tests.flows.servers import asked, process, server

EXECUTABLE = Path(sys.executable).with_name("segflow")
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def documented(language: str, first: str) -> str:
    """Return the page's block of a language that begins with a line."""
    blocks = re.findall(rf"^```{language}\n({re.escape(first)}.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = blocks
    return str(found)


@contextmanager
def receiver() -> Iterator[tuple[str, list[str]]]:
    """Listen on loopback; give a URL, and the bodies of all that was posted to it."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        Thread(target=listening.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}/on-call", heard
        finally:
            listening.shutdown()


def wait(holds: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    end = monotonic() + seconds
    while not (found := holds()):
        assert monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        sleep(0.3)
    return found


def ended(api: str, deployment: str) -> str:
    """Start a run of a deployment, and return its state's name."""
    once = {"idempotency_key": uuid4().hex}  # a busy server may refuse the first time
    post = partial(httpx.post, f"{api}/deployments/{deployment}/create_flow_run", json=once, timeout=60)
    made = wait(lambda: post().json().get("id"), "a run")

    def state() -> str | None:
        found = httpx.get(f"{api}/flow_runs/{made}", timeout=60).json()
        return str(found["state_name"]) if found["state_type"] in ("COMPLETED", "FAILED", "CRASHED") else None

    return str(wait(state, "the run's end"))


def called(*command: str | Path, env: dict[str, str], folder: Path) -> str:
    done = subprocess.run([*map(str, command)], env=env, cwd=folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def night(making: Any, segflow: Any) -> Path:
    """A recipe with a reference that its first scene meets in every cell."""
    making.model()
    making.raster("in/s0.tif", shape=(80, 90))
    once = making.recipe(inputs="in/s0.tif", outputs={"folder": "first"}, file="once.yaml")
    assert segflow("run", once, "-q").code == 0
    (making.folder / "truth").mkdir()
    copy(making.folder / "first" / "s0_labels.tif", making.folder / "truth" / "s0.tif")
    service = {"settle_seconds": 0.1, "drift": "1 %"}
    path: Path = making.recipe(name="nightly", inputs="in", references="truth/{stem}.tif", service=service)
    return path


@pytest.mark.slow
def test_the_documented_alerts_call_a_receiver_when_results_drift_and_when_a_night_fails(
    night: Path, making: Any
) -> None:
    home = making.folder / "server"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    with receiver() as (url, heard), server(home) as api:
        env = {**kept, "PREFECT_API_URL": api, "PREFECT_HOME": str(home / "own"), "DO_NOT_TRACK": "1"}
        env |= {"PREFECT_RUNNER_POLL_FREQUENCY": "2", "ON_CALL_URL": url}
        script = making.folder / "on_call.py"
        script.write_text(documented("python", "# on_call.py"))
        block = called(sys.executable, script, env=env, folder=making.folder).strip()
        alerts = making.folder / "alerts.yaml"
        alerts.write_text(documented("yaml", "# alerts.yaml").replace('"ID"', f'"{block}"'))
        called(EXECUTABLE.with_name("prefect"), "automation", "create", "--from-file", alerts, env=env, folder=home)
        wanted = {item["name"] for item in yaml.safe_load(alerts.read_text())["automations"]}
        assert {item["name"] for item in asked(api, "automations")} == wanted
        serving = [str(EXECUTABLE), "serve", str(night), "--name", "nightly"]
        with process(serving, making.folder / "serve.log", env):
            served = f"{api}/deployments/name/segflow-new/nightly"
            wait(lambda: httpx.get(served, timeout=60).status_code == 200, "the deployment")
            deployment = httpx.get(served, timeout=60).json()["id"]
            assert ended(api, deployment) == "Completed"
            assert heard == []
            making.write("in/s2.tif", np.full((3, 80, 90), 7, np.uint8))
            making.labels("truth/s2.tif", shape=(80, 90))
            assert ended(api, deployment) == "Completed"
            wait(lambda: heard, "the call that results drift")
            (said,) = heard
            assert said.startswith("nightly: ")
            assert re.search(r"mean IoU 0\.\d+, 1\.000 before", said)
            assert re.search(r"(water|wood|town) covers .*; ", said)
            assert "[" not in said
            (making.folder / "in" / "broken.tif").write_bytes(b"II*\0 no more")
            assert ended(api, deployment) == "Failed"
            wait(lambda: len(heard) > 1, "the call that a night failed")
        assert len(heard) == 2
        assert heard[1].startswith("segment-nightly-")
        assert "1 failed (broken)" in heard[1]
