"""One forward whose hash tells whether a worker computes the same bits as the driver."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from segflow.backends.protocol import Forward
from segflow.models.card import Card


def probe_patch(card: Card, patch: tuple[int, ...]) -> NDArray[np.float32]:
    """Return one fixed pseudo-random patch (channel, *patch) of mean 0 and deviation 1.

    It comes from numpy's legacy generator, whose stream never changes, and from exact arithmetic only, so it is the
    same on every machine.
    """
    uniform = np.random.RandomState(20_261).random_sample((len(card.channels), *patch))
    values: NDArray[np.float32] = ((uniform - 0.5) * 3.4641015).astype(np.float32)
    return values


def probe(forward: Forward, card: Card, patch: tuple[int, ...]) -> str:
    """Return the SHA-256, in hexadecimal, of the probabilities of `probe_patch`.

    Raises:
        ModelError: the forward was made for another shape.
    """
    (result,) = forward.stream([probe_patch(card, patch)])
    return hashlib.sha256(np.ascontiguousarray(result, "<f4").tobytes()).hexdigest()
