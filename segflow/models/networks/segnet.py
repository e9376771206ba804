"""SegNet, in two and three dimensions.

Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation,
TPAMI 2017. The encoder is VGG16's 13 convolutions; the decoder mirrors it and places values where the encoder's
pooling found the largest.
"""

from __future__ import annotations

from torch import Tensor, nn

from segflow.models.networks import vgg
from segflow.models.networks.layers import Norm, check_arguments, check_input, conv, norm_layer
from segflow.models.networks.upsampling import Places, Up, Upsampling, check_upsampling, down

WAYS = ("max_unpooling", "nearest", "bed_of_nails", "bilinear", "transposed")


class SegNet(nn.Module):
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
        super().__init__()
        check_upsampling("segnet", upsampling, WAYS)
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "width": width, "depth": depth}
        check_arguments(dimensions, norm, sizes)
        self.in_channels, self.dimensions, self.depth, self._way = in_channels, dimensions, depth, upsampling
        self.encoder = vgg.encoder(in_channels, width, depth, dimensions, norm)
        self.decoder = vgg.decoder(width, depth, dimensions, norm, last=1)
        self.up = nn.ModuleList(Up(upsampling, n, n, dimensions) for n in vgg.widths(width, depth))
        self.head = conv(width, out_channels, dimensions)
        if norm == "none":
            vgg.start(self)

    @property
    def stride(self) -> int:
        """Total downsampling: sizes are multiples of it, and so are the shifts that it is equivariant to."""
        return int(2**self.depth)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, out_channels, *axes) of x (batch, in_channels, *axes), float32.

        Raises:
            ModelError: an axis is no multiple of the stride, or the channels are not as many as expected.
        """
        check_input(x, self.in_channels, self.dimensions, self.stride)
        places: list[Places | None] = []
        for block in self.encoder:
            x, place = down(block(x), self._way)
            places.append(place)
        for level in range(self.depth - 1, -1, -1):
            x = self.decoder[level](self.up[level](x, places[level]))
        result: Tensor = self.head(x)
        return result


class SegNetBasic(nn.Module):
    """The paper's small SegNet: one wide convolution a level, the same number of features at all of them.

    Convolutions 7 without bias, each with batch normalisation, ReLU in the encoder only (section 3.1 of the paper), and
    a convolution 1 as classifier. The published 1.425 million parameters are met within 0.6 %: the paper does not say
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
        super().__init__()
        check_upsampling("segnet_basic", upsampling, WAYS)
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "width": width, "depth": depth}
        check_arguments(dimensions, norm, sizes)
        self.in_channels, self.dimensions, self.depth, self._way = in_channels, dimensions, depth, upsampling

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

    @property
    def stride(self) -> int:
        """Total downsampling: sizes are multiples of it, and so are the shifts that it is equivariant to."""
        return int(2**self.depth)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, out_channels, *axes) of x (batch, in_channels, *axes), float32.

        Raises:
            ModelError: an axis is no multiple of the stride, or the channels are not as many as expected.
        """
        check_input(x, self.in_channels, self.dimensions, self.stride)
        places: list[Places | None] = []
        for block in self.encoder:
            x, place = down(block(x), self._way)
            places.append(place)
        for level in range(self.depth - 1, -1, -1):
            x = self.decoder[level](self.up[level](x, places[level]))
        result: Tensor = self.head(x)
        return result
