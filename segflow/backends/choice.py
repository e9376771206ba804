"""`backend: auto`: which backend runs this model fastest here, found by a short trial once and then remembered.

The choice is part of a result's fingerprint, so it must not change from run to run because a machine was busy: what
stands with the results wins, then what the user's cache remembers, and only then is there a trial.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from ctypes import CDLL
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from segflow.backends.calibration import Calibration, Samples
from segflow.backends.probe import probe_patch
from segflow.backends.protocol import Forward
from segflow.backends.settings import Backend, ForwardSettings, candidates
from segflow.cache import key_of, remember, remembered
from segflow.errors import ModelError
from segflow.hardware import cpu_name, instruction_set
from segflow.recipe import Compute

if TYPE_CHECKING:
    from segflow.backends.network import Checked
    from segflow.models.model import Model

_LOG = logging.getLogger(__name__)
_KIND = "backends"
_SECONDS = 2.0
_TURNS = 5
_NEAR = 1.1
"""One that is slower than another by less than this, but stands before it in the list of candidates, is taken."""

_NAMED = "compute.backend says so"
_EARLIER = "the results in the output folder were made with it"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What stands with results that are there already, finished or not.

    Attributes:
        backend: that they were made with.
        why: it was chosen.
        calibration: key of the network that was calibrated for them; int8 only.
    """

    backend: str
    why: str
    calibration: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A network, ready to run.

    Attributes:
        settings: nothing is `auto` any more.
        forward: the network.
        why: it is run so, in words for the report.
        calibration: what is known of the calibrated network; int8 only.
    """

    settings: ForwardSettings
    forward: Forward
    why: str
    calibration: Calibration | None = None


def choose(
    model: Model,
    compute: Compute,
    batch: int | Literal["auto"],
    patch: tuple[int, ...],
    *,
    recorded: Recorded | None = None,
    fitting: Container[str] | None = None,
    samples: Callable[[], Samples] | None = None,
    home: Path | None = None,
) -> Choice:
    """Load a model by the backend that the recipe names, or by the one that is fastest here.

    Args:
        model: card and weights.
        compute: the recipe's.
        batch: the recipe's `tiling.batch`.
        patch: cells of a patch, in array order.
        recorded: the choice that results in the output folder were made with.
        fitting: backends that memory suffices for; None: all.
        samples: gives the patches that int8 is calibrated with.
        home: folder that all workers see, for a calibrated network; None: the user's cache.

    Raises:
        RecipeError: settings that contradict each other.
        ModelError: the model cannot be used, or no backend takes it.
    """
    from segflow.backends.network import check_network

    ways = candidates(compute, batch, patch)
    checked = check_network(model.network(), model.card, patch)
    if len(ways) > 1:
        ways = tuple(way for way in ways if _suits(way, checked) and (fitting is None or way.backend in fitting))
    named = _NAMED if compute.backend != "auto" else "the only one here for these settings"
    if compute.precision == "int8":
        choice = _calibrated(model, checked, ways[0], recorded, samples, home)
    elif len(ways) == 1:
        choice = _the_only(checked, ways[0], named)
    else:
        choice = _one_of(model, checked, ways, recorded)
    settings = choice.settings
    _LOG.info(
        "forwards run by %s on %s in %s, %d patches at once (%s)",
        *(settings.backend, settings.device, settings.precision, settings.batch, choice.why),
    )
    return choice


def _the_only(checked: Checked, settings: ForwardSettings, why: str) -> Choice:
    from segflow.backends import forward_of

    return Choice(settings, forward_of(checked, settings), why)


def _calibrated(
    model: Model,
    checked: Checked,
    settings: ForwardSettings,
    recorded: Recorded | None,
    samples: Callable[[], Samples] | None,
    home: Path | None,
) -> Choice:
    """Load the network that was, or is now, calibrated for int8."""
    from segflow.backends.quantise import calibrated

    if samples is None:
        raise ModelError(
            "compute.precision is int8, and there is nothing to calibrate it with here",
            "a run, or segflow.predict",
            "set compute.precision: f32",
        )
    earlier = None if recorded is None else recorded.calibration
    settled, known = calibrated(checked, model.card, model.sha256, settings, samples, home, earlier)
    return replace(_the_only(checked, settled, "openvino is what runs int8"), calibration=known)


def _one_of(model: Model, checked: Checked, ways: Sequence[ForwardSettings], recorded: Recorded | None) -> Choice:
    """Take the choice that is on record, or remembered, if it can still be carried out; else try all."""
    key = key_of(
        {
            "network": _network_facts(model),
            "patch": ways[0].patch,
            "precision": ways[0].precision,
            "device": ways[0].device,
            "processor": [cpu_name(), instruction_set()],
            "versions": {way.backend: _version(way.backend) for way in ways},
        }
    )
    kept = remembered(_KIND, key) or {}
    there = ("", "") if recorded is None else (recorded.backend, _EARLIER if recorded.why == _NAMED else recorded.why)
    for backend, why in (there, (str(kept.get("backend", "")), str(kept.get("why", "")))):
        for way in ways:
            if way.backend == backend:
                choice = _attempt(checked, way, why)
                if choice is not None:
                    return choice
    choice = _trial(model, checked, ways)
    remember(_KIND, key, {"backend": choice.settings.backend, "why": choice.why})
    return choice


def _attempt(checked: Checked, settings: ForwardSettings, why: str) -> Choice | None:
    """Load the network; one that a backend does not take is no error while there are others."""
    try:
        return _the_only(checked, settings, why)
    except ModelError as error:
        _LOG.warning("%s is left out: %s", settings.backend, error.found)
        return None


def _trial(model: Model, checked: Checked, ways: Sequence[ForwardSettings]) -> Choice:
    """Run a patch by each backend in turns, and load the fastest anew.

    Anew, so that what it takes is measured on a network that no patch has gone through: as in later runs, which have
    no trial.

    Raises:
        ModelError: none takes the network; what the first of them said.
    """
    loaded = {way.backend: choice for way in ways if (choice := _attempt(checked, way, "")) is not None}
    if not loaded:
        return _the_only(checked, ways[0], "")
    left_out = [way.backend for way in ways if way.backend not in loaded]
    patch = probe_patch(model.card, ways[0].patch)
    best = _turns({name: choice.forward for name, choice in loaded.items()}, patch)
    taken = pick(best)
    settings = loaded[taken].settings
    for choice in loaded.values():
        choice.forward.close()
    loaded.clear()
    _give_back_memory()
    told = ", ".join(f"{name} {seconds * 1000:.3g} ms a patch" for name, seconds in best.items())
    why = f"by a trial: {told}" + "".join(f"; {name} does not take this network" for name in left_out)
    return _the_only(checked, settings, why)


def pick(seconds: dict[Backend, float]) -> Backend:
    """Return the first backend that is nearly as fast as the fastest: within 10 %, order decides.

    Args:
        seconds: a patch took, in the order of preference.
    """
    fastest = min(seconds.values())
    return next(name for name, spent in seconds.items() if spent <= _NEAR * fastest)


def _turns(forwards: dict[Backend, Forward], patch: NDArray[np.float32]) -> dict[Backend, float]:
    """Return the shortest processor time of a patch by each backend, all taking turns until the time is over.

    A request has one thread, so that on a machine with nothing else to do it is the time that passes; on a busy one
    it says the same.
    """
    best: dict[Backend, float] = {}
    spent = 0.0
    for _ in range(_TURNS):
        for name, forward in forwards.items():
            if best and best.get(name, 0.0) > 3 * min(best.values()):
                continue  # nothing would make up for that
            began = process_time()
            list(forward.stream([patch]))
            took = process_time() - began
            best[name] = min(took, best.get(name, took))
            spent += took
        if spent > _SECONDS:
            break
    return best


def _suits(settings: ForwardSettings, checked: Checked) -> bool:
    """Tell whether a backend is worth a trial: PyTorch runs ONNX files by ONNX Runtime, so one of the two is enough."""
    from segflow.models.formats.onnx_network import OnnxNetwork

    holds_files = any(isinstance(part, OnnxNetwork) for part in checked.module.modules())
    return not (holds_files and settings.backend == "torch")


def _network_facts(model: Model) -> object:
    """Return what decides the speed of a network: weights do not where its structure is known without them."""
    if any(one.card.architecture is None or one.weights.suffix != ".safetensors" for one in model.members):
        return model.sha256
    cards = [one.card for one in model.members]
    plain = sorted(repr((card.architecture, sorted(card.arguments.items()), card.channels)) for card in cards)
    return [plain, model.card.output_channels, model.tta]


def _version(backend: Backend) -> str:
    try:
        return version(backend)
    except PackageNotFoundError:
        return ""


def _give_back_memory() -> None:
    """Return what the networks of a trial held to the system, so that it is not taken for what the run needs."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than GNU's keeps nothing back
        CDLL("libc.so.6").malloc_trim(0)
