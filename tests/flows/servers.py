"""A real Prefect server, and processes that talk to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx

from tests.flows.ledgers import free_port


@contextmanager
def server(home: Path, **settings: str) -> Iterator[str]:
    """Start a server on a free port with a database in a folder; give the API's URL."""
    with running(home, free_port(), **settings) as (url, _):
        yield url


@contextmanager
def running(home: Path, port: int, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a server with a database in a folder; give the API's URL and the process."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    quiet = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    start = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with process([sys.executable, "-m", *start], home / "server.log", kept | quiet | settings) as started:
        url = f"http://127.0.0.1:{port}/api"
        _wait_for_health(url, started, home / "server.log")
        yield url, started


@contextmanager
def process(command: list[str], log: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a group of its own, and end it with all that it started."""
    with log.open("ab") as told:
        started = subprocess.Popen(command, env=env, stdout=told, stderr=told, cwd=log.parent, start_new_session=True)
        try:
            yield started
        finally:
            if started.poll() is None:
                started.send_signal(signal.SIGTERM)
            try:
                started.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()


def kill_group(started: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started in its group."""
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def _wait_for_health(url: str, started: subprocess.Popen[bytes], log: Path) -> None:
    end = monotonic() + 180
    while True:
        assert started.poll() is None, log.read_text()
        assert monotonic() < end, log.read_text()
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            sleep(0.2)


def asked(api: str, what: str, **filters: Any) -> list[dict[str, Any]]:
    """Return what a server knows: flow_runs, task_runs, artifacts, logs."""
    found: list[dict[str, Any]] = httpx.post(f"{api}/{what}/filter", json=filters, timeout=60).json()
    return found
