"""Ledgers for tests: in a file, and in a PostgreSQL that is started here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from segflow.recipe import Recipe, parse_recipe

BOTH = [pytest.param("sqlite", id="sqlite"), pytest.param("postgresql", id="postgresql", marks=pytest.mark.system)]
"""Where a test's ledger is."""

SERVICE = {"settle_seconds": 0.0, "retries": 2, "lease_seconds": 30.0}


def recipe_with(ledger: str | None, folder: Path, **service: Any) -> Recipe:
    """Return a recipe whose ledger is there."""
    where = {} if ledger is None else {"ledger": ledger}
    parts = {"kind": "raster", "name": "nights", "inputs": "in", "service": SERVICE | where | service}
    return parse_recipe(parts, folder)


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _postgres_programs() -> Path:
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


@contextmanager
def postgres() -> Iterator[str]:
    """Start Debian's PostgreSQL with a database of its own, not as root, which it refuses; give its URL."""
    programs, home, port = _postgres_programs(), Path(mkdtemp(prefix="segflow-postgres-")), free_port()
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    if user:
        shutil.chown(home, "postgres", "postgres")
    quiet: dict[str, Any] = {"cwd": home, "stdout": subprocess.DEVNULL, **user}
    data = home / "data"
    subprocess.run([programs / "initdb", "-D", data, "-U", "ledger", "-A", "trust"], check=True, **quiet)
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home}"
    start = [programs / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start"]
    subprocess.run(start, check=True, **quiet)
    try:
        yield f"postgresql://ledger@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], check=True, **quiet)
        shutil.rmtree(home)
