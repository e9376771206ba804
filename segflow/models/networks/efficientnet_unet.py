"""A U-Net with EfficientNet-lite as its encoder, for rasters: training can start from one that knows photographs.

Encoder: Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019, in its lite
variants (Google, 2020): without squeeze-and-excitation, with ReLU6, and with first and last stage unscaled. Nothing in
it reads a whole patch, so a cell's result does not depend on the patch's size. Its layers have the names that timm
gives them. Decoder: Ronneberger et al., MICCAI 2015, from the deepest level up to half of the resolution; the head
doubles it.
"""

from __future__ import annotations

from math import ceil
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from segflow.errors import ModelError
from segflow.models.networks.layers import check_arguments, check_input, conv_norm_relu, up_conv
from segflow.models.networks.upsampling import Up, Upsampling, check_upsampling

WAYS = ("bilinear", "nearest", "bed_of_nails", "transposed")
Variant = Literal["lite0", "lite1", "lite2", "lite3", "lite4"]

_SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
"""Factors of the channels and of the blocks a stage."""
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of lite0: blocks, kernel, stride of the first block, expansion, channels out (table 1 of the paper)."""
_LEVELS = ((0,), (1,), (2,), (3, 4), (5, 6))
"""Stages that work at a half, a quarter, ... of the resolution."""
_STEM = 32
_WIDEST = 128


class EfficientNetUNet(nn.Module):
    """EfficientNet-lite down to 1/2^depth of the resolution, and a U-Net's way back up.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2.
        variant: "lite0" (default) to "lite4": how wide and deep the encoder is.
        depth: how often the size is halved, 2 to 5; 5 is the whole encoder.
        width: the decoder's channels at half of the resolution; each deeper level has twice as many, at most 128.
        upsampling: "bilinear" (default), "nearest", "bed_of_nails" or "transposed".

    Raises:
        ModelError: an argument makes no sense.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: int = 2,
        variant: Variant = "lite0",
        depth: int = 5,
        width: int = 32,
        upsampling: Upsampling = "bilinear",
    ) -> None:
        super().__init__()
        check_upsampling("efficientnet_unet", upsampling, WAYS)
        check_arguments(dimensions, "batch", in_channels=in_channels, out_channels=out_channels, width=width)
        if dimensions != 2:
            raise ModelError(
                "efficientnet_unet in 3 dimensions", "a network for rasters", "take unet, segnet or an fcn"
            )
        if variant not in _SCALES or not isinstance(depth, int) or not 2 <= depth <= len(_LEVELS):
            raise ModelError(
                f"efficientnet_unet with variant {variant!r}, depth {depth!r}",
                "lite0 to lite4, and a depth from 2 to 5",
                "correct the arguments",
            )
        self.in_channels, self.depth, self._way = in_channels, depth, upsampling
        self.encoder = _Encoder(in_channels, variant, depth)
        widths = [min(width * 2**level, _WIDEST) for level in range(depth - 1)]
        below = [*widths[1:], self.encoder.channels[-1]]
        self.up = nn.ModuleList(Up(upsampling, inward, inward, 2) for inward in below)
        self.decoder = nn.ModuleList(
            nn.Sequential(
                *conv_norm_relu(inward + skip, outward, 2, "batch"), *conv_norm_relu(outward, outward, 2, "batch")
            )
            for inward, skip, outward in zip(below, self.encoder.channels, widths, strict=False)
        )
        self.head = up_conv(widths[0], out_channels, 2)

    @property
    def stride(self) -> int:
        """Total downsampling: sizes are multiples of it, and so are the shifts that it is equivariant to."""
        return int(2**self.depth)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, out_channels, y, x) of x (batch, in_channels, y, x), float32.

        Raises:
            ModelError: an axis is no multiple of the stride, or the channels are not as many as expected.
        """
        check_input(x, self.in_channels, 2, self.stride)
        *skips, x = self.encoder(x)
        for level in range(self.depth - 2, -1, -1):
            x = self.decoder[level](torch.cat((skips[level], self.up[level](x)), dim=1))
        result: Tensor = self.head(x)
        return result


class _Encoder(nn.Module):
    """The stages, each level's output kept. `channels` are theirs, from half of the resolution downwards."""

    def __init__(self, in_channels: int, variant: Variant, depth: int) -> None:
        super().__init__()
        wider, deeper = _SCALES[variant]
        self.conv_stem = _Conv(in_channels, _STEM, 3, 2)
        self.bn1 = _norm(_STEM)
        self.blocks = nn.ModuleList()
        inward = _STEM
        for stage in range(_LEVELS[depth - 1][-1] + 1):
            repeats, kernel, stride, expansion, outward = _STAGES[stage]
            outward = _rounded(outward * wider)
            if 0 < stage < len(_STAGES) - 1:
                repeats = ceil(repeats * deeper)
            row = nn.Sequential()
            for number in range(repeats):
                row.append(_Block(inward, outward, kernel, stride if number == 0 else 1, expansion))
                inward = outward
            self.blocks.append(row)
        self._last = tuple(level[-1] for level in _LEVELS[:depth])
        self.channels = tuple(_rounded(_STAGES[stage][-1] * wider) for stage in self._last)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return (batch, channels[k], y / 2^(k+1), x / 2^(k+1)) for every level k."""
        x = functional.relu6(self.bn1(self.conv_stem(x)))
        kept = []
        for stage, row in enumerate(self.blocks):
            x = row(x)
            if stage in self._last:
                kept.append(x)
        return kept


class _Block(nn.Module):
    """Expand, convolve each channel by itself, project; add where sizes agree (Sandler et al., CVPR 2018)."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inward * expansion
        self._adds = stride == 1 and inward == outward
        steps: list[tuple[str, _Conv]] = []
        depthwise = _Conv(middle, middle, kernel, stride, groups=middle)
        if expansion > 1:
            steps = [
                ("conv_pw", _Conv(inward, middle, 1)),
                ("conv_dw", depthwise),
                ("conv_pwl", _Conv(middle, outward, 1)),
            ]
        else:
            steps = [("conv_dw", depthwise), ("conv_pw", _Conv(middle, outward, 1))]
        self._steps = []
        for number, (name, convolution) in enumerate(steps, 1):
            self.add_module(name, convolution)
            self.add_module(f"bn{number}", _norm(convolution.out_channels))
            self._steps.append((name, f"bn{number}"))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, outward, *axes / stride)."""
        y = x
        for number, (convolution, norm) in enumerate(self._steps):
            y = getattr(self, norm)(getattr(self, convolution)(y))
            if number < len(self._steps) - 1:
                y = functional.relu6(y)
        return x + y if self._adds else y


class _Conv(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow does ("same"): with stride 2 one cell more at the far end."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            inward, outward, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups, bias=False
        )
        self._near, self._far = (kernel - stride) // 2, (kernel - stride + 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, outward, *axes / stride), for even axes."""
        if self.stride[0] > 1:
            x = functional.pad(x, (self._near, self._far, self._near, self._far))
        return super().forward(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _rounded(channels: float) -> int:
    """Return a multiple of 8 that is no more than a tenth below, as the paper's code rounds channels."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
