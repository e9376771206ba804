"""Room on a device."""

from __future__ import annotations

import torch


def free_bytes(device: str) -> int:
    """Return the memory of a GPU that is free now; 0 for the CPU, whose memory is the process's."""
    if device == "cpu":
        return 0
    free: int = torch.cuda.mem_get_info(torch.device(device))[0]
    return free


def used_bytes(device: str) -> int:
    """Return the most memory of a GPU that this process has held for tensors; 0 for the CPU. Not run on a GPU."""
    if device == "cpu":
        return 0
    used: int = torch.cuda.max_memory_allocated(torch.device(device))
    return used
