"""A resume keeps what is done, however much memory is free when it comes to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import run
from pipelines.events import ChunkDone, Event
from pipelines.network.engine import Engine
from pipelines.planning.plan import ScenePlan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.scenes import NamedScene
from pipelines.predict import InProcess
from pipelines.runner import Stages
from segflow.models.card import LabelClass
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_raster

MIB = 1 << 20
PLENTY = "900 GB"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scene and a model of many classes, whose sums are what takes memory."""
    folder = tmp_path_factory.mktemp("scene")
    classes = tuple(LabelClass(id=k, name=f"class {k}", colour=f"#{k * 1000:06x}") for k in range(100))
    make_model(folder, classes=classes, ignore=(), patch=(256, 256))
    write_raster(folder / "a.tif", (1100, 1000))
    return folder


def recipe_of(scene: Path, out: Path, memory: str, **tiling: Any) -> Recipe:
    data = {
        "kind": "raster",
        "inputs": "a.tif",
        "model": {"weights": "random-raster.safetensors"},
        "outputs": {"folder": str(out)},
        "compute": {"memory": memory, "backend": "openvino"},
        "tiling": tiling,
    }
    return parse_recipe(data, scene)


class Planning:
    """Plans as `run` does, of a process whose own memory does not change from run to run; keeps the last plan."""

    plan: ScenePlan

    def __call__(self, recipe: Recipe, item: NamedScene, engine: Engine, *rest: Any) -> ScenePlan:
        self.plan = plan_scene(recipe, item, replace(engine, base_bytes=4096 * MIB, activation_bytes=8 * MIB), *rest)
        return self.plan


def made(recipe: Recipe, after: int | None = None) -> tuple[int, ScenePlan]:
    """Run a recipe, cut off after so many chunks; return how many were made, and the plan."""
    heard: list[Event] = []
    planning = Planning()

    def executor(engine: Engine) -> Any:
        def cut_off(*arguments: Any) -> Iterator[Any]:
            for number, record in enumerate(InProcess(engine.forward)(*arguments)):
                if number == after:
                    raise KeyboardInterrupt
                yield record

        return cut_off

    stages = Stages(plan=planning)
    if after is None:
        assert run(recipe, listener=heard.append, executor=executor, stages=stages).exit_code == 0
    else:
        with pytest.raises(KeyboardInterrupt):
            run(recipe, listener=heard.append, executor=executor, stages=stages)
    return sum(isinstance(event, ChunkDone) for event in heard), planning.plan


@pytest.fixture(scope="module")
def whole(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """The labels of an undisturbed run, and memory with which the scene is cut across."""
    out = tmp_path_factory.mktemp("whole") / "out"
    _, plan = made(recipe_of(scene, out, PLENTY))
    assert len(plan.task.layout) == 1
    return (out / "a_labels.tif").read_bytes(), f"{plan.demand.total_bytes // MIB - 16} MiB"


def test_more_memory_than_before_leaves_the_cut_and_all_that_is_done(
    scene: Path, whole: tuple[bytes, str], tmp_path: Path
) -> None:
    labels, tight = whole
    _, before = made(recipe_of(scene, tmp_path / "out", tight), after=3)
    assert len(before.task.layout) > 1
    chunks = sum(len(before.task.layout.chunks(block)) for block in before.task.layout)
    redone, plan = made(recipe_of(scene, tmp_path / "out", PLENTY))
    assert plan.task.layout == before.task.layout
    assert redone == chunks - 3
    assert (tmp_path / "out" / "a_labels.tif").read_bytes() == labels


def test_less_memory_than_the_cut_needs_is_told_and_not_exceeded(
    scene: Path, whole: tuple[bytes, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    labels, tight = whole
    made(recipe_of(scene, tmp_path / "out", PLENTY), after=3)
    with caplog.at_level(logging.WARNING):
        _, plan = made(recipe_of(scene, tmp_path / "out", tight))
    assert len(plan.task.layout) > 1
    assert "compute.memory" in caplog.text
    assert (tmp_path / "out" / "a_labels.tif").read_bytes() == labels


def test_a_block_that_the_user_asks_for_is_made_whatever_was_begun(
    scene: Path, whole: tuple[bytes, str], tmp_path: Path
) -> None:
    made(recipe_of(scene, tmp_path / "out", whole[1]), after=3)
    _, plan = made(recipe_of(scene, tmp_path / "out", PLENTY, block="whole"))
    assert len(plan.task.layout) == 1
