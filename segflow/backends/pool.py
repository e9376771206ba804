"""Patches one by one, each by a thread of its own, as many at once as are in flight: how CPU backends use the cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import torch

from segflow.backends.ordered import Patch, Signature, in_order


def one_by_one(
    patches: Iterable[Patch], room: int, signature: Signature, run: Callable[[Patch], Patch]
) -> Iterator[Patch]:
    """Run each patch in a thread of a pool and yield results in the order of the patches. See `Forward.stream`.

    Args:
        patches: (channel, *patch).
        room: threads, each with one patch at a time.
        signature: what a patch must look like.
        run: from a patch of its own to its result; PyTorch is told to use one thread in it.
    """
    threads = torch.get_num_threads()

    def alone(patch: Patch) -> Patch:
        # The number of threads belongs to the calling thread (OpenMP), but its default is shared: say it each time.
        torch.set_num_threads(1)
        return run(patch)

    try:
        with ThreadPoolExecutor(room, "segflow-forward") as pool:

            def start(patch: Patch) -> Future[Patch]:
                return pool.submit(alone, np.array(signature.check(patch), np.float32, order="C"))

            yield from in_order(patches, room, start, Future.result, abandon)
    finally:
        torch.set_num_threads(threads)


def abandon(future: Future[Patch]) -> None:
    """Wait for a request whose result nobody wants, or cancel it before it begins."""
    if not future.cancel():
        wait([future])
