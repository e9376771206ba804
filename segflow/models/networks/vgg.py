"""What SegNet, FCN and DeconvNet share: the 13 convolutions of VGG16, level by level, and a start for deep networks.

Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015 (configuration D).
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from segflow.models.networks.layers import Norm, conv, conv_norm_relu, norm_layer

FULLY_CONNECTED = 64  # VGG16's fc6 and fc7 have 4,096 features: 64 times the width


def widths(width: int, depth: int) -> list[int]:
    """Return the channels of every level: twice as many at each, up to eight times the width."""
    return [width * min(2**level, 8) for level in range(depth)]


def counts(depth: int) -> list[int]:
    """Return how many convolutions every level has: two, two, then three."""
    return [2 if level < 2 else 3 for level in range(depth)]


def chain(sizes: list[int], dimensions: int, norm: Norm) -> nn.Sequential:
    """Return convolutions 3 with normalisation and ReLU, from each number of channels to the next."""
    parts = (conv_norm_relu(a, b, dimensions, norm) for a, b in pairwise(sizes))
    return nn.Sequential(*(part for parts_of_one in parts for part in parts_of_one))


def encoder(in_channels: int, width: int, depth: int, dimensions: int, norm: Norm) -> nn.ModuleList:
    """Return VGG16's levels without their poolings."""
    sizes = widths(width, depth)
    return nn.ModuleList(
        chain([inward, *([outward] * count)], dimensions, norm)
        for inward, outward, count in zip([in_channels, *sizes], sizes, counts(depth), strict=False)
    )


def decoder(width: int, depth: int, dimensions: int, norm: Norm, last: int) -> nn.ModuleList:
    """Return the levels in mirror image; the last convolution of each steps down to the next level's width.

    Args:
        width: channels of level 0.
        depth: levels.
        dimensions: 2 or 3.
        norm: normalisation.
        last: convolutions of level 0, which has no level to step down to.
    """
    sizes = widths(width, depth)
    first = chain([sizes[0]] * (last + 1), dimensions, norm)
    rest = (
        chain([sizes[level]] * count + [sizes[level - 1]], dimensions, norm)
        for level, count in enumerate(counts(depth))
        if level
    )
    return nn.ModuleList([first, *rest])


def start(network: nn.Module) -> None:
    """Draw weights as He et al. (ICCV 2015) do for ReLU: normal, variance 2 / fan-in; biases are zero.

    Without normalisation a deep network hardly trains from any other.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def fully_connected(inward: int, outward: int, dimensions: int, norm: Norm, kernel: int) -> list[nn.Module]:
    """Return one of VGG16's fully connected layers as a convolution that keeps the size: 7 for fc6, 1 for fc7."""
    layer = conv(inward, outward, dimensions, kernel, bias=norm == "none")
    return [layer, *norm_layer(outward, dimensions, norm), nn.ReLU(inplace=True)]
