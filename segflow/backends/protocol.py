"""The one protocol by which a network is run, whatever the library and device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class Forward(Protocol):
    """A network on one device, as a stream: patches in, probabilities out, in the same order.

    Bits depend on nothing but a patch's own values: on CPU every request has batch shape 1 and one thread, with
    `in_flight` requests at once; on a GPU every batch has the same shape, the last one padded.
    """

    @property
    def facts(self) -> Mapping[str, str]:
        """What decides bits: backend, version, device, precision."""

    @property
    def in_flight(self) -> int:
        """Patches that are on the device at once."""

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Run patches (channel, *patch) and yield their probabilities (class, *patch) in the same order.

        The next patch is taken from `patches` only when there is room for it. An array that is yielded stays valid
        until the next one is asked for.
        """

    def close(self) -> None:
        """Free the device."""
