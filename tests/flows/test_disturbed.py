"""A disk that is full, a folder that is lost or read-only, weights that are replaced, two Ctrl-C: it goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from time import monotonic, sleep
from typing import Any

import psutil
import pytest

from flows.cli.main import main
from tests.flows.killing import steady

SHAPE = (640, 160)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, making_in: Callable[[Path], Any]) -> Any:
    """A scene, and what a run gives that nothing disturbs."""
    made = making_in(tmp_path_factory.mktemp("whole"))
    made.model(width=12)
    made.raster(shape=SHAPE)
    assert main(["run", str(recipe(made, made)), "-q"]) == 0
    return made


def recipe(making: Any, whole: Any, workers: int = 1, folder: str = "out") -> Path:
    """Write a recipe for the scene."""
    path: Path = making.recipe(
        inputs=str(whole.folder / "a.tif"),
        model={"weights": str(whole.folder / "toy.safetensors")},
        outputs={"folder": folder, "confidence": True},
        compute={"workers": workers, "memory": "16GiB"},
        tiling={"overlap": 0.5, "batch": 1},
    )
    return path


def require_as_whole(making: Any, whole: Any, segflow: Any, path: Path, folder: str = "out") -> None:
    """Run the same command again, and compare all with the run that nothing disturbed."""
    result = segflow("run", path, "-q")
    assert result.code == 0, result.err
    assert making.digests(folder) == whole.digests()
    assert steady(making.report(folder)) == steady(whole.report())
    assert not [file for file in (making.folder / folder).iterdir() if file.name.startswith(".")]


def require_told(result: Any, *words: str) -> None:
    """A run that could not go on says why, what helps, and publishes nothing."""
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert "remedy: " in result.err
    for word in words:
        assert word in result.err


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Make a folder a small file system of its own, where this process may; else leave it a folder."""
    folder.mkdir()
    own = os.geteuid() == 0 and not mounted("-t", "tmpfs", "-o", "size=64m", "tmpfs", folder)
    try:
        yield
    finally:
        if own:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder: Path, process: subprocess.Popen[str]) -> Iterator[None]:
    """Fill a disk for a while; where it is not a small one, let a process write no file beyond some bytes."""
    if not folder.is_mount():
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1 << 10, 1 << 10))
        yield
        return
    hog = folder / "hog"
    with hog.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    yield
    hog.unlink()


def mounted(*words: str | Path) -> int:
    """Mount; return what `mount` does."""
    with suppress(FileNotFoundError):
        return subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode
    return 127


def test_a_disk_that_fills_up_stops_the_run_with_the_remedy_and_with_room_it_goes_on(
    whole: Any, making: Any, segflow: Any, start: Any
) -> None:
    path = recipe(making, whole, folder="disk/out")
    with disk(making.folder / "disk"):
        process = start("run", path)
        stored_by(process, making, "disk/out")
        with full(making.folder / "disk", process):
            _, err = process.communicate(timeout=120)
        assert process.returncode == 2, err
        assert "Traceback" not in err
        assert "free some space" in err
        assert "the same command goes on from here" in err
        assert not making.digests("disk/out")
        assert making.stored(folder="disk/out") >= 2
        require_as_whole(making, whole, segflow, path, "disk/out")


def test_an_output_folder_that_cannot_be_written_is_refused_at_once(whole: Any, making: Any, segflow: Any) -> None:
    path = recipe(making, whole, folder="locked/out")
    with read_only(making.folder / "locked"):
        require_told(segflow("run", path), "cannot write to", "outputs.folder")
    require_as_whole(making, whole, segflow, path, "locked/out")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only for a while: by a mount for root, whom rights do not bind."""
    folder.mkdir(exist_ok=True)
    if os.geteuid() == 0 and not mounted("--bind", folder, folder):
        try:
            assert not mounted("-o", "remount,ro,bind", folder)
            yield
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        return
    folder.chmod(0o555)
    try:
        yield
    finally:
        folder.chmod(0o755)


def stored_by(process: subprocess.Popen[str], making: Any, folder: str = "out") -> None:
    """Wait until a run has recorded two chunks."""
    end = monotonic() + 120
    while making.stored(folder=folder) < 2:
        assert process.poll() is None, process.communicate()
        assert monotonic() < end
        sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_output_folder_that_is_lost_in_mid_run_ends_it_and_the_next_begins_anew(
    workers: int, whole: Any, making: Any, segflow: Any, start: Any
) -> None:
    path = recipe(making, whole, workers)
    process = start("run", path)
    stored_by(process, making)
    (making.folder / "out").rename(making.folder / "away")
    rmtree(making.folder / "away")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert "remedy: " in err
    assert not making.digests()
    require_as_whole(making, whole, segflow, path)


@pytest.mark.parametrize("pause_seconds", [pytest.param(0.0, marks=pytest.mark.slow), 0.3])
def test_ctrl_c_twice_ends_all_processes_and_the_same_command_goes_on(
    pause_seconds: float, whole: Any, making: Any, segflow: Any, start: Any
) -> None:
    path = recipe(making, whole, 2)
    process = start("run", path)
    stored_by(process, making)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=pause_seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert err.count("Traceback") == 0, err
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert making.stored() >= 2
    require_as_whole(making, whole, segflow, path)


def test_weights_that_are_replaced_in_mid_run_are_not_mixed_with_those_of_before(
    whole: Any, making: Any, segflow: Any, start: Any
) -> None:
    """A worker that dies comes back with a network of other weights: it is refused."""
    weights = making.model(width=12)
    other = making.model(width=12, name="other", seed=4)
    path = recipe(making, making, 2)
    making.raster(shape=SHAPE)
    process = start("run", path)
    stored_by(process, making)
    other.replace(weights)
    for child in psutil.Process(process.pid).children(recursive=True):
        if "spawn_main" in " ".join(child.cmdline()):
            child.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert "weights" in err
    assert not making.digests()
    assert segflow("run", path, "-q").code == 0
    alone = making.folder / "alone"
    assert segflow("run", path, "-q", "--set", f"outputs.folder={alone}", "--set", "compute.workers=1").code == 0
    assert making.digests("out") == making.digests("alone") != whole.digests()


def test_the_second_of_two_runs_is_told_who_holds_the_folder(whole: Any, making: Any, segflow: Any, start: Any) -> None:
    path = recipe(making, whole)
    process = start("run", path)
    stored_by(process, making)
    second = segflow("run", path)
    require_told(second, "another run is working in", f"process {process.pid} on ")
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert making.digests() == whole.digests()
