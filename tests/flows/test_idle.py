"""A scheduled run with nothing to do loads nothing that opens, segments or reports: most runs are such."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segflow.recipe import Recipe

HEAVY = {
    *("torch", "monai", "lightning", "openvino", "onnx", "onnxruntime", "scipy", "sklearn", "cc3d"),
    *("rasterio", "nibabel", "pydicom", "highdicom", "zarr", "shapely", "pyproj", "pyarrow", "PIL", "skimage"),
    *("dask", "distributed", "psycopg", "pipelines.runner", "pipelines.planning.prepare", "segflow.report"),
    *("segflow.io.opening", "segflow.io.raster", "segflow.io.volume", "segflow.backends", "segflow.sweep"),
}
IDLE = """
import json, sys
from pathlib import Path
import flows.prefect.flow
from flows.incremental.run import run_increment
from segflow.recipe import read_recipe
night = run_increment(read_recipe(Path(sys.argv[1])))
print(json.dumps([night.to_json(), sorted(sys.modules)]))
"""


def test_a_server_that_knows_parameters_as_json_only_gives_flows_a_recipe() -> None:
    """As a scheduled run gets them: a name that is not found would let every run fail before it begins."""
    from flows.prefect.flow import segment_new, train_model

    plain = {"kind": "raster", "inputs": "in", "base": "/data"}
    for flow in (segment_new, train_model):
        given = flow.validate_parameters({"recipe": plain})
        assert (type(given["recipe"]), given["recipe"].base) == (Recipe, "/data")


@pytest.mark.parametrize("kind", ["raster", "volume"])
def test_a_run_with_nothing_new_loads_nothing_that_opens_segments_or_reports(
    kind: str, making: Any, segflow: Any, clean_environment: dict[str, str]
) -> None:
    making.model(kind)
    (making.folder / "in").mkdir()
    making.raster("in/a.tif", shape=(40, 40)) if kind == "raster" else making.volume("in/a.nii.gz", shape=(20, 20, 20))
    recipe = making.recipe(kind=kind, name="idle", inputs="in", service={"settle_seconds": 0})
    assert segflow("run", recipe, "--new", "-q").code == 0
    command = [sys.executable, "-c", IDLE, str(recipe)]
    done = subprocess.run(command, env=clean_environment, cwd=Path.cwd(), capture_output=True, text=True, check=True)
    night, loaded = json.loads(done.stdout)
    assert (night["scenes"], night["known"], night["state"]) == ([], 1, "done")
    assert sorted(HEAVY & set(loaded)) == []
