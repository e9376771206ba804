"""A real Prefect server, and processes that talk to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from typing import Any

import httpx

from tests.flows.clusters import Kept
from tests.flows.ledgers import free_port

LEASES = "prefect.server.concurrency.lease_storage.filesystem"
"""Who holds a slot, kept on the disk: a killed server forgets what is in its memory, and never frees the slot."""


@contextmanager
def server(home: Path, **settings: str) -> Iterator[str]:
    """Start a server on a free port with a database in a folder; give the API's URL."""
    with running(home, free_port(), **settings) as (url, _):
        yield url


@contextmanager
def running(home: Path, port: int, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a server with a database in a folder; give the API's URL and the process."""
    with process(_command(port), home / "server.log", _environment(home, settings)) as started:
        url = f"http://127.0.0.1:{port}/api"
        _wait_for_health(url, started, home / "server.log")
        yield url, started


@contextmanager
def supervised(home: Path) -> Iterator[tuple[str, Kept]]:
    """Start a server that is started again, on the same port and database, when it ends; give the API's URL and it."""
    port, over = free_port(), Event()

    def start() -> subprocess.Popen[bytes]:
        with (home / "server.log").open("ab") as log:
            env = _environment(home, {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES})
            return subprocess.Popen(_command(port), env=env, stdout=log, stderr=log, start_new_session=True)

    kept = Kept(start, over)
    try:
        _wait_for_health(f"http://127.0.0.1:{port}/api", kept.process, home / "server.log")
        yield f"http://127.0.0.1:{port}/api", kept
    finally:
        over.set()
        kept.thread.join()
        kill_group(kept.process)


def _command(port: int) -> list[str]:
    start = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    return [sys.executable, "-m", *start]


def _environment(home: Path, settings: dict[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    quiet = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    return kept | quiet | settings


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
