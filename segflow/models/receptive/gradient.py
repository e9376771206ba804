"""The effective receptive field: where the influence on one output cell lies, by input gradients.

Luo, Li, Urtasun, Zemel: Understanding the Effective Receptive Field in Deep Convolutional Neural Networks, NIPS 2016:
it is a small, bell-shaped part of the field that a network could see.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

SHARE = 0.999
"""Of the gradient's sum of magnitudes that lies within the effective radius."""


def effective_radius(network: nn.Module, patch: torch.Tensor, share: float = SHARE) -> int | None:
    """Return the distance, in cells along the furthest axis, within which nearly all of the gradient lies.

    Of the output's centre: the largest channel's value there, by all input cells; magnitudes are summed over channels.

    Args:
        network: takes (batch, channel, *axes); it must be made of differentiable operations.
        patch: (1, channel, *axes) float32.
        share: what nearly all means, of 1.

    Returns:
        Cells; None where the network gives no gradient (a graph of ONNX), or all of it is 0.
    """
    x = patch.detach().clone().requires_grad_(True)
    centre = tuple(n // 2 for n in patch.shape[2:])
    try:
        with torch.enable_grad():
            network(x)[(0, slice(None), *centre)].amax().backward()
    except (RuntimeError, NotImplementedError):
        return None
    if x.grad is None:
        return None
    magnitude = x.grad[0].abs().sum(0).double().numpy()
    away = [np.abs(np.arange(n) - c) for n, c in zip(magnitude.shape, centre, strict=True)]
    furthest = np.zeros(magnitude.shape, np.int64)
    for part in np.ix_(*away):
        furthest = np.maximum(furthest, part)
    rings = np.bincount(furthest.ravel(), magnitude.ravel())
    if rings.sum() == 0:
        return None
    return int(np.searchsorted(np.cumsum(rings), share * rings.sum()))
