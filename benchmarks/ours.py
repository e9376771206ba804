"""segflow's own contestants: a whole run, with settings, and the bare forwards that no run can do without."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks.case import Case, model_of, recipe_of

Job = Callable[[], Mapping[str, Any]]


def run(settings: Mapping[str, Any]) -> Callable[[Case], Job]:
    """Return the contestant `segflow run`, from the recipe to the published label map and report."""

    def prepared(case: Case) -> Job:
        import pipelines
        from pipelines.predict import InProcess

        folder = Path(case.folder) / "ours" / "-".join((case.name, *(str(value) for value in settings.values())))
        recipe = recipe_of(case, folder, dict(settings))

        def job() -> Mapping[str, Any]:
            shutil.rmtree(folder, ignore_errors=True)
            settled: list[tuple[float, float]] = []

            def executor(engine: Any) -> InProcess:
                settled.append((perf_counter(), process_time()))
                return InProcess(engine.forward)

            began = perf_counter()
            outcome = pipelines.run(recipe, executor=executor)
            ended, processor = perf_counter(), process_time()
            (scene,) = outcome.report.scenes
            if scene.report is None:
                raise RuntimeError(scene.error)
            wall, used = settled[0]
            return {
                "seconds": ended - wall,
                "processor": processor - used,
                "startup": wall - began,
                "windows": scene.report.run.forwards,
                "labels": str(next(folder.glob("*_labels.tif" if case.kind == "raster" else "*_dseg.nii.gz"))),
                "stages": dict(scene.report.run.seconds),
            }

        return job

    return prepared


def bare(case: Case) -> Job:
    """The same backend and nothing else: as many forwards as the input needs at least, of one patch in memory."""
    from segflow.backends import load_forward, resolve_settings

    model = model_of(case)
    recipe = recipe_of(case, Path(case.folder), {})
    forward = load_forward(model, resolve_settings(recipe.compute, recipe.tiling.batch, model.card.patch))
    patch = np.random.default_rng(0).standard_normal((case.channels, *model.card.patch), np.float32)

    def job() -> Mapping[str, Any]:
        count = sum(1 for _ in forward.stream(patch for _ in range(case.windows)))
        return {"windows": count}

    return job
