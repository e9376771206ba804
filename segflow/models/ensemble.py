"""Several networks, or one under several symmetries, as one network: the mean of their probabilities.

Being one module, it runs in the same lines of every backend as any other network, and a patch still has one array of
probabilities; blending does not know of it. Each member and each symmetry costs a pass of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor, nn

Tta = Literal["flips", "mirror", "d4"]


@dataclass(frozen=True, slots=True)
class Symmetry:
    """A flip of axes after an exchange of the last two; axes count from 0 behind batch and channel.

    Attributes:
        flipped: axes that are reversed.
        turned: whether the last two axes change places first.
    """

    flipped: tuple[int, ...] = ()
    turned: bool = False

    def apply(self, x: Tensor) -> Tensor:
        """Return x (batch, channel, *axes) as the network sees it."""
        if self.turned:
            x = x.transpose(-1, -2)
        return torch.flip(x, [axis + 2 for axis in self.flipped]) if self.flipped else x

    def undo(self, x: Tensor) -> Tensor:
        """Return what the network put out, put back in place."""
        if self.flipped:
            x = torch.flip(x, [axis + 2 for axis in self.flipped])
        return x.transpose(-1, -2) if self.turned else x


def symmetries(tta: Tta | None, axes: int) -> tuple[Symmetry, ...]:
    """Return the symmetries of a way of test-time augmentation, the identity first.

    Args:
        tta: flips: each axis by itself. mirror: every set of axes, as nnU-Net does. d4: the square's eight symmetries.
            None: the identity only.
        axes: 2 or 3.
    """
    if tta is None:
        return (Symmetry(),)
    if tta == "flips":
        return (Symmetry(), *(Symmetry((axis,)) for axis in range(axes)))
    sets = [chosen for size in range(axes + 1) for chosen in combinations(range(axes), size)]
    mirrored = tuple(Symmetry(chosen) for chosen in sets)
    return mirrored if tta == "mirror" else (*mirrored, *(Symmetry(chosen, turned=True) for chosen in sets))


class Averaged(nn.Module):
    """The mean of the probabilities of all members under all symmetries, summed in float32 in one fixed order.

    Args:
        members: each with its activation (`Probabilities`), in the order of the sum.
        views: symmetries, from `symmetries`.
        fixed_patch: the one patch that a member takes.

    Attributes:
        gives_probabilities: it needs no activation any more.
        square: whether axes change places, so that patches must be square.
    """

    gives_probabilities = True

    def __init__(
        self, members: Sequence[nn.Module], views: Sequence[Symmetry], fixed_patch: tuple[int, ...] | None = None
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.views = tuple(views)
        self.fixed_patch = fixed_patch
        self.square = any(view.turned for view in self.views)

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities (batch, output channel, *axes) float32 of x (batch, channel, *axes)."""
        total: Tensor | None = None
        for member in self.members:
            for view in self.views:
                found = view.undo(member(view.apply(x)))
                total = found if total is None else total + found
        if total is None:
            raise ValueError("an ensemble without members")
        return total / float(len(self.members) * len(self.views))
