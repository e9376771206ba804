"""The sliding-window patch classifier: a window around every cell goes through the network, for the centre's label.

Cireşan, Giusti, Gambardella, Schmidhuber: Deep Neural Networks Segment Neuronal Membranes in Electron Microscopy
Images, NIPS 2012, network N4: a window of 95 x 95, four convolutions (4, 5, 4, 4) of 48 maps, each with max pooling,
and 200 hidden units. It is kept as the baseline whose cost fully convolutional networks do away with: neighbouring
windows share nearly all their cells, and everything is computed anew for each.

What differs from the paper: ReLU, batch normalisation unless `norm` says otherwise, and zeros instead of the mirrored
image beyond a patch's border.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from segflow.models.networks import vgg
from segflow.models.networks.layers import Norm, check_arguments, check_input, conv, norm_layer, pool

KERNELS = (4, 5, 4, 4)
HIDDEN = 200
_CHUNK_BYTES = 96 * 2**20
LAST = 3  # cells a side that are left of a window before the hidden layer


class PatchClassifier(nn.Module):
    """Gives every cell the class of the window around it, window by window.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        dimensions: 2 or 3.
        width: maps of every convolution; the paper's is 48. The hidden layer's 200 units go along with it.
        depth: convolutions with pooling; the paper's is 4. The window is 9, 23, 47 or 95 cells a side for 1 to 4.
        norm: "batch" (default), "instance" or "none" (the paper's).

    Raises:
        ModelError: an argument makes no sense.
    """

    stride = 1
    chunk_bytes = 144 * 2**20  # as measured; half as much again as what is counted below

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: int = 2,
        width: int = 48,
        depth: int = 4,
        norm: Norm = "batch",
    ) -> None:
        super().__init__()
        check_arguments(dimensions, norm, in_channels=in_channels, out_channels=out_channels, width=width, depth=depth)
        self.in_channels, self.dimensions = in_channels, dimensions
        kernels = [KERNELS[min(level, len(KERNELS) - 1)] for level in range(depth)]
        self.window = LAST
        for kernel in reversed(kernels):
            self.window = 2 * self.window + kernel - 1
        # The largest arrays: the windows themselves, the first convolution's maps, those normalised, and PyTorch's own.
        maps = 3 * width * (self.window - kernels[0] + 1) ** dimensions
        self._chunk = max(1, _CHUNK_BYTES // (4 * (in_channels * self.window**dimensions + maps)))
        biased = norm == "none"
        self.levels = nn.ModuleList(
            nn.Sequential(
                conv(width if level else in_channels, width, dimensions, kernel, bias=biased, pad=False),
                *norm_layer(width, dimensions, norm),
                nn.ReLU(inplace=True),
            )
            for level, kernel in enumerate(kernels)
        )
        hidden = max(1, round(HIDDEN * width / 48))
        self.hidden = nn.Linear(width * LAST**dimensions, hidden)
        self.head = nn.Linear(hidden, out_channels)
        vgg.start(self)

    def classify(self, windows: Tensor) -> Tensor:
        """Return logits (windows, out_channels) of (windows, in_channels, *(window,) * dimensions), float32."""
        x = windows
        for level in self.levels:
            for part in level.children():
                # Not called as a module: who sums up what layers put out, to estimate memory, would count all chunks,
                # of which one is alive at a time.
                x = part.forward(x)
            x = pool(x)
        result: Tensor = self.head(functional.relu(self.hidden(x.flatten(1))))
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (batch, out_channels, *axes) of x (batch, in_channels, *axes), float32.

        Windows go through in chunks of a fixed number of bytes, so that memory does not grow with the patch.

        Raises:
            ModelError: the channels or axes are not as many as expected.
        """
        check_input(x, self.in_channels, self.dimensions, self.stride)
        half = self.window // 2
        sizes = [int(n) for n in x.shape[2:]]
        left, steps = max(1, self._chunk // int(x.shape[0])), []
        for size in reversed(sizes):
            steps.append(min(size, left))
            left = max(1, left // size)
        return self._dense(functional.pad(x, (half, half) * self.dimensions), 0, sizes, steps[::-1])

    def _dense(self, padded: Tensor, axis: int, sizes: list[int], steps: list[int]) -> Tensor:
        """Cut axis after axis into steps, and classify all windows of what is left."""
        if axis == self.dimensions:
            return self._all_windows(padded)
        size, step, margin = sizes[axis], steps[axis], self.window - 1
        parts = [
            self._dense(padded.narrow(axis + 2, at, min(step, size - at) + margin), axis + 1, sizes, steps)
            for at in range(0, size, step)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis + 2)

    def _all_windows(self, padded: Tensor) -> Tensor:
        windows = padded
        for axis in range(2, self.dimensions + 2):
            windows = windows.unfold(axis, self.window, 1)
        batch, _, *sizes = (int(n) for n in windows.shape[: self.dimensions + 2])
        windows = windows.movedim(1, self.dimensions + 1)
        flat = windows.reshape(-1, self.in_channels, *(self.window,) * self.dimensions)
        return self.classify(flat).reshape(batch, *sizes, -1).movedim(-1, 1)
