"""Forward by OpenVINO on a CPU: one stream of one thread for every core, a ring of requests over them."""

from __future__ import annotations

import logging
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from segflow.backends.network import Checked
from segflow.backends.openvino_onnx import onnx_extensions
from segflow.backends.ordered import Patch, in_order, mark_nonfinite
from segflow.backends.settings import ForwardSettings
from segflow.errors import ModelError, first_line
from segflow.hardware import instruction_set, usable_cores


def _without_telemetry() -> ModuleType:
    """Import OpenVINO with its own stand-in for `openvino_telemetry`, which would write to $HOME and call home."""
    if "openvino" in sys.modules or "openvino_telemetry" in sys.modules:
        return import_module("openvino")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]


ov = _without_telemetry()

# The converter's errors have no common root of their own.
_NAMES = ("GeneralFailure", "InitializationFailure", "NotImplementedFailure", "OpConversionFailure")
_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    *(getattr(import_module("openvino._pyopenvino"), name) for name in (*_NAMES, "OpValidationFailure")),
)

NETWORK = "network.xml"
"""The graph of a calibrated network, in its folder; its weights lie beside it."""

_CAPABILITIES = {"f32": "FP32", "f16": "FP16", "bf16": "BF16", "int8": "INT8"}


class OpenVinoForward:
    """See `segflow.backends.protocol.Forward`.

    A stream is a thread with activations of its own, so memory grows with `settings.batch` up to the number of cores;
    requests beyond that wait in a queue and hold their input and output only.

    Args:
        checked: the network; not changed, and not needed afterwards.
        settings: what was settled for this run; its device is "cpu".

    Raises:
        ModelError: the network has an operation that OpenVINO does not know, or the processor cannot do the precision.
    """

    def __init__(self, checked: Checked, settings: ForwardSettings) -> None:
        self._settings = settings
        self._signature = checked.signature
        core = ov.Core()
        _require_precision(core, settings.precision)
        streams = min(settings.batch, usable_cores())
        properties = {
            # What an int8 network keeps in floating point is float32.
            "INFERENCE_PRECISION_HINT": "f32" if settings.precision == "int8" else settings.precision,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams,
            # Two workers on one machine would pin their streams to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled: Any = core.compile_model(_graph(checked, settings), "CPU", properties)
        self._device_name = str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()
        self._require_one_thread_a_stream()

    @property
    def facts(self) -> Mapping[str, str]:
        """What decides bits."""
        return {
            "backend": "openvino",
            "backend_version": str(ov.__version__),
            "device": self._device_name,
            "instruction_set": instruction_set(),
            "precision": self._settings.precision,
            "threads_per_request": "1",
            "batch": "1",
            **({"calibration": Path(self._settings.quantised).name} if self._settings.quantised else {}),
        }

    @property
    def in_flight(self) -> int:
        """Requests at once."""
        return self._settings.batch

    def stream(self, patches: Iterable[Patch]) -> Iterator[Patch]:
        """See `Forward.stream`.

        Raises:
            ModelError: a patch has another shape than was settled.
        """
        if self._compiled is None:
            raise RuntimeError("this forward has been closed; load it again")
        room = self._settings.batch
        # One more than run at once, whose result the consumer looks at: nothing is copied.
        free: deque[Any] = deque(self._compiled.create_infer_request() for _ in range(room + 1))

        def start(patch: Patch) -> Any:
            self._signature.check(patch)
            request = free.popleft()
            request.input_tensors[0].data[0] = patch
            request.start_async()
            return request

        def finish(request: Any) -> Patch:
            request.wait()
            result: Patch = np.asarray(request.output_tensors[0].data[0], np.float32)
            mark_nonfinite(result, request.input_tensors[0].data[0])
            free.append(request)  # behind those that are free now, so that it is not started before the next result
            return result

        def abandon(request: Any) -> None:
            with suppress(RuntimeError):
                request.wait()

        return in_order(patches, room, start, finish, abandon)

    def close(self) -> None:
        """Free the compiled network; its threads end with it."""
        self._compiled = None

    def _require_one_thread_a_stream(self) -> None:
        streams, threads = (int(self._compiled.get_property(n)) for n in ("NUM_STREAMS", "INFERENCE_NUM_THREADS"))
        if streams != threads:
            raise ModelError(
                f"OpenVINO {ov.__version__} made {streams} streams of {threads} threads",
                "one thread a stream, without which results are not the same everywhere",
                "set compute.backend: torch, and report this with the processor's name",
            )


def _graph(checked: Checked, settings: ForwardSettings) -> Any:
    """Return the network, or in int8 the one that was calibrated."""
    if settings.precision != "int8":
        return convert(checked)
    if settings.quantised is None:
        raise ModelError(
            "int8 without a calibrated network",
            "patches to calibrate it with: a recipe's first scene, or an array",
            "run it by `segflow run` or `segflow.predict`, or set compute.precision: f32",
        )
    try:
        return ov.Core().read_model(str(Path(settings.quantised, NETWORK)))
    except RuntimeError as error:
        raise ModelError(
            f"{settings.quantised} holds no calibrated network: {first_line(error)}",
            "the folder that the driver has made",
            "put outputs.folder where all workers see it, or set compute.precision: f32",
        ) from error


def convert(checked: Checked) -> Any:
    """Trace the network at its one shape (1, channel, *patch) and make an OpenVINO model of it, in memory."""
    shape = [1, *checked.signature.inputs]
    try:
        with torch.inference_mode(), warnings.catch_warnings(), _unheard():
            # PyTorch warns that tracing is old, and of shapes that become constants, as they should here.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(checked.module, torch.zeros(shape), check_trace=False)  # type: ignore[no-untyped-call]
            return ov.convert_model(traced, input=[shape], extension=onnx_extensions(ov, checked.module))
    except _FAILURES as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        said = next((line.lstrip("- ") for line in lines if "No conversion rule" in line), lines[0])
        raise ModelError(
            f"OpenVINO cannot take this network over: {said}",
            "operations that OpenVINO knows",
            "set compute.backend: torch",
        ) from error


@contextmanager
def _unheard() -> Iterator[None]:
    """Keep the converter's own reports off the log, and leave the root logger as it is found: a failure does not."""
    root, before = logging.getLogger(), logging.root.manager.disable
    level, filters, handlers = root.level, list(root.filters), list(root.handlers)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        root.setLevel(level)
        root.filters, root.handlers = filters, handlers


def _require_precision(core: Any, precision: str) -> None:
    known = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES[precision] not in known:
        raise ModelError(
            f"compute.precision is {precision}",
            "a precision that this processor has: " + ", ".join(n for n, c in _CAPABILITIES.items() if c in known),
            "set compute.precision: f32",
        )
