"""A real PostgreSQL with PostGIS on loopback, for a test: nothing of it is left."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg

from tests.system.archive import free_port

PASSWORD = "s3cret:p@ss/word"
QUOTED = "s3cret%3Ap%40ss%2Fword"


@dataclass(frozen=True)
class Database:
    """Where it listens, at 127.0.0.1.

    Attributes:
        port: of the server.
        folder: of its files; its log is in there.
    """

    port: int
    folder: Path

    def url(self, password: str = QUOTED, database: str = "gis") -> str:
        """How its owner reaches it."""
        return f"postgresql://owner:{password}@127.0.0.1:{self.port}/{database}"

    def ask(self, query: Any, *values: Any, database: str = "gis") -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent


def _run(*command: str, folder: Path) -> None:
    """Run a program of the server's, which refuses to run as root."""
    as_other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run([*as_other, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL)


@contextmanager
def postgis() -> Iterator[Database]:
    """Start a server with a database `gis` that has PostGIS and one, `plain`, that has not; end it."""
    folder = Path(mkdtemp(prefix="segflow-postgis-"))
    data, port = folder / "data", free_port()
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
            shutil.chown(secret, "postgres")
        programs = _programs()
        rules = ["--auth=scram-sha-256", "--username=owner", f"--pwfile={secret}", "--encoding=UTF8", "--no-sync"]
        _run(str(programs / "initdb"), "-D", str(data), *rules, folder=folder)
        settings = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
        log = str(folder / "server.log")
        _run(str(programs / "pg_ctl"), "-D", str(data), "-l", log, "-o", settings, "-w", "start", folder=folder)
        try:
            database = Database(port, folder)
            for name in ("gis", "plain"):
                database.ask(f"CREATE DATABASE {name}", database="postgres")
            database.ask("CREATE EXTENSION postgis")
            yield database
        finally:
            _run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop", folder=folder)
    finally:
        shutil.rmtree(folder)
