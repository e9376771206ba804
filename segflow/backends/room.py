"""Room on a device."""

from __future__ import annotations

import torch


def free_bytes(device: str) -> int:
    """Return the memory of a GPU that is free now; 0 for the CPU, whose memory is the process's."""
    if device == "cpu":
        return 0
    free: int = torch.cuda.mem_get_info(torch.device(device))[0]
    return free
