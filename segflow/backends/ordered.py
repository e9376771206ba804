"""Requests in flight: a bounded number at once, results in the order of the patches, nothing left running."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segflow.errors import ModelError

Patch = NDArray[np.float32]
Ticket = TypeVar("Ticket")


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what comes out.

    Attributes:
        inputs: (channel, *patch).
        outputs: (output channel, *patch).
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def check(self, patch: Patch) -> Patch:
        """Return the patch if its shape is the one that was settled.

        Raises:
            ModelError: it has another number of channels or another size.
        """
        if patch.shape == self.inputs:
            return patch
        raise ModelError(
            f"a patch of shape {patch.shape} came to the network",
            f"{self.inputs}: {self.inputs[0]} channels and the plan's patch",
            "give the bands or modalities that the card lists (inputs.bands, inputs.channels)",
        )


def in_order(
    patches: Iterable[Patch],
    room: int,
    start: Callable[[Patch], Ticket],
    finish: Callable[[Ticket], Patch],
    abandon: Callable[[Ticket], None],
) -> Iterator[Patch]:
    """Keep up to `room` requests running while results are yielded in the order of the patches.

    The next patch is made while `room` requests run, so at most ``room + 1`` patches are taken that have not been
    yielded. However it ends (all done, an error here or in `patches`, the consumer stops early), every request that
    was started has come to its end before this generator has.

    Args:
        patches: where they come from; pulled in the consumer's thread.
        room: how many may run at once.
        start: begins a request and returns at once; it copies what it needs of the patch.
        finish: waits for a request and returns its result.
        abandon: waits for a request whose result nobody wants; raises nothing.
    """
    waiting: deque[Ticket] = deque()
    try:
        for patch in patches:
            if len(waiting) < room:
                waiting.append(start(patch))
                continue
            done = finish(waiting[0])
            waiting.popleft()
            waiting.append(start(patch))
            yield done
        while waiting:
            done = finish(waiting[0])
            waiting.popleft()
            yield done
    finally:
        for ticket in waiting:
            abandon(ticket)


def mark_nonfinite(result: Patch, patch: Patch) -> None:
    """Write NaN into `result` (class, *axes) where any channel of `patch` (channel, *axes) is not finite.

    Some kernels lose a NaN: OpenVINO's ReLU makes 0 of it. The engine must see it all the same.
    """
    finite = np.isfinite(patch)
    if not finite.all():
        result[:, ~finite.all(axis=0)] = np.nan
