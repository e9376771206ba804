"""What a real process connects to and listens at, as the kernel sees it: libraries in C included."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.flows.servers import running
from tests.flows.test_train_command import RECIPE
from tests.flows.test_train_command import folder as folder
from tests.making import make_model, write_raster
from tests.system.archive import free_port

pytestmark = pytest.mark.system

SEGFLOW = str(Path(sys.executable).with_name("segflow"))
_OTHER = re.compile(r"(connect|bind)\(\d+, \{sa_family=AF_INET6?, .*?\"([0-9a-f.:]+)\"")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The environment of a user who has turned off nothing, and whose libraries have not asked yet."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for key in list(os.environ):
        if re.match(r"PREFECT_|DO_NOT_TRACK$|DASK_|HF_|ORT_|CI$", key):
            monkeypatch.delenv(key)


def places(trace: Path) -> Iterator[tuple[str, str]]:
    """Yield (connect or bind, address) of a trace."""
    text = trace.read_text(errors="replace")
    assert "connect" in text or "bind" in text or "exited" in text
    for found in _OTHER.finditer(text):
        yield found[1], found[2]


def traced(folder: Path, *command: str, **env: str) -> set[tuple[str, str]]:
    """Run a command to its end; return whatever it connected to or listened at, other than this machine alone."""
    trace = folder / "trace"
    watch = ["strace", "-f", "-e", "trace=connect,bind", "-o", str(trace)]
    found = subprocess.run([*watch, *command], cwd=folder, env=os.environ | env, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return {place for place in places(trace) if place[1] not in ("127.0.0.1", "::1")}


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_speaks_with_nobody(tmp_path: Path, workers: int) -> None:
    make_model(tmp_path)
    write_raster(tmp_path / "a.tif", shape=(150, 170))
    recipe = {"kind": "raster", "inputs": "a.tif", "model": {"weights": "random-raster.safetensors"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"compute": {"workers": workers}}))
    assert traced(tmp_path, SEGFLOW, "run", "recipe.yaml") == set()


@pytest.mark.usefixtures("plain")
def test_a_training_speaks_with_nobody(folder: Path) -> None:
    train = RECIPE["train"] | {"steps": 4, "validation": {"scenes": ["s1"], "every": 4}}
    (folder / "train.yaml").write_text(yaml.safe_dump(RECIPE | {"train": train}))
    assert traced(folder, SEGFLOW, "train", "train.yaml") == set()


@pytest.mark.usefixtures("plain")
def test_a_flow_run_speaks_with_its_server_alone(tmp_path: Path) -> None:
    make_model(tmp_path)
    write_raster(tmp_path / "a.tif", shape=(150, 170))
    recipe = {"kind": "raster", "inputs": "a.tif", "model": {"weights": "random-raster.safetensors"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"service": {"settle_seconds": 0.2}}))
    (tmp_path / "home").mkdir()
    with running(tmp_path / "home", free_port()) as (api, _):
        assert traced(tmp_path, SEGFLOW, "run", "recipe.yaml", "--new", PREFECT_API_URL=api) == set()
