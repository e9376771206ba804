"""A Prefect server that is away, is none, or is of another time: one clear error, at once, with the remedy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.flows.ledgers import free_port


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """Serve a folder: an HTTP server that is not Prefect's."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


def test_each_command_says_at_once_that_no_server_answers(making: Any, spawn: Any) -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    recipe = making.recipe()
    for command in (("run", recipe, "--new"), ("prefect", "setup"), ("deploy", recipe, "--pool", "p")):
        result = spawn(*command, PREFECT_API_URL=url)
        assert result.code == 2
        assert result.err.startswith(f"segflow: no Prefect server answers at {url}")
        assert "remedy: prefect server start" in result.err
        assert "Traceback" not in result.err


@pytest.mark.parametrize("version", ["2.20.1", "<html>no version</html>"])
def test_what_is_no_server_of_this_prefects_is_told(tmp_path: Path, spawn: Any, version: str) -> None:
    (tmp_path / "api" / "admin").mkdir(parents=True)
    (tmp_path / "api" / "admin" / "version").write_text(f'"{version}"')
    with files_served(tmp_path) as url:
        other = spawn("prefect", "setup", PREFECT_API_URL=url)
        nothing = spawn("prefect", "setup", PREFECT_API_URL=url.removesuffix("/api"))
    expected = f"has version {version}" if version[0] == "2" else "is no Prefect API"
    assert expected in other.err
    assert "is no Prefect API" in nothing.err
    assert (other.code, nothing.code) == (2, 2)
