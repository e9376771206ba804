"""The networks of nnU-Net's folds as one: the mean of their logits, over folds and mirrored views.

nnU-Net also averages logits where patches overlap, and resamples them. So the module puts out logits, on a scale from 0
to 1 (`segflow.models.card.LOGIT_RANGE`): for softmax heads the logarithms of the probabilities, which are the logits up
to a number that is the same for all channels of a cell, and so of no weight in any mean; cut off at minus the range.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segflow.models.card import LOGIT_RANGE


class Folds(nn.Module):
    """The mean of the logits of all folds and views, summed in float32 in one fixed order.

    Args:
        members: the folds' networks.
        views: sets of axes, counted behind batch and channel, that are mirrored; the empty set is the plain view.
        strides: total downsampling on each axis.
        slices: the networks are 2-D, and patches (channel, 1, y, x).
        independent: the channels are regions that may overlap.

    Attributes:
        trial_patch: a patch as small as the network takes, to try its shapes with.
        passes: how often a network is run for a patch.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        views: Sequence[tuple[int, ...]],
        strides: Sequence[int],
        slices: bool,
        independent: bool,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.views = tuple(views)
        self.slices = slices
        self.independent = independent
        self.trial_patch = (*((1,) if slices else ()), *(max(2 * n, 8) if n > 1 else 8 for n in strides))
        self.passes = len(members) * len(self.views)

    def forward(self, x: Tensor) -> Tensor:
        """Return scaled logits (batch, output channel, *axes) float32, from 0 to 1, of x (batch, channel, *axes)."""
        if self.slices:
            x = x.squeeze(2)
        total: Tensor | None = None
        for member in self.members:
            for axes in self.views:
                dims = [axis + 2 for axis in axes]
                found = member(torch.flip(x, dims)) if dims else member(x)
                found = torch.flip(found, dims) if dims else found
                total = found if total is None else total + found
        if total is None:
            raise ValueError("no fold")
        mean = total / float(self.passes)
        scaled = 0.5 + mean / (2 * LOGIT_RANGE) if self.independent else 1 + torch.log_softmax(mean, 1) / LOGIT_RANGE
        mean = scaled.clamp(0.0, 1.0)
        return mean.unsqueeze(2) if self.slices else mean
