"""How a network is run, settled once by the driver and then followed by every worker."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from segflow.errors import ModelError, RecipeError
from segflow.hardware import cpu_name, instruction_set, usable_cores
from segflow.recipe import Compute

_log = logging.getLogger(__name__)
_GPU_BATCH = 4

Backend = Literal["torch", "openvino"]
Precision = Literal["f32", "f16", "bf16"]


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """Nothing here is `auto` any more.

    Attributes:
        backend: the library.
        device: "cpu", "cuda" or "cuda:N".
        precision: arithmetic of the network; its output is float32 in any case.
        batch: CPU: requests in flight, each of batch shape 1 and one thread, so that it does not change bits. GPU: the
            batch shape.
        patch: cells of a patch, in array order.
    """

    backend: Backend
    device: str
    precision: Precision
    batch: int
    patch: tuple[int, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise ValueError(f'device is {self.device!r}; give "cpu", "cuda" or "cuda:N"')
        if self.backend == "openvino" and self.device != "cpu":
            raise ValueError(f"openvino runs on the CPU here, not on {self.device}")
        if self.batch < 1 or not self.patch or min(self.patch) < 1:
            raise ValueError(f"batch {self.batch} and patch {self.patch} must be positive")


def resolve_settings(compute: Compute, batch: int | Literal["auto"], patch: tuple[int, ...]) -> ForwardSettings:
    """Settle what the recipe leaves open, and log the choice.

    `auto` means: CUDA where there is one; OpenVINO on a CPU and torch on a GPU; as many requests in flight as this
    process may use cores (shared among `compute.workers`), and a batch of 4 on a GPU.

    Args:
        compute: the recipe's.
        batch: the recipe's `tiling.batch`.
        patch: cells of a patch, in array order.

    Raises:
        RecipeError: OpenVINO together with CUDA.
        ModelError: a device or a backend that this machine does not have. Nothing falls back in silence.
    """
    if compute.backend == "openvino" and compute.device.startswith("cuda"):
        raise RecipeError(
            f"compute.backend is openvino and compute.device is {compute.device}",
            "openvino with device cpu, or torch with device cuda",
            "set one of the two to auto",
        )
    device = _device(compute)
    backend = _backend(compute, device)
    automatic = max(1, usable_cores() // compute.workers) if device == "cpu" else _GPU_BATCH
    count = automatic if batch == "auto" else batch
    settings = ForwardSettings(backend, device, compute.precision, count, patch)
    _log.info("forwards run by %s on %s in %s, %d patches at once", backend, device, compute.precision, count)
    return settings


def available() -> dict[str, str]:
    """Return versions and hardware for a report, without importing torch or OpenVINO."""
    facts = {"cpu": cpu_name(), "instruction_set": instruction_set(), "cores": str(usable_cores())}
    for name in ("torch", "openvino"):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def _device(compute: Compute) -> str:
    if compute.device == "cpu" or compute.backend == "openvino":
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if compute.device == "auto":
        return "cuda" if count else "cpu"
    number = int(compute.device.partition(":")[2] or 0)
    if number >= count:
        has = f"{count} CUDA device{'s' if count != 1 else ''}" if count else "no CUDA device"
        raise ModelError(
            f"compute.device is {compute.device}, and PyTorch {torch.__version__} sees {has}",
            "a GPU of NVIDIA with its driver and a PyTorch built for CUDA",
            "set compute.device: cpu (or auto), or mend the driver: `nvidia-smi` should list the GPU",
        )
    return compute.device


def _backend(compute: Compute, device: str) -> Backend:
    installed = find_spec("openvino") is not None
    if compute.backend == "openvino" and not installed:
        raise ModelError("OpenVINO is not installed", "the package openvino", "pip install openvino, or backend: torch")
    if compute.backend != "auto":
        return compute.backend
    return "openvino" if device == "cpu" and installed else "torch"
