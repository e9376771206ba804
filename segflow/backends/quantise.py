"""int8: a network calibrated once, kept as a file, and the same for the driver, every worker and every resume.

Post-training quantisation by NNCF for OpenVINO: the range of every layer is taken from patches of a scene, weights and
activations become int8, and the bias of each layer is corrected for what that costs. It is the one step of a run whose
bits depend on measured ranges, so its result is stored, and named by all that it was made of.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.backends.calibration import PATCHES, Calibration, Samples
from segflow.backends.network import Checked
from segflow.backends.openvino_forward import NETWORK, OpenVinoForward, convert, ov
from segflow.backends.settings import ForwardSettings
from segflow.cache import cache_folder, key_of
from segflow.errors import ModelError, OutputError, first_line
from segflow.models.card import Card

_LOG = logging.getLogger(__name__)
_HELD_OUT = 5
_FACTS = "facts.json"


def calibrated(
    checked: Checked,
    card: Card,
    weights_sha256: str,
    settings: ForwardSettings,
    samples: Callable[[], Samples],
    home: Path | None,
    recorded: str | None = None,
) -> tuple[ForwardSettings, Calibration]:
    """Return settings that name the calibrated network; it is made where neither `home` nor the cache holds it.

    Args:
        checked: the network in float32.
        card: its card.
        weights_sha256: hash of its weights.
        settings: of int8, without a calibrated network.
        samples: gives the patches; asked only where they are needed.
        home: folder that all workers see; None: the user's cache folder only.
        recorded: key of the network that results here were made with; it is used again while it exists, for patches
            of the extent that it was made for.

    Raises:
        ModelError: NNCF is not installed, there is no patch, or the network cannot be quantised.
        OutputError: no folder can be written.
    """
    if recorded is not None and (folder := _kept(recorded, home)) is not None:
        known = _read(folder)
        if known.patch == settings.patch:
            return replace(settings, quantised=str(folder)), known
    found = samples()
    key = key_of(
        {
            "weights": weights_sha256,
            "patch": settings.patch,
            "samples": found.identity,
            "patches": PATCHES,
            "versions": {name: version(name) for name in ("openvino", "nncf") if find_spec(name)},
        }
    )
    if (folder := _kept(key, home)) is not None:
        return replace(settings, quantised=str(folder)), _read(folder)
    with TemporaryDirectory(prefix="segflow-int8-") as scratch:
        made = _make(Path(scratch), key, checked, card, settings, found)
        _LOG.info("%s", made.words)
        folder = _stored(Path(scratch), key, home)
    return replace(settings, quantised=str(folder)), made


def _stored(made: Path, key: str, home: Path | None) -> Path:
    """Put a network where it is looked for: in the user's cache, and where all workers see it."""
    cached = cache_folder() / "int8" / key
    try:
        _place(made, cached)
    except (OSError, RuntimeError) as error:
        if home is None:
            raise _unwritable(cached, error) from error
    if home is None:
        return cached
    try:
        return _place(made, home / key)
    except OSError as error:
        raise _unwritable(home, error) from error


def _unwritable(folder: Path, error: Exception) -> OutputError:
    return OutputError(
        f"{folder} cannot be written: {first_line(error)}",
        "a folder for the network that was calibrated",
        "free space, or set SEGFLOW_CACHE to another folder",
    )


def _read(folder: Path) -> Calibration:
    facts = json.loads((folder / _FACTS).read_text())
    return Calibration(**{**facts, "patch": tuple(facts.get("patch", ()))})


def _kept(key: str, home: Path | None) -> Path | None:
    """Return the folder of a network that is there already, in `home` if there is one."""
    if home is not None and (home / key / _FACTS).is_file():
        return home / key
    with suppress(OSError, RuntimeError):
        cached = cache_folder() / "int8" / key
        if (cached / _FACTS).is_file():
            return cached if home is None else _place(cached, home / key)
    return None


def _place(made: Path, place: Path) -> Path:
    """Copy a folder to its place, where it appears whole; who comes second keeps what is there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent, prefix=".part-") as part:
        whole = Path(part, "whole")
        whole.mkdir()
        for name in made.iterdir():
            shutil.copyfile(name, whole / name.name)
        with suppress(OSError):
            whole.rename(place)
    if not (place / _FACTS).is_file():
        raise OSError(f"{place} is in the way")
    return place


def _make(
    folder: Path, key: str, checked: Checked, card: Card, settings: ForwardSettings, samples: Samples
) -> Calibration:
    """Calibrate the network into an empty folder, and compare it with float32."""
    nncf = _nncf()
    patches = list(samples.take(PATCHES))
    held = patches[_HELD_OUT // 2 :: _HELD_OUT]
    used = [patch for number, patch in enumerate(patches) if number % _HELD_OUT != _HELD_OUT // 2]
    if not patches:
        raise ModelError(
            f"{samples.name} has no cell to calibrate int8 with", "a first scene with valid cells", "use precision: f32"
        )
    try:
        with _quiet():
            dataset = nncf.Dataset([patch[None] for patch in used])
            quantised = nncf.quantize(
                convert(checked), dataset, subset_size=len(used), preset=nncf.QuantizationPreset.MIXED
            )
    except ModelError:
        raise
    except Exception as error:  # NNCF's and OpenVINO's errors have no common root
        raise ModelError(
            f"NNCF {nncf.__version__} cannot quantise this network: {first_line(error)}",
            "layers that have an int8 form",
            "set compute.precision: f32",
        ) from error
    ov.save_model(quantised, str(folder / NETWORK), compress_to_fp16=False)
    agreement, speed = _compared(checked, card, replace(settings, quantised=str(folder)), held or used)
    made = Calibration(key, samples.name, len(used), len(held or used), bool(held), agreement, speed, settings.patch)
    (folder / _FACTS).write_text(json.dumps(asdict(made), indent=1))
    return made


def _compared(
    checked: Checked, card: Card, settings: ForwardSettings, patches: Sequence[NDArray[np.float32]]
) -> tuple[float, float]:
    """Return the share of equal labels, and how many times as fast int8 is, both ways run in turns."""
    one = replace(settings, batch=1)
    full, small = OpenVinoForward(checked, replace(one, precision="f32", quantised=None)), OpenVinoForward(checked, one)
    try:
        equal = [_labels(a, card) == _labels(b, card) for a, b in zip(*_both(full, small, patches), strict=True)]
        best = [float("inf")] * 2
        for _ in range(3):
            for number, forward in enumerate((full, small)):
                began = process_time()
                list(forward.stream(patches[:2]))
                best[number] = min(best[number], process_time() - began)
        return round(float(np.mean(equal)), 6), round(best[0] / best[1], 2)
    finally:
        full.close()
        small.close()


def _both(
    full: OpenVinoForward, small: OpenVinoForward, patches: Sequence[NDArray[np.float32]]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    return [found.copy() for found in full.stream(patches)], [found.copy() for found in small.stream(patches)]


def _labels(values: NDArray[np.float32], card: Card) -> NDArray[Any]:
    """Return what decides labels: the largest channel, or which channels reach the card's threshold."""
    if card.regions is None and card.activation != "sigmoid":
        labels: NDArray[np.intp] = values.argmax(0)
        return labels
    reached: NDArray[np.bool_] = values >= (card.threshold or 0.5)
    return reached


def _nncf() -> Any:
    """Import NNCF, without its reports home and without what it does to everybody's loggers.

    Raises:
        ModelError: it is not installed.
    """
    if find_spec("nncf") is None:
        raise ModelError(
            "NNCF is not installed, which calibrates int8", "the package nncf", "pip install 'segflow[int8]'"
        )
    kind, known = logging.getLoggerClass(), sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        with _quiet():
            nncf = import_module("nncf")
            nncf.set_log_level(logging.ERROR)
            return nncf
    finally:
        logging.setLoggerClass(kind)
        del sys.modules["openvino_telemetry"]
        if known is not None:
            sys.modules["openvino_telemetry"] = known


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings and progress bars of a library to itself."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
