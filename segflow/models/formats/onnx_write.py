"""From a module of PyTorch's to a graph in ONNX."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from segflow.errors import ModelError, first_line

OPSET = 18


def write_graph(
    module: nn.Module,
    sample: Tensor,
    target: Path | IO[bytes],
    name: str,
    remedy: str,
    free: Mapping[int, str] | None = None,
) -> None:
    """Write a module as an ONNX graph from `x` to `y`, with its weights.

    Args:
        module: takes one array and gives one.
        sample: an input of the shape that is traced.
        target: a file, by name or open.
        name: of the network, for the message.
        remedy: what to do where it cannot be written.
        free: axes, of input and output alike, whose size is left open, with their names.

    Raises:
        ModelError: the network has an operation that ONNX has not.
    """
    file: Any = str(target) if isinstance(target, Path) else target
    axes: dict[str, Any] = {} if free is None else {"dynamic_axes": {"x": dict(free), "y": dict(free)}}
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                (sample,),
                file,
                dynamo=False,
                opset_version=OPSET,
                input_names=["x"],
                output_names=["y"],
                **axes,
            )
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"{name} cannot be written as ONNX: {first_line(error)}", "operations that ONNX has", remedy
        ) from error
