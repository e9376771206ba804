"""U-Net, in two and three dimensions.

Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015; in three
dimensions Çiçek et al., MICCAI 2016. Two things differ from the paper: convolutions are padded, so that the output is
as large as the input, and batch normalisation follows each of them unless `norm` says otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segflow.models.layers import (
    Norm,
    check_dimensions,
    check_input,
    check_norm,
    check_size,
    conv,
    conv_norm_relu,
    pool,
    up_conv,
)


class UNet(nn.Module):
    """An encoder and a decoder of equal depth; every level of the decoder sees the encoder's output of its size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2 or 3.
        width: channels of the first level; each deeper level has twice as many. The paper's is 64.
        depth: how often the size is halved. The paper's is 4.
        norm: "batch" (default), "instance" or "none" (the paper's).

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
    ) -> None:
        super().__init__()
        check_dimensions(dimensions)
        check_norm(norm)
        for what, value in (("in_channels", in_channels), ("out_channels", out_channels), ("width", width)):
            check_size(what, value, 1)
        check_size("depth", depth, 1)
        self.in_channels, self.dimensions, self.depth = in_channels, dimensions, depth
        widths = [width * 2**level for level in range(depth + 1)]

        def double(inward: int, outward: int) -> nn.Module:
            first = conv_norm_relu(inward, outward, dimensions, norm)
            return nn.Sequential(*first, *conv_norm_relu(outward, outward, dimensions, norm))

        self.encoder = nn.ModuleList(
            double(inward, outward) for inward, outward in zip([in_channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(up_conv(widths[level + 1], widths[level], dimensions) for level in range(depth))
        self.decoder = nn.ModuleList(double(2 * widths[level], widths[level]) for level in range(depth))
        self.head = conv(width, out_channels, dimensions, kernel=1)

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
        kept: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else pool(x))
            kept.append(x)
        for level in range(self.depth - 1, -1, -1):
            x = self.decoder[level](torch.cat((kept[level], self.up[level](x)), dim=1))
        result: Tensor = self.head(x)
        return result
