"""DeconvNet, in two and three dimensions.

Noh, Hong, Han: Learning Deconvolution Network for Semantic Segmentation, ICCV 2015. VGG16 with fc6 and fc7, and its
mirror image: unpooling to remembered places, each followed by deconvolutions.

What differs from the paper. It takes 224 x 224 cells, of which fc6 (7 x 7, no padding) makes one, and a 7 x 7
deconvolution makes 7 x 7 again. Here both pad by 3 and keep the size, so that any multiple of 32 is a patch; the
weights are as many. A deconvolution of stride 1 is a convolution with its kernel turned around and is written as one.
The paper segments object proposals and merges them; here the whole patch is segmented.
"""

from __future__ import annotations

from torch import Tensor, nn

from segflow.models.networks import vgg
from segflow.models.networks.layers import Norm, check_arguments, conv
from segflow.models.networks.mirrored import WAYS, Mirrored
from segflow.models.networks.upsampling import Up, Upsampling, check_upsampling


class DeconvNet(Mirrored):
    """An encoder with VGG16's fully connected layers, and its mirror image, joined by the places of the largest values.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2 or 3.
        width: channels of the first level; fc6 and fc7 have 64 times as many. The paper's is 64: 4,096.
        depth: how often the size is halved. The paper's is 5.
        norm: "batch" (default, the paper's), "instance" or "none".
        upsampling: "max_unpooling" (default, the paper's), "nearest", "bed_of_nails", "bilinear" or "transposed".

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
        check_upsampling("deconvnet", upsampling, WAYS)
        check_arguments(dimensions, norm, in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)
        levels, full = vgg.widths(width, depth), width * vgg.FULLY_CONNECTED
        self.encoder = vgg.encoder(in_channels, width, depth, dimensions, norm)
        self.connected = nn.Sequential(
            *vgg.fully_connected(levels[-1], full, dimensions, norm, kernel=7),
            *vgg.fully_connected(full, full, dimensions, norm, kernel=1),
            *vgg.fully_connected(full, levels[-1], dimensions, norm, kernel=7),
        )
        self.decoder = vgg.decoder(width, depth, dimensions, norm, last=2)
        self.up = nn.ModuleList(Up(upsampling, n, n, dimensions) for n in levels)
        self.head = conv(width, out_channels, dimensions, 1)
        vgg.start(self)

    def between(self, x: Tensor) -> Tensor:
        """Return the features of VGG16's fully connected layers, as many as the deepest level's."""
        result: Tensor = self.connected(x)
        return result
