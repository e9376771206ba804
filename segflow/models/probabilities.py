"""From a network's raw output to probabilities, as one module that backends wrap, trace and export."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segflow.models.card import Card


class Probabilities(nn.Module):
    """A network followed by its card's activation.

    Args:
        network: as `Model.network` returns it.
        card: names the output tensor and the activation.
    """

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network = network
        self._output = card.output
        # An ensemble puts out probabilities.
        self._activation = "none" if getattr(network, "gives_probabilities", False) else card.activation

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities (batch, card.output_channels, *axes) float32 of x (batch, channel, *axes).

        softmax: over the channels, which sum to one. sigmoid: each channel by itself. none: the network's own values.
        """
        result = self.network(x)
        if isinstance(result, dict):
            result = list(result.values())
        if isinstance(result, list | tuple):
            result = result[self._output]
        logits: Tensor = result.float()
        if self._activation == "softmax":
            return torch.softmax(logits, dim=1)
        if self._activation == "sigmoid":
            return torch.sigmoid(logits)
        return logits
