"""Convolutions at full resolution: no pooling, so nothing to undo, and nothing saved.

Jain et al.: Supervised Learning of Image Restoration with Convolutional Networks, ICCV 2007, is the first of the kind.
There is no one standard network of it: this is a plain stack of convolutions 3, ReLU and a convolution 1 as classifier.
Every layer works on all cells, and the field of view grows by two cells a layer only.
"""

from __future__ import annotations

from torch import Tensor, nn

from segflow.models.networks import vgg
from segflow.models.networks.layers import Norm, check_arguments, check_input, conv


class FullResolution(nn.Module):
    """A stack of convolutions that keep the size.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2 or 3.
        width: channels of every layer.
        depth: convolutions 3; the field of view is 2 * depth + 1 cells a side.
        norm: "batch" (default), "instance" or "none".

    Raises:
        ModelError: an argument makes no sense.
    """

    stride = 1

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
        check_arguments(dimensions, norm, in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)
        self.in_channels, self.dimensions = in_channels, dimensions
        self.layers = vgg.chain([in_channels, *[width] * depth], dimensions, norm)
        self.head = conv(width, out_channels, dimensions, 1)
        vgg.start(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, out_channels, *axes) of x (batch, in_channels, *axes), float32.

        Raises:
            ModelError: the channels or axes are not as many as expected.
        """
        check_input(x, self.in_channels, self.dimensions, self.stride)
        result: Tensor = self.head(self.layers(x))
        return result
