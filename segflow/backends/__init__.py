"""Backends: one protocol, `Forward`, by which a network is run; torch and OpenVINO behind it.

Importing this package imports neither of them; `load_forward` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segflow.backends.probe import probe
from segflow.backends.protocol import Forward
from segflow.backends.settings import ForwardSettings, available, resolve_settings

if TYPE_CHECKING:
    from segflow.models.model import Model

__all__ = ["Forward", "ForwardSettings", "available", "load_forward", "probe", "resolve_settings"]


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

    checked = check_network(model.network(), model.card, settings.patch)
    if settings.backend == "openvino":
        from segflow.backends.openvino_forward import OpenVinoForward

        return OpenVinoForward(checked, settings)
    from segflow.backends.torch_forward import TorchForward

    return TorchForward(checked, settings)
