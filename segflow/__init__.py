"""Semantic segmentation of rasters and volumes that do not fit in memory.

`predict` labels an array; `pipelines.run` runs a recipe; `segflow run RECIPE` is the same from a shell.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segflow.errors import SegflowError, ShadowedPackageError

__all__ = ["SegflowError", "predict"]

# ONNX Runtime tells its maker what it runs, and gives this machine a number, unless it is told before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def _require_own(*names: str) -> None:
    """Refuse to work with another package, or a folder, that stands where one of ours should be."""
    home = Path(__file__).resolve().parents[1]
    for name in names:
        spec = find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin is None or origin.parents[1] != home:
            where = "nowhere" if spec is None else str(origin or list(spec.submodule_search_locations or ()))
            raise ShadowedPackageError(
                f"the package {name} is found in {where}",
                f"segflow's own, in {home / name}",
                f"rename or leave the folder {name}, or uninstall the other package of that name",
            )


_require_own("tiling", "pipelines", "flows")


def __getattr__(name: str) -> Any:
    """Bring `predict` when it is asked for, since torch takes its time."""
    if name == "predict":
        from segflow.inmemory import predict

        return predict
    raise AttributeError(f"module 'segflow' has no attribute {name!r}")
