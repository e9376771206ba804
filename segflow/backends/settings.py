"""How a network is run, settled once by the driver and then followed by every worker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from segflow.errors import ModelError, RecipeError
from segflow.hardware import cpu_name, instruction_set, usable_cores
from segflow.recipe import Compute

_GPU_BATCH = 4

Backend = Literal["torch", "openvino", "onnxruntime"]
Precision = Literal["f32", "f16", "bf16", "int8"]


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
        compile: whether PyTorch's compiler translates the network first.
        quantised: int8: the folder that holds the calibrated network; `segflow.backends.quantise` makes it.
    """

    backend: Backend
    device: str
    precision: Precision
    batch: int
    patch: tuple[int, ...]
    compile: bool = False
    quantised: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise ValueError(f'device is {self.device!r}; give "cpu", "cuda" or "cuda:N"')
        if self.backend == "openvino" and self.device != "cpu":
            raise ValueError(f"openvino runs on the CPU here, not on {self.device}")
        if self.precision == "int8" and self.backend != "openvino":
            raise ValueError(f"int8 is run by openvino, not by {self.backend}")
        if self.compile and self.backend != "torch":
            raise ValueError(f"compile is PyTorch's, not of {self.backend}")
        if self.batch < 1 or not self.patch or min(self.patch) < 1:
            raise ValueError(f"batch {self.batch} and patch {self.patch} must be positive")


def resolve_settings(compute: Compute, batch: int | Literal["auto"], patch: tuple[int, ...]) -> ForwardSettings:
    """Settle what the recipe leaves open, without a trial: the first of `candidates`.

    `auto` means: CUDA where there is one; OpenVINO on a CPU and torch on a GPU; as many requests in flight as this
    process may use cores (shared among `compute.workers`), and a batch of 4 on a GPU.

    Args:
        compute: the recipe's.
        batch: the recipe's `tiling.batch`.
        patch: cells of a patch, in array order.

    Raises:
        RecipeError: settings that contradict each other.
        ModelError: a device or a backend that this machine does not have. Nothing falls back in silence.
    """
    return candidates(compute, batch, patch)[0]


def candidates(compute: Compute, batch: int | Literal["auto"], patch: tuple[int, ...]) -> tuple[ForwardSettings, ...]:
    """Return the ways in which a recipe lets the network be run here, the one that is usually fastest first.

    See `resolve_settings`. A recipe that names its backend has one.
    """
    _require_consistent(compute)
    device = _device(compute)
    automatic = max(1, usable_cores() // compute.workers_here) if device == "cpu" else _GPU_BATCH
    count = automatic if batch == "auto" else batch
    return tuple(
        ForwardSettings(backend, device, compute.precision, count, patch, compute.compile)
        for backend in _backends(compute, device)
    )


def available() -> dict[str, str]:
    """Return versions and hardware for a report, without importing any of them."""
    facts = {"cpu": cpu_name(), "instruction_set": instruction_set(), "cores": str(usable_cores())}
    found = {name: _version(name) for name in ("torch", "openvino", "onnxruntime")}
    return facts | {name: number for name, number in found.items() if number is not None}


@cache
def _version(name: str) -> str | None:
    """Return a package's version, which takes some milliseconds to read, and a run tells it of every scene."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device(compute: Compute) -> str:
    if compute.device == "cpu" or compute.backend == "openvino" or compute.precision == "int8":
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


def _require_consistent(compute: Compute) -> None:
    """Refuse keys of a recipe that cannot hold together.

    Raises:
        RecipeError: they cannot; one of them is wrong on every machine.
    """
    on_gpu = compute.device.startswith("cuda")
    if compute.backend == "openvino" and on_gpu:
        raise RecipeError(
            f"compute.backend is openvino and compute.device is {compute.device}",
            "openvino with device cpu, or torch or onnxruntime with device cuda",
            "set one of the two to auto",
        )
    if compute.compile and (compute.backend not in ("auto", "torch") or compute.precision == "int8"):
        raise RecipeError(
            f"compute.compile with compute.backend {compute.backend} and compute.precision {compute.precision}",
            "backend torch (or auto) in f32, f16 or bf16: it is PyTorch's compiler",
            "remove compute.compile",
        )
    if compute.precision == "int8" and (compute.backend not in ("auto", "openvino") or on_gpu):
        raise RecipeError(
            f"compute.precision is int8 with compute.backend {compute.backend} and compute.device {compute.device}",
            "backend openvino (or auto) on a CPU, which has calibrated int8",
            "set compute.backend: auto, or compute.precision: f32",
        )
    if compute.backend == "onnxruntime" and compute.precision != "f32":
        raise RecipeError(
            f"compute.precision is {compute.precision} with compute.backend onnxruntime",
            "f32, or a file that was itself exported in another precision",
            "set compute.precision: f32, or compute.backend: auto",
        )


def _backends(compute: Compute, device: str) -> tuple[Backend, ...]:
    """Return the backends that come into question, the one that is usually fastest first."""
    if compute.backend != "auto":
        _require_installed(compute.backend)
        return (compute.backend,)
    if compute.precision == "int8":
        _require_installed("openvino")
        return ("openvino",)
    # On a GPU f32 of ONNX Runtime and of PyTorch are one cuDNN; a trial of both would cost more than it finds.
    if compute.compile or device != "cpu":
        return ("torch",)
    found: list[Backend] = ["torch"]
    if compute.precision == "f32" and _installed("onnxruntime"):
        found.insert(0, "onnxruntime")
    if _installed("openvino"):
        found.insert(0, "openvino")
    return tuple(found)


_PACKAGES: dict[Backend, tuple[str, ...]] = {
    "torch": ("torch",),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnx"),
}


def _installed(backend: Backend) -> bool:
    return all(find_spec(name) is not None for name in _PACKAGES[backend])


def _require_installed(backend: Backend) -> None:
    missing = [name for name in _PACKAGES[backend] if find_spec(name) is None]
    if missing:
        named = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}.get(backend, backend)
        raise ModelError(
            f"{named} is not installed",
            f"the package{'s' if len(missing) > 1 else ''} {' and '.join(missing)}",
            f"pip install {' '.join(missing)}, or set compute.backend: auto",
        )
