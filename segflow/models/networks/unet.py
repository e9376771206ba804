"""U-Net, in two and three dimensions.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015; in three
dimensions Çiçek et al., MICCAI 2016. Two things differ from the paper: convolutions are padded, so that the output is
as large as the input, and batch normalisation follows each of them unless `norm` says otherwise.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from segflow.errors import ModelError
from segflow.models.networks import vgg
from segflow.models.networks.layers import Norm, check_arguments, check_input, conv, conv_norm_relu, down_conv, up_conv
from segflow.models.networks.upsampling import Places, Up, Upsampling, check_upsampling, down

WAYS = ("transposed", "nearest", "bed_of_nails", "bilinear", "max_unpooling")


class UNet(nn.Module):
    """An encoder and a decoder of equal depth; every level of the decoder sees the encoder's output of its size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2 or 3.
        width: channels of the first level; each deeper level has twice as many. The paper's is 64.
        depth: how often the size is halved. The paper's is 4.
        norm: "batch" (default), "instance" or "none" (the paper's).
        widest: most channels that a level may have; None (the paper's) sets no limit.
        stem: 1 (the paper's) or 2: a first convolution halves the size and the head doubles it again, so that all
            levels work on a quarter (an eighth in 3-D) of the cells.
        upsampling: "transposed" (default), "nearest", "bed_of_nails", "bilinear" or "max_unpooling"; with each of the
            other four a convolution 3 brings the channels down.

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
        widest: int | None = None,
        stem: int = 1,
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        check_upsampling("unet", upsampling, WAYS)
        check_arguments(dimensions, norm, in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)
        if widest is not None:
            check_arguments(dimensions, norm, widest=widest)
        if stem not in (1, 2):
            raise ModelError(f"stem is {stem!r}", "1 or 2", "correct the arguments")
        self.in_channels, self.dimensions, self.depth = in_channels, dimensions, depth
        self._stem, self._way = stem, upsampling
        widths = [min(width * 2**level, widest or width * 2**level) for level in range(depth + 1)]
        inward = in_channels if stem == 1 else width

        def double(inward: int, outward: int) -> nn.Module:
            first = conv_norm_relu(inward, outward, dimensions, norm)
            return nn.Sequential(*first, *conv_norm_relu(outward, outward, dimensions, norm))

        self.encoder = nn.ModuleList(
            double(before, after) for before, after in zip([inward, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(Up(upsampling, b, a, dimensions) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(double(2 * widths[level], widths[level]) for level in range(depth))
        self.stem = down_conv(in_channels, inward, dimensions) if stem == 2 else nn.Identity()
        last = widths[0]
        self.head = up_conv(last, out_channels, dimensions) if stem == 2 else conv(last, out_channels, dimensions, 1)
        if norm == "none":
            vgg.start(self)

    @property
    def stride(self) -> int:
        """Total downsampling: sizes are multiples of it, and so are the shifts that it is equivariant to."""
        return int(2**self.depth) * self._stem

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, out_channels, *axes) of x (batch, in_channels, *axes), float32.

        Raises:
            ModelError: an axis is no multiple of the stride, or the channels are not as many as expected.
        """
        check_input(x, self.in_channels, self.dimensions, self.stride)
        x = self.stem(x)
        kept: list[tuple[Tensor, Places | None]] = []
        for block in self.encoder[: self.depth]:
            x = block(x)
            pooled, places = down(x, self._way)
            kept.append((x, places))
            x = pooled
        x = self.encoder[self.depth](x)
        for level in range(self.depth - 1, -1, -1):
            skip, places = kept[level]
            x = self.decoder[level](torch.cat((skip, self.up[level](x, places)), dim=1))
        result: Tensor = self.head(x)
        return result
