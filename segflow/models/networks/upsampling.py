"""Upsampling as one interchangeable part of a network: five ways to make a map larger, in two and three dimensions.

| name | what it does | from |
|---|---|---|
| `nearest` | every value is repeated | |
| `bed_of_nails` | every value goes to the first cell of its window, the other cells are zero | |
| `bilinear` | linear interpolation between cell centres, along every axis (trilinear in 3-D) | |
| `max_unpooling` | every value goes where the encoder's pooling found the largest, else zero | Zeiler, ICCV 2011 |
| `transposed` | every value stamps a learned kernel, overlapping stamps are added | Long et al., CVPR 2015 |

All arrays are (batch, channel, *axes) with one to three axes where nothing else is said, and keep their dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from segflow.errors import ModelError
from segflow.models.networks.layers import conv, pool, pool_with_places, unpool

Upsampling = Literal["nearest", "bed_of_nails", "bilinear", "max_unpooling", "transposed"]
Places = list[Tensor]

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_LAYER: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def nearest(x: Tensor, factor: int = 2) -> Tensor:
    """Repeat every value `factor` times along every axis: 1 2 becomes 1 1 2 2."""
    return functional.interpolate(x, scale_factor=float(factor), mode="nearest")


def bed_of_nails(x: Tensor, factor: int = 2) -> Tensor:
    """Put every value into the first cell of its window and zero elsewhere: 1 2 becomes 1 0 2 0."""
    for axis in range(x.ndim - 1, 1, -1):
        rest = [torch.zeros_like(x)] * (factor - 1)
        x = torch.stack([x, *rest], dim=axis + 1).flatten(axis, axis + 1)
    return x


def bilinear(x: Tensor, factor: int = 2) -> Tensor:
    """Interpolate linearly between cell centres; beyond the border the outermost value goes on.

    The first of the factor's cells lies (factor - 1) / (2 * factor) of a cell before the centre of the coarse one, so
    that the windows of coarse and fine cells coincide (`align_corners=False`).
    """
    mode = _LINEAR[x.ndim - 2]
    return functional.interpolate(x, scale_factor=float(factor), mode=mode, align_corners=False)


def fixed_transposed(x: Tensor, factor: int) -> Tensor:
    """Return what a transposed convolution with a fixed bilinear kernel of 2 * factor gives; beyond the border is zero.

    It is how FCN's last step is meant (Long et al., CVPR 2015, section 4.3), without a kernel of 64 cells a side.
    """
    axes = x.ndim - 2
    grown = bilinear(functional.pad(x, (1, 1) * axes), factor)
    inner = (slice(None), slice(None), *(slice(factor, -factor),) * axes)
    return grown[inner]


def max_unpooling(values: Tensor, places: Places) -> Tensor:
    """Put values where `layers.pool_with_places` found the largest, zero elsewhere; doubles every axis."""
    return unpool(values, places)


def transposed(x: Tensor, kernel: Tensor, stride: int, crop: int = 0) -> Tensor:
    """Stamp a kernel at every cell, scaled by the cell's value, `stride` cells apart; add where stamps overlap.

    In one dimension with stride 2, the values (a, b) and the kernel (p, q, r) give (ap, aq, ar + bp, bq, br).

    Args:
        x: (*axes), one to three of them; one channel and no batch.
        kernel: (*sizes), as many axes.
        stride: cells between stamps.
        crop: cells that are cut off at either end of every axis.

    Returns:
        (stride * (n - 1) + size - 2 * crop) cells along an axis.
    """
    stamp = _TRANSPOSED[x.ndim]
    return stamp(x[None, None], kernel[None, None], stride=stride, padding=crop)[0, 0]


def bilinear_kernel(factor: int, dimensions: int) -> Tensor:
    """Return the kernel that makes a transposed convolution of stride `factor` interpolate linearly.

    Its size is 2 * factor along every axis, and factor / 2 cells are to be cropped at either end: for an even factor.
    In 1-D with factor 2: 0.25 0.75 0.75 0.25.
    """
    offset = torch.arange(2 * factor) - (factor - 0.5)
    line = 1 - offset.abs() / factor
    kernel = line
    for _ in range(dimensions - 1):
        kernel = kernel[..., None] * line
    return kernel


class LearnedBilinear(nn.Module):
    """FCN's step of twice the size: a transposed convolution 4, stride 2, without bias, that starts as bilinear.

    Every class starts with its own kernel and none of the others' (Long et al., CVPR 2015); all of it is learned.

    Args:
        channels: in and out.
        dimensions: 2 or 3.
    """

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        self._stamp = _TRANSPOSED[dimensions]
        self.weight = nn.Parameter(torch.zeros(channels, channels, *(4,) * dimensions))
        with torch.no_grad():
            self.weight[range(channels), range(channels)] = bilinear_kernel(2, dimensions).to(self.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """Return x twice as large."""
        return self._stamp(x, self.weight, stride=2, padding=1)


class Up(nn.Module):
    """One step of a decoder: twice the size along every axis.

    `transposed` is a transposed convolution 2, stride 2 (its `weight` and `bias` are this module's own). The other ways
    have nothing to learn; where the channels change, a convolution 3 follows, or comes before `max_unpooling`, whose
    places are those of the finer map's channels.

    Args:
        way: how it is done.
        inward: channels of the coarse map.
        outward: channels of the fine one.
        dimensions: 2 or 3.
    """

    def __init__(self, way: Upsampling, inward: int, outward: int, dimensions: int) -> None:
        super().__init__()
        self.way = way
        if way == "transposed":
            made = _LAYER[dimensions](inward, outward, 2, stride=2)
            self.weight, self.bias = made.weight, made.bias
        elif inward != outward:
            self.mix = conv(inward, outward, dimensions)
        self._mixes = way != "transposed" and inward != outward

    def forward(self, x: Tensor, places: Places | None = None) -> Tensor:
        """Return (batch, outward, *axes doubled) of x (batch, inward, *axes).

        Args:
            x: the coarse map.
            places: what `down` remembered at the finer level; only `max_unpooling` needs it.

        Raises:
            ModelError: max_unpooling without places.
        """
        if self.way == "transposed":
            return _TRANSPOSED[x.ndim - 2](x, self.weight, self.bias, stride=2)
        if self.way == "max_unpooling":
            if places is None:
                raise ModelError("max_unpooling got no places", "those of the pooling that it undoes", "pool by `down`")
            return max_unpooling(self.mix(x) if self._mixes else x, places)
        grown = {"nearest": nearest, "bed_of_nails": bed_of_nails, "bilinear": bilinear}[self.way](x)
        result: Tensor = self.mix(grown) if self._mixes else grown
        return result


def down(x: Tensor, way: Upsampling) -> tuple[Tensor, Places | None]:
    """Return the largest of every window of two cells an axis, and where they were if `way` will need it."""
    return pool_with_places(x) if way == "max_unpooling" else (pool(x), None)


def check_upsampling(network: str, way: str, ways: Collection[str]) -> None:
    """Check that a network can be made with a way of upsampling.

    Raises:
        ModelError: it cannot; those that it can are named.
    """
    if way in ways:
        return
    if not ways:
        found, expected = f"{network} has no upsampling, but it is given {way!r}", "no argument `upsampling`"
        raise ModelError(found, expected, "leave it out")
    raise ModelError(f"{network} with upsampling {way!r}", "one of " + ", ".join(ways), "choose one of these")
