"""A run on a real cluster, whatever happens to it, gives the bytes of a run in one process."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.cli.main import main
from tests.flows.clusters import Processes, object_store, processes

SLOWNESS = '''
"""Makes a worker slower: each block takes SLOW times as long again."""
import os
import time
from pathlib import Path

import flows.dask.worker as worker

# Dask may load this file twice.
run_block = getattr(worker.run_block, "unslowed", worker.run_block)


def slowly(*arguments):
    began = time.monotonic()
    for record in run_block(*arguments):
        time.sleep(float(os.environ["SLOW"]) * (time.monotonic() - began))
        yield record
        began = time.monotonic()
    with Path(os.environ["SLOW_LOG"]).open("a") as log:
        log.write("x")


slowly.unslowed = run_block
worker.run_block = slowly
'''


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Processes]:
    """Starts schedulers and workers, outside of the recipe's folder."""
    with processes(tmp_path / "elsewhere") as made:
        yield made


@pytest.fixture(scope="module", params=["raster", "volume"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, making_in: Any) -> Any:
    """A small scene of either kind, and its result from one process."""
    made = making_in(tmp_path_factory.mktemp("one"))
    made.model(request.param)
    if request.param == "raster":
        made.raster(shape=(300, 170))
        made.recipe(tiling={"block": 80})
    else:
        made.volume()
        made.recipe(kind="volume", inputs="a.nii.gz", tiling={"block": 24})
    assert main(["run", str(made.folder / "recipe.yaml"), "-q"]) == 0
    return made


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory, making_in: Any) -> Any:
    """A scene of some seconds in many blocks, and its result from one process."""
    made = making_in(tmp_path_factory.mktemp("longer"))
    made.model(width=16)
    made.raster(shape=(1200, 320))
    made.recipe(tiling={"overlap": 0.5, "block": 160})
    assert main(["run", str(made.folder / "recipe.yaml"), "-q"]) == 0
    return made


def run_on(start: Any, made: Any, folder: Path, cluster: str, *settings: str) -> subprocess.Popen[str]:
    """Start the scene's run on a cluster, into a folder."""
    chosen = (f"compute.cluster={cluster}", f"outputs.folder={folder}", *settings)
    process: subprocess.Popen[str] = start(
        "run", made.folder / "recipe.yaml", *(word for item in chosen for word in ("--set", item))
    )
    return process


def require_the_bytes_of_one_process(process: subprocess.Popen[str], made: Any, folder: Path) -> str:
    """Wait for a run's end, and compare what it has made; return what it said."""
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert made.digests()
    assert made.digests(folder) == made.digests()
    assert not (folder / ".segflow").exists()
    return err


def begun(made: Any, folder: Path, process: subprocess.Popen[str], chunks: int) -> Callable[[], bool]:
    """Tell whether a run has stored so many chunks."""

    def enough() -> bool:
        assert process.poll() is None, process.communicate()
        return bool(made.stored(folder=str(folder)) >= chunks)

    return enough


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with two workers, one of which has two threads."""
    with processes(tmp_path_factory.mktemp("standing")) as made:
        made.scheduler()
        made.worker()
        made.worker("--nthreads", "2")
        yield made.address


def test_a_running_scheduler_gives_the_bytes_of_one_process(
    either: Any, standing: str, segflow: Any, tmp_path: Path
) -> None:
    require_same(either, segflow, tmp_path / "out", f"compute.cluster={standing}")


@pytest.mark.slow
def test_four_workers_give_the_bytes_of_one_process(either: Any, segflow: Any, tmp_path: Path) -> None:
    require_same(either, segflow, tmp_path / "out", "compute.workers=4")


def require_same(made: Any, segflow: Any, folder: Path, setting: str) -> None:
    path = made.folder / "recipe.yaml"
    result = segflow("run", path, "--set", setting, "--set", f"outputs.folder={folder}")
    assert result.code == 0, result.err
    assert made.digests()
    assert made.digests(folder) == made.digests()
    assert not (folder / ".segflow").exists()


def test_workers_that_see_neither_weights_nor_output_folder_stage_in_an_object_store(
    making: Any, dask: Processes, start: Any, wait_for: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The weights lie in a folder that is gone by the time that workers read them."""
    making.model()
    making.raster()
    making.recipe(tiling={"block": 64}, outputs={"folder": "out", "confidence": True})
    assert main(["run", str(making.folder / "recipe.yaml"), "-q"]) == 0
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with object_store(tmp_path, wait_for) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        import s3fs

        bucket = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
        bucket.mkdir("staging")
        dask.scheduler()
        process = run_on(start, making, tmp_path / "s3", dask.address, "compute.staging=s3://staging/runs")
        wait_for(lambda: bool(bucket.glob("staging/runs/*/scenes/a/*/parcel.json")), "the parcel")
        hidden = making.folder / "elsewhere.safetensors"
        (making.folder / "toy.safetensors").rename(hidden)
        dask.worker()
        require_the_bytes_of_one_process(process, making, tmp_path / "s3")
        assert bucket.find("staging") == []


def test_a_worker_that_is_killed_in_mid_run_changes_no_byte(
    longer: Any, dask: Processes, start: Any, wait_for: Any, tmp_path: Path
) -> None:
    dask.scheduler()
    victim = dask.worker()
    dask.worker()
    process = run_on(start, longer, tmp_path / "out", dask.address)
    wait_for(begun(longer, tmp_path / "out", process, 3), "three chunks")
    victim.send_signal(signal.SIGKILL)
    require_the_bytes_of_one_process(process, longer, tmp_path / "out")


def at_work(folder: Path) -> set[str]:
    """Return the workers that have loaded the network."""
    return {path.relative_to(folder).parts[0] for path in folder.glob("worker-*/**/segflow/*/0/*")}


@pytest.mark.slow
def test_a_worker_that_joins_late_gets_work_and_changes_no_byte(
    longer: Any, dask: Processes, start: Any, wait_for: Any, tmp_path: Path
) -> None:
    preload = dask.folder / "slowness.py"
    preload.write_text(SLOWNESS)
    dask.scheduler()
    # So slow that there is work left when the other one has started, on a busy machine too.
    dask.worker("--preload", str(preload), SLOW_LOG=str(dask.folder / "slow"), SLOW="4")
    process = run_on(start, longer, tmp_path / "out", dask.address)
    wait_for(begun(longer, tmp_path / "out", process, 1), "a chunk", 300)
    assert len(at_work(dask.folder)) == 1
    dask.worker()
    wait_for(lambda: len(at_work(dask.folder)) == 2 or process.poll() is not None, "work for the second worker", 300)
    assert len(at_work(dask.folder)) == 2
    require_the_bytes_of_one_process(process, longer, tmp_path / "out")


@pytest.mark.slow
def test_a_worker_that_is_ten_times_slower_does_not_hold_up_the_rest(
    longer: Any, dask: Processes, start: Any, wait_for: Any, tmp_path: Path
) -> None:
    preload = dask.folder / "slowness.py"
    preload.write_text(SLOWNESS)
    dask.scheduler()
    dask.worker("--preload", str(preload), SLOW_LOG=str(dask.folder / "slow"), SLOW="9")
    dask.worker("--preload", str(preload), SLOW_LOG=str(dask.folder / "quick"), SLOW="0")
    process = run_on(start, longer, tmp_path / "out", dask.address)
    require_the_bytes_of_one_process(process, longer, tmp_path / "out")
    slow, quick = (len((dask.folder / name).read_text()) for name in ("slow", "quick"))
    assert slow >= 1
    assert quick >= 3 * slow, (quick, slow)


@pytest.mark.slow
def test_a_scheduler_that_is_killed_and_comes_back_changes_no_byte(
    longer: Any, dask: Processes, start: Any, wait_for: Any, tmp_path: Path
) -> None:
    scheduler = dask.scheduler()
    for _ in range(2):
        dask.supervised()
    process = run_on(start, longer, tmp_path / "out", dask.address)
    wait_for(begun(longer, tmp_path / "out", process, 3), "three chunks")
    scheduler.send_signal(signal.SIGKILL)
    scheduler.wait()
    dask.scheduler()
    said = require_the_bytes_of_one_process(process, longer, tmp_path / "out")
    assert "is gone; waiting up to 300 s" in said
    assert "what was not done is submitted again" in said


@pytest.mark.slow
def test_workers_stop_soon_when_the_driver_is_killed_and_the_same_command_goes_on(
    longer: Any, dask: Processes, start: Any, wait_for: Any, tmp_path: Path
) -> None:
    dask.scheduler()
    dask.worker()
    process = run_on(start, longer, tmp_path / "out", dask.address)
    wait_for(begun(longer, tmp_path / "out", process, 3), "three chunks")
    process.kill()
    process.communicate()
    again = run_on(start, longer, tmp_path / "out", dask.address)
    require_the_bytes_of_one_process(again, longer, tmp_path / "out")


@pytest.mark.slow
def test_an_adaptive_cluster_of_a_class_starts_workers_for_the_work(longer: Any, start: Any, tmp_path: Path) -> None:
    cluster = (
        "{class: distributed.LocalCluster, n_workers: 0, threads_per_worker: 1, host: 127.0.0.1, "
        'dashboard_address: "127.0.0.1:0", adapt: {minimum: 0, maximum: 2}}'
    )
    process = run_on(start, longer, tmp_path / "out", cluster)
    require_the_bytes_of_one_process(process, longer, tmp_path / "out")


@pytest.mark.parametrize(
    ("cluster", "found", "remedy"),
    [
        ("no_such_module.Cluster", "no_such_module.Cluster, which cannot be imported", "install its package"),
        ("os.system", "os.system, which is no Dask cluster", "correct the name"),
    ],
)
def test_a_class_that_is_no_cluster_is_refused_before_anything_runs(
    cluster: str, found: str, remedy: str, making: Any, segflow: Any
) -> None:
    making.model()
    making.raster()
    result = segflow("run", making.recipe(compute={"cluster": {"class": cluster}}))
    assert result.code == 2
    assert found in result.err
    assert remedy in result.err
    assert not (making.folder / "out").exists()


@pytest.mark.parametrize(
    "cluster", ["10.0.0.1:8786", "http://10.0.0.1:8786", "tcp://10.0.0.1", {"adapt": {"maximum": 2}}, 3]
)
def test_a_cluster_that_cannot_be_meant_is_refused_by_the_recipe(cluster: Any, making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    result = segflow("run", making.recipe(compute={"cluster": cluster}))
    assert result.code == 2
    assert "compute.cluster" in result.err


def test_arguments_that_a_class_does_not_take_are_told(making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    result = segflow(
        "run", making.recipe(compute={"cluster": {"class": "distributed.LocalCluster", "interface": "none7"}})
    )
    assert result.code == 2
    assert "distributed.LocalCluster cannot be started" in result.err
    assert "none7" in result.err


def test_a_scheduler_that_does_not_answer_and_one_without_workers_are_told_with_the_remedy(
    making: Any, segflow: Any, dask: Processes
) -> None:
    making.model()
    making.raster()
    path = making.recipe(compute={"cluster": dask.address, "wait_seconds": 4})
    result = segflow("run", path)
    assert result.code == 2
    assert f"no scheduler answers at {dask.address}" in result.err
    assert "dask scheduler" in result.err
    dask.scheduler()
    result = segflow("run", path, "--set", "compute.wait_seconds=12")
    assert result.code == 2
    assert "has had no worker for 12 s" in result.err
    assert "raise compute.wait_seconds" in result.err
    assert not making.digests()
