"""An ONNX file as a module of PyTorch's: everything but the graph itself is PyTorch, so that every backend takes it.

The graph is one operation, `segflow::onnx`. PyTorch runs it by ONNX Runtime; OpenVINO, which reads ONNX itself, puts
the file's graph in its place (`segflow.backends.openvino_onnx`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from segflow.errors import ModelError, first_line
from segflow.models.formats.onnx_header import Header, cells_made

_TYPES = {"FLOAT": torch.float32, "FLOAT16": torch.float16, "DOUBLE": torch.float64, "BFLOAT16": torch.bfloat16}
_WHOLE = {"UINT8": torch.uint8, "INT8": torch.int8, "INT16": torch.int16, "INT32": torch.int32, "INT64": torch.int64}
_KEYS = count()


class OnnxNetwork(nn.Module):
    """A graph that takes (batch, channel, *axes) float32 and gives (batch, output channel, *axes) float32.

    Args:
        path: the file.
        header: what it says of itself.
        output: which of its outputs.
    """

    def __init__(self, path: Path, header: Header, output: int) -> None:
        super().__init__()
        self.path = path
        self.fixed_patch = header.patch
        self._name = header.input.name
        self._batch = header.batch
        self._last = header.last
        self._type = header.input.type
        self.output = output
        self._session = open_session(path)
        self.seen: tuple[int, ...] = ()
        self._key = next(_KEYS)
        _NETWORKS[self._key] = self
        if self._type not in _TYPES and self._type not in _WHOLE:
            raise ModelError(f"{path} takes {self._type}", "numbers", "export it with a float32 input")

    def forward(self, x: Tensor) -> Tensor:
        """Return the raw output of x (batch, channel, *axes)."""
        size = self._batch or x.shape[0]
        parts = [self._graph(x[start : start + size], size) for start in range(0, x.shape[0], size)]
        result = parts[0] if len(parts) == 1 else torch.cat(parts)
        axes = tuple(int(n) for n in x.shape[2:])
        if result.ndim == x.ndim - 1:
            result = result[:, None]
        if tuple(result.shape[2:]) != axes and tuple(result.shape[1:-1]) == axes:
            result = result.movedim(-1, 1)
        return result

    def run_by(self, providers: Sequence[tuple[str, dict[str, str]]]) -> None:
        """Have ONNX Runtime run the graph by other execution providers than the CPU's."""
        if [name for name, _ in providers] != self._session.get_providers():
            self._session = open_session(self.path, providers)

    def cells(self, shape: tuple[int, ...]) -> int:
        """Count the cells of all arrays that the graph makes of an input (batch, channel, *axes), where ONNX tells."""
        return cells_made(self.path, (self._batch or shape[0], *shape[1:]), self._last)

    def run(self, x: Tensor) -> Tensor:
        """Run the graph on exactly what it takes."""
        self.seen = tuple(x.shape)
        try:
            found: Any = self._session.run(None, {self._name: x.contiguous().numpy()})[self.output]
        except Exception as error:
            raise ModelError(
                f"{self.path} does not take an array of shape {tuple(x.shape)}: {first_line(error)}",
                "the patch and channels that the graph was made for",
                "set tiling.patch to a size that the network takes, such as a multiple of 32",
            ) from error
        return torch.from_numpy(found)

    def _graph(self, x: Tensor, size: int) -> Tensor:
        rows = x.shape[0]
        if rows < size:
            x = torch.cat((x, x[-1:].expand(size - rows, *x.shape[1:])))
        if self._last:
            x = x.movedim(1, -1)
        if self._type in _WHOLE:
            limits = torch.iinfo(_WHOLE[self._type])
            x = torch.clamp(torch.round(x), float(limits.min), float(limits.max)).to(_WHOLE[self._type])
        else:
            x = x.to(_TYPES[self._type])
        result: Tensor = torch.ops.segflow.onnx(x.contiguous(), self._key).float()
        return result[:rows] if rows < size else result


_NETWORKS: WeakValueDictionary[int, OnnxNetwork] = WeakValueDictionary()


def network_by(key: int) -> OnnxNetwork:
    """Return the network that an operation of a traced graph belongs to."""
    return _NETWORKS[key]


@torch.library.custom_op("segflow::onnx", mutates_args=())
def _run(x: Tensor, key: int) -> Tensor:
    """Run the graph of a network on the CPU; on a GPU the patch goes there and back."""
    return _NETWORKS[key].run(x.cpu()).to(x.device)


def open_session(
    graph: Path | bytes, providers: Sequence[tuple[str, dict[str, str]]] = (("CPUExecutionProvider", {}),)
) -> Any:
    """Load a graph into ONNX Runtime, which runs it with one thread: the caller's.

    Args:
        graph: a file, or its bytes.
        providers: execution providers and their options, the first choice first.

    Raises:
        ModelError: ONNX Runtime is not installed, or does not take the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            "ONNX Runtime is not installed", "the package onnxruntime", "pip install 'segflow[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    given, name = (graph, "the network") if isinstance(graph, bytes) else (str(graph), str(graph))
    try:
        return onnxruntime.InferenceSession(given, options, providers=list(providers))
    except Exception as error:
        raise ModelError(
            f"ONNX Runtime cannot load {name}: {first_line(error)}",
            "a whole ONNX file of standard operations",
            "set compute.backend: auto, or torch"
            if isinstance(graph, bytes)
            else "export it again, with an opset that ONNX Runtime knows",
        ) from error
