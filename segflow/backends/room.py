"""Room on a device. Imports PyTorch only where there is a GPU to ask."""

from __future__ import annotations

from segflow.errors import PlanError
from segflow.memory import shown


def free_bytes(device: str) -> int:
    """Return the memory of a GPU that is free now; 0 for the CPU, whose memory is the process's."""
    if device == "cpu":
        return 0
    import torch

    free: int = torch.cuda.mem_get_info(torch.device(device))[0]
    return free


def used_bytes(device: str) -> int:
    """Return the most memory of a GPU that this process has held for tensors; 0 for the CPU. Not run on a GPU."""
    if device == "cpu":
        return 0
    import torch

    used: int = torch.cuda.max_memory_allocated(torch.device(device))
    return used


def require_room(device: str, patch_bytes: int, batch: int, free: int) -> None:
    """Refuse a batch that a GPU's memory does not hold, before it is run.

    Args:
        device: for the message.
        patch_bytes: what one patch takes there while it is run.
        batch: patches at once.
        free: memory of the device that is free.

    Raises:
        PlanError: it does not; the remedy names the batch that would fit.
    """
    if patch_bytes * batch <= free:
        return
    most = free // max(1, patch_bytes)
    raise PlanError(
        f"a batch of {batch} needs about {shown(patch_bytes * batch)} on {device}",
        f"at most {shown(free)}, which are free there",
        f"set tiling.batch: {most}" if most else "lower tiling.patch, or set compute.device: cpu",
    )
