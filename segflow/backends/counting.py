"""How many cells the operations of a network make: an estimate of memory for networks that are not made of layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


class CellCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the cells of what every operation puts out while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cells: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation and count."""
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.cells += found.numel()
        return found


def cells_of_operations(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Count the cells that one pass makes, in a program of TorchScript or `torch.export`, which has no layers.

    Args:
        network: the program.
        shape: (batch, channel, *axes) of its input.
    """
    with torch.no_grad():
        x = torch.zeros(shape)
        counter = CellCounter()
        with counter:
            network(x)
    return counter.cells
