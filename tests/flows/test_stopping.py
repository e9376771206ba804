"""A run that is stopped, however it is stopped, goes on where it was, to the same bytes, and leaves no process."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import psutil
import pytest

SIZE = (1600, 320)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return a process and all that it started."""
    leader = psutil.Process(process.pid)
    return [leader, *leader.children(recursive=True)]


def require_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive, [item.cmdline() for item in alive]


def prepare(making: Any, segflow: Any, workers: int) -> dict[str, str]:
    """Make a scene of some seconds, and return what a run gives that nobody stops."""
    making.model(width=24)
    making.raster(shape=SIZE)
    making.recipe(outputs={"folder": "out", "confidence": True}, compute={"workers": workers}, tiling={"overlap": 0.5})
    flags = ("--set", f"outputs.folder={making.folder / 'whole'}", "--set", "compute.workers=1")
    assert segflow("run", making.folder / "recipe.yaml", *flags).code == 0
    digests: dict[str, str] = making.digests("whole")
    return digests


@pytest.mark.parametrize(
    ("sign", "workers"),
    [
        (signal.SIGTERM, 1),
        (signal.SIGINT, 1),
        (signal.SIGKILL, 1),
        (signal.SIGTERM, 2),
        (signal.SIGINT, 2),
        (signal.SIGKILL, 2),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(
    sign: signal.Signals, workers: int, making: Any, segflow: Any, start: Any, wait_for: Any
) -> None:
    whole = prepare(making, segflow, workers)
    process = start("run", making.folder / "recipe.yaml")
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

    result = segflow("run", making.folder / "recipe.yaml", "--json")
    assert result.code == 0, result.err
    assert making.digests() == whole
    assert not (making.folder / "out" / ".segflow").exists()
    again, once = (making.report(folder)["scenes"][0]["report"] for folder in ("out", "whole"))
    assert again["classes"] == once["classes"]
    assert again["run"]["fingerprint"] == once["run"]["fingerprint"]
    # Patches that overlap the first missing row are run again; had it begun afresh, none would be.
    if workers == 1:
        least = again["run"]["forwards_minimum"]
        assert least < again["run"]["forwards"] < 1.5 * least


def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(
    making: Any, segflow: Any, start: Any, wait_for: Any
) -> None:
    whole = prepare(making, segflow, 1)
    process = start("run", making.folder / "recipe.yaml")
    wait_for(lambda: (making.folder / "out" / ".segflow" / "lock").exists(), "the lock")
    second = segflow("run", making.folder / "recipe.yaml")
    assert second.code == 2
    assert "another run is working in" in second.err
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert making.digests() == whole
