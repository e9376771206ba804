"""How OpenVINO runs ONNX files: their graph, as OpenVINO reads it, in the place of the operation `segflow::onnx`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from segflow.models.formats.onnx_network import OnnxNetwork, network_by


def onnx_extensions(ov: Any, module: nn.Module) -> list[Any] | None:
    """Return what `openvino.convert_model` needs for a traced module that holds ONNX files; None for others.

    Args:
        ov: the package openvino.
        module: what was traced.
    """
    if not any(isinstance(part, OnnxNetwork) for part in module.modules()):
        return None
    from openvino.frontend.pytorch import ConversionExtension

    return [ConversionExtension("segflow::onnx", _inliner(ov))]


def _inliner(ov: Any) -> Callable[[Any], list[Any]]:
    """Return the function that OpenVINO calls for each such operation, and that gives the nodes of its output."""

    def inline(context: Any) -> list[Any]:
        network = network_by(int(context.get_values_from_const_input(1)))
        graph = ov.Core().read_model(str(network.path))
        graph.reshape(list(network.seen))
        (parameter,) = graph.get_parameters()
        parameter.output(0).replace(context.get_input(0))
        return [graph.get_results()[network.output].input_value(0)]

    return inline
