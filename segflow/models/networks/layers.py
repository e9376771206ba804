"""What the networks are made of, in two and three dimensions from one definition."""

from __future__ import annotations

from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from segflow.errors import ModelError

Norm = Literal["batch", "instance", "none"]

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_UP: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM: dict[tuple[str, int], type[nn.Module]] = {
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
}


def conv(inward: int, outward: int, dimensions: int, kernel: int = 3, bias: bool = True, pad: bool = True) -> nn.Module:
    """Return a convolution that keeps the size (zero padding), or one without padding, which needs no odd kernel."""
    return _CONV[dimensions](inward, outward, kernel, padding=kernel // 2 if pad else 0, bias=bias)


def up_conv(inward: int, outward: int, dimensions: int) -> nn.Module:
    """Return a transposed convolution that doubles the size on every axis."""
    return _UP[dimensions](inward, outward, 2, stride=2)


def down_conv(inward: int, outward: int, dimensions: int) -> nn.Module:
    """Return a convolution that halves the size on every axis."""
    return _CONV[dimensions](inward, outward, 2, stride=2)


def conv_norm_relu(inward: int, outward: int, dimensions: int, norm: Norm) -> list[nn.Module]:
    """Return convolution 3, normalisation and ReLU. Instance norm reads a patch's own statistics: avoid it."""
    layer = conv(inward, outward, dimensions, bias=norm == "none")
    return [layer, *norm_layer(outward, dimensions, norm), nn.ReLU(inplace=True)]


def norm_layer(channels: int, dimensions: int, norm: Norm) -> list[nn.Module]:
    """Return the normalisation, or nothing where there is none."""
    if norm == "none":
        return []
    extra = {"affine": True} if norm == "instance" else {}
    return [_NORM[norm, dimensions](channels, **extra)]


def pool(x: Tensor) -> Tensor:
    """Return the largest of every window of two cells an axis. x: (batch, channel, *axes)."""
    return functional.max_pool2d(x, 2) if x.ndim == 4 else functional.max_pool3d(x, 2)


def pool_with_places(x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Pool, and remember which cell of each window was the largest.

    Equal to `torch.nn.functional.max_pool2d(return_indices=True)` but made of operations that every exporter knows:
    the place is a one-hot over the window's 2^n cells, not a flat index. Of equal cells the first one counts, as in
    PyTorch.

    Args:
        x: (batch, channel, *axes), every axis even.

    Returns:
        the pooled values, and 2^n boolean arrays of their shape, in C order of the cell within the window.
    """
    top = pool(x)
    places: list[Tensor] = []
    taken: Tensor | None = None
    for corner in product((0, 1), repeat=x.ndim - 2):
        phase = x
        for axis, start in enumerate(corner, start=2):
            phase = _every_second(phase, axis, start)
        hit = phase == top
        if taken is None:
            taken = hit
        else:
            hit = torch.logical_and(hit, torch.logical_not(taken))
            taken = torch.logical_or(taken, hit)
        places.append(hit)
    return top, places


def unpool(values: Tensor, places: list[Tensor]) -> Tensor:
    """Put values back where `pool_with_places` found the largest, and zero elsewhere; doubles every axis.

    Equal to `torch.nn.functional.max_unpool2d` and `max_unpool3d` to the bit.
    """
    zero = torch.zeros((), dtype=values.dtype, device=values.device)
    phases = [torch.where(hit, values, zero) for hit in places]
    for axis in range(values.ndim - 1, 1, -1):
        pairs = zip(phases[::2], phases[1::2], strict=True)
        phases = [torch.stack(pair, dim=axis + 1).flatten(axis, axis + 1) for pair in pairs]
    return phases[0]


def check_input(x: Tensor, channels: int, dimensions: int, stride: int) -> None:
    """Check a batch's shape.

    Raises:
        ModelError: x is not (batch, channels, *axes) with every axis a multiple of the stride.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return
    shape = tuple(int(n) for n in x.shape)
    if len(shape) != dimensions + 2 or shape[1] != channels:
        raise ModelError(
            f"the network got an array of shape {shape}",
            f"(batch, {channels} channels, {dimensions} axes)",
            "give the bands or modalities that the card lists",
        )
    if any(n % stride for n in shape[2:]):
        raise ModelError(
            f"the network got a patch of {shape[2:]}",
            f"a multiple of its stride {stride} on every axis",
            "choose such a tiling.patch, or pad the input",
        )


def _every_second(x: Tensor, axis: int, start: int) -> Tensor:
    index: list[slice] = [slice(None)] * x.ndim
    index[axis] = slice(start, None, 2)
    return x[tuple(index)]


def check_arguments(dimensions: int, norm: str, **sizes: int) -> None:
    """Check what every architecture is made with.

    Args:
        dimensions: 2 or 3.
        norm: name of a normalisation layer.
        sizes: channels, width, depth and the like, by name: whole numbers from 1.

    Raises:
        ModelError: an argument makes no sense; it is named.
    """
    remedy = "correct the arguments"
    if dimensions not in (2, 3):
        raise ModelError(f"dimensions is {dimensions!r}", "2 for rasters or 3 for volumes", remedy)
    if norm not in ("batch", "instance", "none"):
        raise ModelError(f"norm is {norm!r}", "batch, instance or none", remedy)
    for what, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{what} is {value!r}", "a whole number of at least 1", remedy)
