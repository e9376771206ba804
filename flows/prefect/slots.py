"""Who may work at once: slots of a Prefect concurrency limit, which come back when the one who held them is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.concurrency.sync import concurrency

from segflow.recipe import Recipe

GPU_LIMIT = "segflow-gpu"
_LEASE_SECONDS = 60.0
"""How long a slot stays taken whose holder is not heard of: the least that a server takes."""


@contextmanager
def slots(recipe: Recipe) -> Iterator[None]:
    """Wait for slots and hold them; a limit that the server does not know limits nothing."""
    compute, named = recipe.compute, recipe.service.limit
    on_gpu = compute.device.startswith("cuda") or (compute.device == "auto" and gpus_here() > 0)
    if named is None and not on_gpu:
        yield
        return
    wanted = compute.most_workers if named is None else 1
    with concurrency(named or GPU_LIMIT, occupy=wanted, lease_duration=_LEASE_SECONDS):
        yield


def gpus_here() -> int:
    """Count this machine's NVIDIA GPUs without loading a library that asks them."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
