"""SegNet, in two and three dimensions.

Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation,
TPAMI 2017. The encoder is VGG16's 13 convolutions; the decoder mirrors it and places values where the encoder's
pooling found the largest.
"""

from __future__ import annotations

from torch import nn

from segflow.models.networks import vgg
from segflow.models.networks.layers import Norm, check_arguments, conv, norm_layer
from segflow.models.networks.mirrored import WAYS, Mirrored
from segflow.models.networks.upsampling import Up, Upsampling, check_upsampling


class SegNet(Mirrored):
    """An encoder and its mirror image, joined by the places of the largest values.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2 or 3.
        width: channels of the first level; each deeper level has twice as many, up to eight times. The paper's is 64.
        depth: how often the size is halved. The paper's is 5; the first two levels have two convolutions, the others
            three.
        norm: "batch" (default, the paper's), "instance" or "none".
        upsampling: "max_unpooling" (default, the paper's), "nearest", "bed_of_nails", "bilinear" (the variant of the
            paper's table 1) or "transposed".

    Raises:
        ModelError: an argument makes no sense.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: int = 2,
        width: int = 64,
        depth: int = 5,
        norm: Norm = "batch",
        upsampling: Upsampling = "max_unpooling",
    ) -> None:
        super().__init__(in_channels, dimensions, depth, upsampling)
        check_upsampling("segnet", upsampling, WAYS)
        check_arguments(dimensions, norm, in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)
        self.encoder = vgg.encoder(in_channels, width, depth, dimensions, norm)
        self.decoder = vgg.decoder(width, depth, dimensions, norm, last=1)
        self.up = nn.ModuleList(Up(upsampling, n, n, dimensions) for n in vgg.widths(width, depth))
        self.head = conv(width, out_channels, dimensions)
        if norm == "none":
            vgg.start(self)


class SegNetBasic(Mirrored):
    """The paper's small SegNet: one wide convolution a level, the same number of features at all of them.

    Convolutions 7 without bias, each with batch normalisation, ReLU in the encoder only (section 3.1 of the paper), and
    a convolution 1 as classifier. The published 1.425 million parameters are met within 0.7 %: the paper does not say
    what else it counts. Its local contrast normalisation of the input is left to `normalisation` in the recipe.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2 or 3.
        width: features of every level. The paper's is 64.
        depth: how often the size is halved. The paper's is 4.
        norm: "batch" (default, the paper's), "instance" or "none" (convolutions then have a bias).
        upsampling: as SegNet's.

    Raises:
        ModelError: an argument makes no sense.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: int = 2,
        width: int = 64,
        depth: int = 4,
        norm: Norm = "batch",
        upsampling: Upsampling = "max_unpooling",
    ) -> None:
        super().__init__(in_channels, dimensions, depth, upsampling)
        check_upsampling("segnet_basic", upsampling, WAYS)
        check_arguments(dimensions, norm, in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)

        def wide(inward: int) -> list[nn.Module]:
            layer = conv(inward, width, dimensions, kernel=7, bias=norm == "none")
            return [layer, *norm_layer(width, dimensions, norm)]

        self.encoder = nn.ModuleList(
            nn.Sequential(*wide(width if level else in_channels), nn.ReLU(inplace=True)) for level in range(depth)
        )
        self.decoder = nn.ModuleList(nn.Sequential(*wide(width)) for _ in range(depth))
        self.up = nn.ModuleList(Up(upsampling, width, width, dimensions) for _ in range(depth))
        self.head = conv(width, out_channels, dimensions, 1)
        vgg.start(self)
