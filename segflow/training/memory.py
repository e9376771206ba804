"""What a fit will need, measured on one patch before it starts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segflow.errors import PlanError

_STATES = 5
"""Copies of the weights: themselves, gradient, two moments of AdamW, moving average."""
_BASE = 96 << 20
"""What comes with the first step, whatever the network (measured: 60 to 90 MiB)."""
_SLACK = 1.35
"""Gradients that flow back and the allocator's loss, as a share of what is saved for them (measured: 1.1 to 1.35)."""


def bytes_needed(network: nn.Module, channels: int, patch: tuple[int, ...]) -> tuple[int, int]:
    """Return what a fit holds whatever the batch, and what each patch of it adds, in bytes.

    One patch of zeros goes forward; what PyTorch saves for the way back is counted. The network's state is not changed.

    Args:
        network: in any mode, on the CPU.
        channels: of the input.
        patch: cells on each axis.
    """
    fixed = _BASE + _STATES * sum(p.numel() * p.element_size() for p in network.parameters())
    held: dict[int, int] = {p.untyped_storage().data_ptr(): 0 for p in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    training, buffers = network.training, [buffer.clone() for buffer in network.buffers()]
    network.eval()  # some norms refuse to train on one value a channel; what they save is the same
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            result = network(torch.zeros((1, channels, *patch)))
    finally:
        network.train(training)
        for buffer, before in zip(network.buffers(), buffers, strict=True):
            buffer.copy_(before)
    logits = result if isinstance(result, Tensor) else next(iter(result.values()))
    return fixed, int(_SLACK * (sum(held.values()) + 3 * logits.numel() * logits.element_size()))


def require_room(
    network: nn.Module, channels: int, patch: tuple[int, ...], batch: int, allowed_bytes: int, accumulate: int = 1
) -> None:
    """Refuse a batch that does not fit in memory, and say which does.

    Raises:
        PlanError: fixed and batch together need more than is allowed.
    """
    fixed, each = bytes_needed(network, channels, patch)
    if fixed + batch * each <= allowed_bytes:
        return
    fits = max((allowed_bytes - fixed) // each, 0)
    need, there = ((fixed + batch * each) / 2**30, allowed_bytes / 2**30)
    if fits == 0:
        remedy = "choose a smaller train.patch or a narrower network"
    else:
        remedy = f"set train.batch: {fits} and train.accumulate: {-(-batch * accumulate // fits)}"
    raise PlanError(
        f"a batch of {batch} patches of {' x '.join(map(str, patch))} needs about {need:.1f} GiB",
        f"at most {there:.1f} GiB, what compute.memory or this machine allows: a batch of {fits}",
        remedy,
    )
