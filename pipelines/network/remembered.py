"""What the network came to the last time, so that a run that finds all scenes unchanged need not load it.

Kept in the user's cache folder, under a key of all that can change it: the weights and their card, the recipe's words
on how it is run, the code, the libraries, the processor, and what stands in the output folder. Nothing is computed
with it: a scene is left alone by it, or the network is loaded and settled anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from pipelines.network.auto import recorded_tiling
from pipelines.network.engine import Engine
from segflow.auto import AutoTiling
from segflow.backends import ForwardSettings, Recorded
from segflow.cache import key_of, remember, remembered
from segflow.hardware import cpu_name, instruction_set, usable_cores
from segflow.models.model import Model
from segflow.recipe import Recipe
from segflow.sweep import ENGINE

_KIND = "settled"
_LIBRARIES = ("segflow", "numpy", "torch", "openvino", "onnxruntime", "onnx", "nncf", "segmentation-models-pytorch")
_CODE = ("segflow/backends", "segflow/models", "segflow/patches.py", "pipelines/network")
_GPUS = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
_SETTINGS: TypeAdapter[ForwardSettings] = TypeAdapter(ForwardSettings)


class NotLoaded:
    """Stands for a network that is known and not loaded. See `segflow.backends.protocol.Forward`.

    Args:
        facts: what it was.
        in_flight: patches at once.
    """

    def __init__(self, facts: Mapping[str, str], in_flight: int) -> None:
        self._facts = facts
        self._in_flight = in_flight

    @property
    def facts(self) -> Mapping[str, str]:
        """What decided bits."""
        return self._facts

    @property
    def in_flight(self) -> int:
        """Patches that were on the device at once."""
        return self._in_flight

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Refuse to run.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("this network is remembered and not loaded; settle it to run it")

    def close(self) -> None:
        """Do nothing."""


def keep(engine: Engine, recipe: Recipe, recorded: Recorded | None) -> None:
    """Remember what a network came to, for `recall` once the output folder tells how results were made."""
    if engine.settings.device != "cpu":
        return
    settled = {
        "settings": _SETTINGS.dump_python(engine.settings, mode="json"),
        "facts": dict(engine.facts),
        "probe": engine.probe,
        "base_bytes": engine.base_bytes,
        "seconds_a_patch": engine.seconds_a_patch,
        "why": engine.why,
        "notices": list(engine.notices),
        "activation_bytes": engine.activation_bytes,
        "in_flight": engine.forward.in_flight,
    }
    later = Recorded(engine.settings.backend, engine.why, engine.facts.get("calibration"))
    for way in {later, recorded or later}:
        key = _key(recipe, engine.model, way, engine.auto)
        if key is not None:
            remember(_KIND, key, settled)


def recall(recipe: Recipe, model: Model, recorded: Recorded | None) -> Engine | None:
    """Return what `settle` would come to, without its network; None where that is not known for sure."""
    auto = recorded_tiling(recipe, model)
    key = None if recorded is None else _key(recipe, model, recorded, auto)
    found = None if key is None else remembered(_KIND, key)
    if found is None:
        return None
    try:
        return Engine(
            model=model,
            weights_sha256=model.sha256,
            settings=_SETTINGS.validate_python(found["settings"]),
            forward=NotLoaded(found["facts"], int(found["in_flight"])),
            facts=dict(found["facts"]),
            probe=str(found["probe"]),
            base_bytes=int(found["base_bytes"]),
            seconds_a_patch=float(found["seconds_a_patch"]),
            why=str(found["why"]),
            notices=tuple(found["notices"]),
            activation_bytes=int(found["activation_bytes"]),
            auto=auto,
        )
    except (KeyError, TypeError, ValueError):  # of another version
        return None


def same(one: Engine, other: Engine) -> bool:
    """Tell whether two engines give a scene the same fingerprint."""
    return (one.settings, one.facts, one.probe, one.weights_sha256) == (
        other.settings,
        other.facts,
        other.probe,
        other.weights_sha256,
    )


def _key(recipe: Recipe, model: Model, recorded: Recorded, auto: AutoTiling | None) -> str | None:
    """Return the hash of all that `settle` depends on; None where that is more than can be told in advance.

    That is so for patches and overlaps that are still to be measured, for int8, which is calibrated by the scenes, and
    wherever there may be a GPU. Memory is left out: whoever finds all done needs none.
    """
    tiling = recipe.tiling if auto is None else auto.applied(recipe.tiling)
    if recipe.model is None or not tiling.settled or recipe.compute.precision == "int8" or _may_have_gpu():
        return None
    return key_of(
        {
            "engine": ENGINE,
            "weights": model.sha256,
            "cards": [member.card.model_dump(mode="json") for member in model.members],
            "model": recipe.model.model_dump(mode="json"),
            "tiling": tiling.model_dump(mode="json"),
            "compute": recipe.compute.model_dump(mode="json", exclude={"memory", "staging", "wait_seconds"}),
            "recorded": asdict(recorded),
            "processor": [cpu_name(), instruction_set(), usable_cores()],
            "libraries": {name: _installed(name) for name in _LIBRARIES},
            "code": list(_stamps()),
        }
    )


def _may_have_gpu() -> bool:
    """Tell whether PyTorch may find a GPU, without importing it; on other systems than Linux, it may."""
    return sys.platform != "linux" or any(next(Path("/dev").glob(name), None) is not None for name in _GPUS)


def _installed(name: str) -> list[Any]:
    """Return the version of a library and the stamp of its first file, which another build of it changes."""
    try:
        spec = find_spec(name.replace("-", "_"))
        return [version(name), *([] if spec is None or spec.origin is None else _stamp(Path(spec.origin)))]
    except PackageNotFoundError:
        return []


def _stamps() -> Iterator[list[Any]]:
    """Yield the stamps of the code that makes a network and runs it."""
    home = Path(__file__).resolve().parents[2]
    for place in _CODE:
        files = [home / place] if place.endswith(".py") else sorted((home / place).rglob("*.py"))
        for path in files:
            yield [str(path.relative_to(home)), *_stamp(path)]


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
