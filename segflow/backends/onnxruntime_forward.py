"""Forward by ONNX Runtime: one thread a request on a CPU, batches of one shape on a GPU.

A network of PyTorch's is exported at its one shape; a file that is ONNX already is run as it is. The GPU's part (the
providers and their options) has not been run on a GPU; batches have, on a CPU, through the same lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segflow.backends.network import Checked
from segflow.backends.ordered import Patch, in_order, mark_nonfinite
from segflow.backends.pool import abandon, one_by_one
from segflow.backends.settings import ForwardSettings
from segflow.errors import ModelError, first_line
from segflow.hardware import cpu_name, instruction_set
from segflow.models.formats.onnx_network import OnnxNetwork, open_session
from segflow.models.formats.onnx_write import write_graph

Provider = tuple[str, dict[str, str]]


class OnnxRuntimeForward:
    """See `segflow.backends.protocol.Forward`.

    Args:
        checked: the network; not changed. One that holds ONNX files is run as it is: their graphs by ONNX Runtime, and
            what stands around them (layout, activation, mean of an ensemble) by PyTorch.
        settings: what was settled for this run.
        batched: whether patches go in batches of `settings.batch`; None: on a GPU only.

    Raises:
        ModelError: an operation that ONNX or ONNX Runtime does not have, or a GPU that ONNX Runtime does not know.
    """

    def __init__(self, checked: Checked, settings: ForwardSettings, batched: bool | None = None) -> None:
        self._settings = settings
        self._signature = checked.signature
        self._batched = settings.device != "cpu" if batched is None else batched
        self._providers = providers_of(settings.device)
        self._module: torch.nn.Module | None = None
        self._session: Any = None
        files = [part for part in checked.module.modules() if isinstance(part, OnnxNetwork)]
        if not files:
            self._session = open_session(self._export(checked), self._providers)
            return
        for part in files:
            part.run_by(self._providers)
        self._module = checked.module

    @property
    def facts(self) -> Mapping[str, str]:
        """What decides bits."""
        import onnxruntime

        on_gpu = self._settings.device != "cpu"
        return {
            "backend": "onnxruntime",
            "backend_version": str(onnxruntime.__version__),
            "device": torch.cuda.get_device_name(torch.device(self._settings.device)) if on_gpu else cpu_name(),
            "instruction_set": " ".join(name for name, _ in self._providers) if on_gpu else instruction_set(),
            "precision": self._settings.precision,
            "threads_per_request": "1",
            "batch": str(self._rows),
        }

    @property
    def in_flight(self) -> int:
        """Patches that are taken and not yielded; in batches, the next one is filled while one is run."""
        return self._settings.batch * (2 if self._batched else 1)

    def stream(self, patches: Iterable[Patch]) -> Iterator[Patch]:
        """See `Forward.stream`.

        Raises:
            ModelError: a patch has another shape than was settled.
        """
        if self._batched:
            return self._in_batches(patches)
        return one_by_one(patches, self._settings.batch, self._signature, self._alone)

    def close(self) -> None:
        """Free the device."""
        self._session = self._module = None

    @property
    def _rows(self) -> int:
        return self._settings.batch if self._batched else 1

    def _export(self, checked: Checked) -> bytes:
        target = BytesIO()
        sample = torch.zeros((self._rows, *checked.signature.inputs))
        write_graph(checked.module, sample, target, "the network", "set compute.backend: auto, or torch")
        return target.getvalue()

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run (batch, channel, *patch)."""
        if self._session is not None:
            try:
                found: NDArray[np.float32] = self._session.run(None, {"x": batch})[0]
            except Exception as error:
                raise ModelError(
                    f"ONNX Runtime failed: {first_line(error)}",
                    "a patch and a network that it can run",
                    "lower tiling.patch if it is memory, or set compute.backend: torch",
                ) from error
            return found
        if self._module is None:
            raise RuntimeError("this forward has been closed; load it again")
        with torch.inference_mode():
            result: torch.Tensor = self._module(torch.from_numpy(batch)).float()
            probabilities: NDArray[np.float32] = result.numpy()
            return probabilities

    def _alone(self, patch: Patch) -> Patch:
        result: Patch = self._run(patch[None])[0]
        mark_nonfinite(result, patch)
        return result

    def _in_batches(self, patches: Iterable[Patch]) -> Iterator[Patch]:
        source, counts = iter(patches), list[int]()
        with ThreadPoolExecutor(1, "segflow-forward") as pool:

            def batches() -> Iterator[NDArray[np.float32]]:
                while taken := [np.array(self._signature.check(p), np.float32) for p in islice(source, self._rows)]:
                    counts.append(len(taken))
                    yield np.stack(taken + [taken[-1]] * (self._rows - len(taken)))

            def whole(batch: NDArray[np.float32]) -> NDArray[np.float32]:
                results = self._run(batch)
                for result, patch in zip(results, batch, strict=True):
                    mark_nonfinite(result, patch)
                return results

            def start(batch: NDArray[np.float32]) -> Future[NDArray[np.float32]]:
                return pool.submit(whole, batch)

            for results in in_order(batches(), 1, start, Future.result, abandon):
                yield from results[: counts.pop(0)]


def providers_of(device: str) -> list[Provider]:
    """Return what ONNX Runtime shall run a network by, the first choice first.

    On a GPU TensorRT where it is there, then CUDA; kernels are not chosen by measuring, nor is TF32 taken for float32,
    so that bits are not a matter of chance.

    Raises:
        ModelError: the installed ONNX Runtime has no CUDA.
    """
    import onnxruntime

    if device == "cpu":
        return [("CPUExecutionProvider", {})]
    known = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" not in known:
        raise ModelError(
            f"compute.device is {device}, and ONNX Runtime {onnxruntime.__version__} has {', '.join(known)}",
            "an ONNX Runtime with CUDA",
            "pip install onnxruntime-gpu in the place of onnxruntime, or set compute.backend: torch",
        )
    number = device.partition(":")[2] or "0"
    cuda: Provider = (
        "CUDAExecutionProvider",
        {"device_id": number, "cudnn_conv_algo_search": "DEFAULT", "use_tf32": "0"},
    )
    if "TensorrtExecutionProvider" not in known:
        return [cuda]
    return [("TensorrtExecutionProvider", {"device_id": number}), cuda]
