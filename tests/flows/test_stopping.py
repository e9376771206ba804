"""A run that is stopped, however it is stopped, goes on where it was, to the same bytes, and leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.cli.main import main

SIZE = (1000, 320)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return a process and all that it started."""
    leader = psutil.Process(process.pid)
    return [leader, *leader.children(recursive=True)]


def require_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive, [item.cmdline() for item in alive]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, making_in: Callable[[Path], Any]) -> Any:
    """A scene of some seconds, and what a run gives that nobody stops."""
    made = making_in(tmp_path_factory.mktemp("whole"))
    made.model(width=24)
    made.raster(shape=SIZE)
    assert main(["run", str(recipe(made, made, 1)), "-q"]) == 0
    return made


def recipe(making: Any, whole: Any, workers: int) -> Path:
    """Write a recipe for the scene."""
    path: Path = making.recipe(
        inputs=str(whole.folder / "a.tif"),
        model={"weights": str(whole.folder / "toy.safetensors")},
        outputs={"folder": "out", "confidence": True},
        compute={"workers": workers},
        tiling={"overlap": 0.5},
    )
    return path


@pytest.mark.parametrize(
    ("sign", "workers"), [(signal.SIGTERM, 1), (signal.SIGKILL, 1), (signal.SIGINT, 2), (signal.SIGKILL, 2)]
)
def test_a_stopped_run_goes_on_to_the_same_bytes(
    sign: signal.Signals, workers: int, whole: Any, making: Any, segflow: Any, start: Any, wait_for: Any
) -> None:
    path = recipe(making, whole, workers)
    process = start("run", path)
    wait_for(lambda: process.poll() is not None or making.stored() >= 3, "three chunks")
    assert process.poll() is None, process.communicate()
    processes = family(process)
    assert len(processes) > workers or workers == 1
    if sign == signal.SIGINT:  # as a terminal does on Ctrl-C: to the whole group
        os.killpg(process.pid, sign)
    else:
        process.send_signal(sign)
    out, err = process.communicate(timeout=60)
    require_gone(processes)
    if sign == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert (process.returncode, out) == (3, "")
        assert err.splitlines()[-1] == "segflow: stopped; the same command goes on from here"
    assert "Traceback" not in err
    assert not making.digests()
    assert making.stored() >= 3

    result = segflow("run", path, "--json")
    assert result.code == 0, result.err
    assert making.digests() == whole.digests()
    assert not (making.folder / "out" / ".segflow").exists()
    again, once = (made.report()["scenes"][0]["report"] for made in (making, whole))
    assert again["classes"] == once["classes"]
    assert again["run"]["fingerprint"] == once["run"]["fingerprint"]
    # Patches that overlap the first missing row are run again; had it begun afresh, none would be.
    if workers == 1:
        least = again["run"]["forwards_minimum"]
        assert least < again["run"]["forwards"] < 1.5 * least


def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(
    whole: Any, making: Any, segflow: Any, start: Any, wait_for: Any
) -> None:
    path = recipe(making, whole, 1)
    process = start("run", path)
    wait_for(lambda: (making.folder / "out" / ".segflow" / "lock").exists(), "the lock")
    second = segflow("run", path)
    assert second.code == 2
    assert "another run is working in" in second.err
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert making.digests() == whole.digests()
