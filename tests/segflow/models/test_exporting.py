"""Every network, with every upsampling, to OpenVINO and ONNX: the same numbers as in PyTorch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from segflow.backends.openvino_forward import ov
from segflow.models.architectures import architectures
from segflow.models.registry import build

EVERY_WAY = [
    (row.name, axes, way)
    for row in architectures()
    for axes in ((2,) if row.parameters_3d is None else (2, 3))
    for way in (row.upsamplings or (None,))
    if axes == 2 or row.name == "unet" or way in (None, *row.upsamplings[:1])
]
ONNX = [*((row.name, 2) for row in architectures()), ("unet", 3), ("fcn8s", 3)]
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def lively(name: str, axes: int, way: str | None = None) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a small network whose normalisation has seen data, and an input of two strides by one."""
    torch.manual_seed(0)
    depth = {"fcn8s": 3, "fcn16s": 2}.get(name, 2 if name != "fcn32s" else 1)
    if name == "patch_classifier":
        depth = 1
    arguments: dict[str, Any] = {"in_channels": 2, "out_channels": 3, "dimensions": axes, "width": 2, "depth": depth}
    network: Any = build(name, arguments | ({"upsampling": way} if way else {}))
    size = 8 if axes == 2 or depth == 3 else 4
    x = torch.randn(2, 2, 2 * size, *(size,) * (axes - 1))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.momentum = None
    with torch.no_grad():
        network(x)
        network.eval()
        network.head.weight *= 1 / network(x).std()
    return network, x[:1]


@pytest.mark.parametrize(("name", "axes", "way"), EVERY_WAY)
def test_openvino_agrees_with_torch(name: str, axes: int, way: str | None) -> None:
    network, x = lively(name, axes, way)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(x).numpy()
        traced = torch.jit.trace(network, torch.zeros_like(x), check_trace=False)  # type: ignore[no-untyped-call]
        model = ov.convert_model(traced, input=[list(x.shape)])
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    found = next(iter(compiled(x.numpy()).values()))
    assert 0.1 < expected.std() < 10
    assert np.abs(found - expected).max() < TOLERANCE


@pytest.mark.parametrize(("name", "axes"), ONNX)
def test_onnx_agrees_with_torch(name: str, axes: int, tmp_path: Path) -> None:
    network, x = lively(name, axes)
    path = tmp_path / "network.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = network(x).numpy()
        torch.onnx.export(network, (x,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert np.abs(np.asarray(found) - expected).max() < TOLERANCE
