"""FCN-32s, FCN-16s and FCN-8s, in two and three dimensions.

Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation, CVPR 2015. VGG16 with its fully
connected layers as convolutions scores coarse cells; 16s and 8s add scores of the two levels before, after doubling.

What differs from the paper. It pads the image by 100 cells and crops the result, so that the 7 x 7 of fc6, which pads
nothing, finds room. Here every convolution pads itself, fc6 by 3: the output is as large as the input, coarse cells lie
exactly over their 32 x 32 cells, and a patch may be any multiple of 32. Away from borders both compute the same.
Learning rates a layer and training in stages (32s, then 16s, then 8s) are a matter of the recipe.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from segflow.errors import ModelError
from segflow.models.networks import vgg
from segflow.models.networks.layers import Norm, check_arguments, check_input, conv, pool
from segflow.models.networks.upsampling import (
    LearnedBilinear,
    Upsampling,
    bilinear,
    check_upsampling,
    fixed_transposed,
    nearest,
)

WAYS = ("transposed", "bilinear", "nearest")


class FCN32s(nn.Module):
    """VGG16's scores, made 32 times as large at once.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2 or 3.
        width: channels of the first level; fc6 and fc7 have 64 times as many. The paper's is 64: 4,096.
        depth: how often the size is halved. The paper's is 5; the numbers in the names 32s, 16s, 8s are for that.
        norm: "batch" (default), "instance" or "none" (the paper's).
        upsampling: "transposed" (default, the paper's: steps of two start as bilinear and are learned, the last step is
            fixed), "bilinear" or "nearest" (both fixed). The others make no sense on score maps: no convolution follows
            to fill a bed of nails, and no pooling has a channel a class.
        dropout: share of fc6's and fc7's features that training drops; the paper's is 0.5.

    Raises:
        ModelError: an argument makes no sense.
    """

    skips: ClassVar[int] = 0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: int = 2,
        width: int = 64,
        depth: int = 5,
        norm: Norm = "batch",
        upsampling: Upsampling = "transposed",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_upsampling(type(self).__name__.lower(), upsampling, WAYS)
        check_arguments(dimensions, norm, in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)
        if depth <= self.skips:
            raise ModelError(f"depth is {depth}", f"at least {self.skips + 1}: each skip needs a level", "raise depth")
        if not 0 <= dropout < 1:
            raise ModelError(f"dropout is {dropout!r}", "a share from 0 to less than 1", "correct the arguments")
        self.in_channels, self.dimensions, self.depth, self._way = in_channels, dimensions, depth, upsampling
        last, full = vgg.widths(width, depth), width * vgg.FULLY_CONNECTED
        self.encoder = vgg.encoder(in_channels, width, depth, dimensions, norm)
        self.connected = nn.Sequential(
            *vgg.fully_connected(last[-1], full, dimensions, norm, kernel=7),
            nn.Dropout(dropout),
            *vgg.fully_connected(full, full, dimensions, norm, kernel=1),
            nn.Dropout(dropout),
        )
        self.head = conv(full, out_channels, dimensions, 1)
        # Of the levels before the deepest, the deeper one first.
        fused = range(depth - 2, depth - 2 - self.skips, -1)
        self.skip = nn.ModuleList(conv(last[level], out_channels, dimensions, 1) for level in fused)
        vgg.start(self)
        for score in (self.head, *self.skip):
            # The paper starts scores at zero; with nothing learned before, a little more than that.
            nn.init.normal_(score.weight, std=0.01)
        if upsampling == "transposed":
            self.doubling = nn.ModuleList(LearnedBilinear(out_channels, dimensions) for _ in range(self.skips))

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
        pooled: list[Tensor] = []
        for block in self.encoder:
            x = pool(block(x))
            pooled.append(x)
        scores: Tensor = self.head(self.connected(x))
        for step, skip in enumerate(self.skip):
            scores = self._double(scores, step) + skip(pooled[-2 - step])
        factor = self.stride // 2**self.skips
        if self._way == "transposed":
            return fixed_transposed(scores, factor)
        return bilinear(scores, factor) if self._way == "bilinear" else nearest(scores, factor)

    def _double(self, scores: Tensor, step: int) -> Tensor:
        if self._way == "transposed":
            learned: Tensor = self.doubling[step](scores)
            return learned
        return bilinear(scores) if self._way == "bilinear" else nearest(scores)


class FCN16s(FCN32s):
    """FCN-32s whose scores, doubled, are added to those of the level before; 16 times as large from there.

    Arguments as of `FCN32s`, depth from 2.
    """

    skips: ClassVar[int] = 1


class FCN8s(FCN32s):
    """FCN-16s whose scores, doubled, are added to those of one more level before; 8 times as large from there.

    Arguments as of `FCN32s`, depth from 3.
    """

    skips: ClassVar[int] = 2
