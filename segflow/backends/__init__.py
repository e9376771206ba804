"""Backends: one protocol, `Forward`, by which a network is run; torch, OpenVINO and ONNX Runtime behind it.

Importing this package imports none of them; `load_forward` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segflow.backends.calibration import Samples
from segflow.backends.choice import Choice, Recorded, choose
from segflow.backends.probe import probe
from segflow.backends.protocol import Forward
from segflow.backends.settings import ForwardSettings, available, candidates, resolve_settings

if TYPE_CHECKING:
    from segflow.backends.network import Checked
    from segflow.models.model import Model

__all__ = [
    "Choice",
    "Forward",
    "ForwardSettings",
    "Recorded",
    "Samples",
    "available",
    "candidates",
    "choose",
    "forward_of",
    "load_forward",
    "probe",
    "resolve_settings",
]


def load_forward(model: Model, settings: ForwardSettings) -> Forward:
    """Load a model for running.

    Args:
        model: card and weights.
        settings: from `resolve_settings`, in the driver; the same in every worker.

    Raises:
        ModelError: weights that are not the card's or not finite, shapes that do not fit, an operation or a precision
            that the backend does not have.
    """
    from segflow.backends.network import check_network

    return forward_of(check_network(model.network(), model.card, settings.patch), settings)


def forward_of(checked: Checked, settings: ForwardSettings) -> Forward:
    """Load a network that was checked.

    Raises:
        ModelError: an operation or a precision that the backend does not have.
    """
    if settings.backend == "openvino":
        from segflow.backends.openvino_forward import OpenVinoForward

        return OpenVinoForward(checked, settings)
    if settings.backend == "onnxruntime":
        from segflow.backends.onnxruntime_forward import OnnxRuntimeForward

        return OnnxRuntimeForward(checked, settings)
    from segflow.backends.torch_forward import TorchForward

    return TorchForward(checked, settings)
