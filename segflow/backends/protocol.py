"""The one protocol by which a network is run, whatever the library and device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tiling import Accumulator, Box, Store


@runtime_checkable
class Forward(Protocol):
    """A network on one device, as a stream: patches in, probabilities out, in the same order.

    Bits depend on nothing but a patch's own values: on CPU every request has batch shape 1 and one thread, with
    `in_flight` requests at once; on a GPU every batch has the same shape, the last one padded.
    """

    @property
    def facts(self) -> Mapping[str, str]:
        """What decides bits: backend, backend_version, device, instruction_set, precision, threads_per_request, batch.

        `batch` is the shape's, so it is 1 on a CPU whatever `in_flight` is.
        """

    @property
    def in_flight(self) -> int:
        """Patches that are on the device at once."""

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run patches (channel, *patch) and yield their probabilities (output channel, *patch) in the same order.

        The output channels are `Card.output_channels`: one for a one-channel sigmoid head. A patch is copied when it is
        taken. The next one is taken from `patches` only when there is room for it: at most ``in_flight + 1`` have been
        taken and not yielded. An array that is yielded stays valid until the next one is asked for. Where a channel of
        a patch is not finite, its output is NaN. When the iterator ends, is closed, or raises what `patches` raised,
        nothing is left running.

        Raises:
            ModelError: a patch has not the shape that was settled.
        """

    def close(self) -> None:
        """Free the device."""


@runtime_checkable
class BlendingForward(Forward, Protocol):
    """A `Forward` that can leave results on its device, for an accumulator that lies there."""

    def band(self, channels: int, box: Box, sweep: int, depth: int, store: Store) -> Accumulator | None:
        """Return an accumulator on the device, as `tiling.NumpyBand` with these; None: blend on the host."""

    def stream_on_device(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[Any]:
        """Yield what `stream` yields, as arrays of the device's, for that accumulator alone."""
