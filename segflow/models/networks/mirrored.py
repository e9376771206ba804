"""What SegNet and DeconvNet share: an encoder and its mirror image, joined by the places of the largest values."""

from __future__ import annotations

from torch import Tensor, nn

from segflow.models.networks.layers import check_input
from segflow.models.networks.upsampling import Places, Upsampling, down

WAYS: tuple[Upsampling, ...] = ("max_unpooling", "nearest", "bed_of_nails", "bilinear", "transposed")
"""How such a network can enlarge, the papers' own way first."""


class Mirrored(nn.Module):
    """Levels that halve the size, what lies between, and as many that double it.

    A network of the kind sets `encoder`, `up` and `decoder` (a module a level, the finest first) and `head`, which
    scores the classes; and overrides `between` where something lies there.

    Args:
        in_channels: channels of the input.
        dimensions: 2 or 3.
        depth: how often the size is halved.
        way: how it is doubled, one of `WAYS`.
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList
    up: nn.ModuleList
    head: nn.Module

    def __init__(self, in_channels: int, dimensions: int, depth: int, way: Upsampling) -> None:
        super().__init__()
        self.in_channels, self.dimensions, self.depth, self._way = in_channels, dimensions, depth, way

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
        x = self.between(x)
        for level in range(self.depth - 1, -1, -1):
            x = self.decoder[level](self.up[level](x, places[level]))
        result: Tensor = self.head(x)
        return result

    def between(self, x: Tensor) -> Tensor:
        """Return what the decoder starts from; SegNet's starts from the encoder's last level itself."""
        return x
