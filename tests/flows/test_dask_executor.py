"""Blocks on Dask workers give the bits of one process; what goes wrong there is told here."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from distributed import Status

from flows.dask.cluster import fleet
from flows.dask.executor import DaskExecutor, connected
from pipelines.network.settle import settle
from pipelines.planning.plan import ScenePlan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.scenes import Selection, find_scenes
from pipelines.predict import InProcess, Workshop, predict
from segflow.errors import ClusterError, InputError, ModelError
from segflow.recipe import Compute, read_recipe


@pytest.fixture(scope="module")
def workers() -> Iterator[DaskExecutor]:
    """Two worker processes."""
    with fleet(Compute(workers=2)) as two, connected(two) as executor:
        assert isinstance(executor, DaskExecutor)
        yield executor


def scores(report: Any) -> Any:
    return [(s["report"]["overall"], s["report"]["classes"], s["report"]["confusion_matrix"]) for s in report["scenes"]]


def test_two_workers_give_the_bytes_and_scores_of_one_for_rasters(making: Any, segflow: Any, spawn: Any) -> None:
    making.model()
    for number in range(2):
        making.raster(f"in/s{number}.tif", (200, 170), seed=number)
    making.labels(shape=(200, 170))
    outputs = {"folder": "one", "confidence": True, "probabilities": True}
    path = making.recipe(inputs="in", references="truth.tif", outputs=outputs, tiling={"block": 80})
    assert segflow("run", path).code == 0
    result = spawn("run", path, "--set", "compute.workers=2", "--set", f"outputs.folder={making.folder / 'two'}")
    assert result.code == 0, result.err
    assert len(making.digests("one")) == 6
    assert making.digests("two") == making.digests("one")
    assert scores(making.report("two")) == scores(making.report("one"))
    fingerprints = [
        [scene["report"]["run"]["fingerprint"] for scene in making.report(folder)["scenes"]]
        for folder in ("one", "two")
    ]
    assert fingerprints[0] == fingerprints[1]
    # Nothing of Dask's own is told: only how the scenes go.
    assert all(line.startswith(("s0: ", "s1: ")) for line in result.err.splitlines()), result.err


def planned(making: Any, **parts: Any) -> tuple[ScenePlan, Workshop]:
    """Return a scene's plan of several blocks, and a workshop."""
    making.recipe(tiling={"block": 64}, **parts)
    recipe = read_recipe(making.folder / "recipe.yaml")
    engine = settle(recipe)
    try:
        (item,) = find_scenes(recipe, engine.model.card)
        return plan_scene(recipe, item, engine, Selection()), Workshop(making.folder / "workshop")
    finally:
        engine.close()


def test_workers_listen_on_this_machine_only_and_go_when_the_run_is_over() -> None:
    before = set(psutil.Process().children(recursive=True))
    with fleet(Compute(workers=2)) as two, connected(two) as executor:
        assert isinstance(executor, DaskExecutor)
        children = set(psutil.Process().children(recursive=True)) - before
        hosts = {
            connection.laddr.ip
            for process in (psutil.Process(), *children)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        assert hosts == {"127.0.0.1"}
        assert len(executor._client.scheduler_info()["workers"]) == 2
    _, alive = psutil.wait_procs([item for item in children if "resource_tracker" not in " ".join(_words(item))], 20)
    assert not alive


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


def test_a_worker_that_computes_other_bits_is_refused(making: Any, workers: DaskExecutor) -> None:
    making.model()
    making.raster()
    plan, workshop = planned(making)
    with pytest.raises(ModelError, match="other bits than the driver's") as refused:
        predict(replace(plan, probe="0" * 64), workshop, workers)
    assert "same environment" in refused.value.remedy
    assert predict(plan, workshop, workers).forwards == plan.task.layout.forwards


def test_scenes_of_a_run_share_one_topic_since_a_scheduler_keeps_them_all(making: Any, workers: DaskExecutor) -> None:
    making.model()
    making.raster()
    plan, workshop = planned(making)
    for number in range(3):
        predict(plan, replace(workshop, folder=making.folder / f"workshop{number}"), workers)
    topics = workers._client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.get_events()))
    assert sum(topic.startswith("segflow-") for topic in topics) == 1


def test_a_connection_that_was_lost_between_two_scenes_is_made_anew(making: Any) -> None:
    making.model()
    making.raster()
    plan, workshop = planned(making)
    with fleet(Compute(workers=1)) as one, connected(one) as executor:
        assert isinstance(executor, DaskExecutor)
        executor._client.close()
        assert list(executor(workshop, plan, iter(()))) == []
        assert executor._client.status == "running"


def test_workers_that_dask_has_paused_are_told_and_not_waited_for_without_end(
    making: Any, caplog: pytest.LogCaptureFixture
) -> None:
    making.model()
    making.raster()
    plan, workshop = planned(making)
    with fleet(Compute(workers=1, wait_seconds=6)) as one, connected(one) as executor:
        assert isinstance(executor, DaskExecutor)
        executor._client.run(_pause)
        with caplog.at_level("WARNING"), pytest.raises(ClusterError, match="paused by Dask for 6 s") as told:
            predict(plan, workshop, executor)
    assert "memory-limit" in told.value.remedy
    assert "are paused by Dask" in caplog.text


def _pause(dask_worker: Any) -> None:
    dask_worker.status = Status.paused


def test_a_cluster_that_does_not_end_well_does_not_hide_a_result(caplog: pytest.LogCaptureFixture) -> None:
    wanted = {"class": "tests.flows.clusters.EndsBadly", "processes": False, "dashboard_address": ":0"}
    with caplog.at_level("WARNING"), fleet(Compute(workers=1, cluster=wanted)) as found:
        assert found.most == 1
    assert "did not end well (TimeoutError: the queue does not answer)" in caplog.text


def test_an_error_in_a_worker_comes_back_with_its_place_and_no_worker_goes_on(
    making: Any, workers: DaskExecutor, capfd: pytest.CaptureFixture[str]
) -> None:
    making.model()
    path = making.raster(shape=(400, 170))
    plan, workshop = planned(making)
    with rasterio.open(path, "r+") as file:
        offset = 300 * 170
        length = file.width * file.height
    stamp, whole = (path.stat().st_atime_ns, path.stat().st_mtime_ns), path.read_bytes()
    path.write_bytes(whole[: len(whole) - length * 3 + offset])
    with pytest.raises(InputError) as told:
        predict(plan, workshop, workers)
    assert "a.tif" in told.value.found
    stored = {file: file.stat().st_mtime_ns for file in workshop.folder.rglob("*")}
    threading.Event().wait(1.0)
    assert {file: file.stat().st_mtime_ns for file in workshop.folder.rglob("*")} == stored
    path.write_bytes(whole)
    os.utime(path, ns=stamp)
    assert predict(plan, workshop, workers).forwards_minimum == plan.task.layout.forwards_minimum
    assert capfd.readouterr().err == ""


def test_a_network_that_gives_nan_is_told_with_its_place(making: Any, segflow: Any, workers: DaskExecutor) -> None:
    making.model()
    values = np.full((3, 200, 120), 128.0, np.float32)
    values[:, 150, 60] = np.float32(3e38)
    making.write("a.tif", values)
    model = {"weights": "toy.safetensors", "normalisation": {"mean": [128.0], "deviation": [0.001]}}
    plan, workshop = planned(making, model=model)
    with pytest.raises(ModelError) as told:
        predict(plan, workshop, workers)
    assert "finite" in told.value.expected
    assert re.search(r"\(\d+, \d+\)", told.value.found)
    result = segflow("run", making.folder / "recipe.yaml")
    assert result.code == 2, result.err
    assert re.search(r"\(\d+, \d+\)", result.err)
    assert "Traceback" not in result.err
    assert not making.digests()


def test_a_worker_that_dies_is_replaced_and_the_bytes_are_the_same(
    making: Any, segflow: Any, start: Any, wait_for: Any
) -> None:
    making.model(width=16)
    making.raster(shape=(1200, 320))
    path = making.recipe(tiling={"overlap": 0.5, "block": 200}, compute={"workers": 2})
    whole = making.folder / "whole"
    assert segflow("run", path, "--set", f"outputs.folder={whole}", "--set", "compute.workers=1").code == 0
    process: subprocess.Popen[str] = start("run", path)
    wait_for(lambda: process.poll() is not None or making.stored() >= 2, "two chunks")
    victims = [
        item for item in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(_words(item))
    ]
    victims[0].kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert making.digests("out") == making.digests("whole")
    classes = [making.report(folder)["scenes"][0]["report"]["classes"] for folder in ("out", "whole")]
    assert classes[0] == classes[1]


@pytest.mark.parametrize("kind", ["raster", "volume"])
def test_one_process_and_workers_store_the_same_chunks_and_counts(
    kind: str, making: Any, workers: DaskExecutor, tmp_path: Path
) -> None:
    making.model(kind)
    if kind == "raster":
        making.raster()
        making.labels()
        making.recipe(references="truth.tif", tiling={"block": 64})
    else:
        making.volume()
        making.volume("truth.nii.gz", labels=True)
        making.recipe(kind=kind, inputs="a.nii.gz", references="truth.nii.gz", tiling={"block": 24})
    recipe = read_recipe(making.folder / "recipe.yaml")
    engine = settle(recipe)
    try:
        (item,) = find_scenes(recipe, engine.model.card)
        plan = plan_scene(recipe, item, engine, Selection())
        told: list[list[Any]] = [[], []]
        executors = (InProcess(engine.forward), workers)
        totals = [
            predict(plan, Workshop(tmp_path / f"w{number}"), executor, told[number].append)
            for number, executor in enumerate(executors)
        ]
    finally:
        engine.close()
    one, two = (sorted((r.block, r.number, r.checksum, r.forwards) for r in records) for records in told)
    assert one == two
    assert len({row[:2] for row in two}) == len(two) > 1
    assert totals[0].counts.to_json() == totals[1].counts.to_json()
