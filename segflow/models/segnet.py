"""SegNet, in two and three dimensions.

Badrinarayanan, Kendall, Cipolla: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation,
TPAMI 2017. The encoder is VGG16's 13 convolutions; the decoder mirrors it and places values where the encoder's
pooling found the largest.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from segflow.models.layers import (
    Norm,
    check_arguments,
    check_input,
    conv,
    conv_norm_relu,
    pool_with_places,
    unpool,
)


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
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "width": width, "depth": depth}
        check_arguments(dimensions, norm, sizes)
        self.in_channels, self.dimensions, self.depth = in_channels, dimensions, depth
        widths = [width * min(2**level, 8) for level in range(depth)]
        counts = [2 if level < 2 else 3 for level in range(depth)]

        def chain(sizes: list[int]) -> nn.Module:
            parts = (conv_norm_relu(a, b, dimensions, norm) for a, b in pairwise(sizes))
            return nn.Sequential(*(part for parts_of_one in parts for part in parts_of_one))

        self.encoder = nn.ModuleList(
            chain([inward, *([outward] * count)])
            for inward, outward, count in zip([in_channels, *widths], widths, counts, strict=False)
        )
        # The last convolution of each decoder level steps down to the next level's width; level 0 ends in the head.
        self.decoder = nn.ModuleList(
            chain([widths[level]] * counts[level] + ([widths[level - 1]] if level else [])) for level in range(depth)
        )
        self.head = conv(width, out_channels, dimensions)

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
        places: list[list[Tensor]] = []
        for block in self.encoder:
            x, place = pool_with_places(block(x))
            places.append(place)
        for level in range(self.depth - 1, -1, -1):
            x = self.decoder[level](unpool(x, places[level]))
        result: Tensor = self.head(x)
        return result
