"""Which cells can depend on what lies beyond a cut: traced, not measured.

Everything beyond a cut is made NaN, and NaN spreads to whatever is computed of it: convolutions, pooling and
normalisation pass it on. A cell whose result is still the same bits cannot depend on anything beyond the cut, nor on
the padding that stands in its place. Where NaN is lost in a comparison (unpooling by places), the result changes all
the same. Cuts lie at multiples of the stride, as patches do, so that what pooling does across a cut is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_LENGTH = {2: 2048, 3: 512}
_ACROSS = {2: 32, 3: 16}
_MOSTLY = 0.8


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a cut can be felt.

    Attributes:
        cells: from a cut, the cells on either side that can depend on the other side; None: it has no end that was
            found.
        module: the module that makes every cell depend on the whole patch, such as "encoder.2.pool, an
            AdaptiveAvgPool2d"; None: there is none, or it cannot be told.
    """

    cells: int | None
    module: str | None = None


def reach_of(network: nn.Module, channels: int, axes: int, stride: int) -> Reach:
    """Trace a network on a strip that is long on one axis, for each axis in turn.

    Args:
        network: takes (batch, channel, *axes), in evaluation mode.
        channels: of its input.
        axes: 2 or 3.
        stride: what its patches are multiples of.

    Raises:
        ModelError, RuntimeError, ValueError: it does not take such a strip.
    """
    across = _multiple(_ACROSS[axes], stride)
    cut = _multiple(_LENGTH[axes] // 2, stride)
    furthest = 0
    for axis in range(axes):
        shape = [across] * axes
        shape[axis] = 2 * cut
        generator = torch.Generator().manual_seed(1)
        strip = torch.randn((1, channels, *shape), generator=generator)
        with torch.inference_mode():
            plain = network(strip)
            for side in (slice(None, cut), slice(cut, None)):
                broken = strip.clone()
                broken[(slice(None), slice(None), *[slice(None)] * axis, side)] = float("nan")
                with _Watch(network) as watch:
                    changed = _changed(plain, network(broken), axis + 2)
                there = changed[:cut].flip(0) if side.start == cut else changed[cut:]
                if bool(there[-1]):
                    return Reach(None, watch.found)
                felt = torch.nonzero(there)
                furthest = max(furthest, int(felt[-1]) + 1 if len(felt) else 0)
    return Reach(furthest)


def _multiple(cells: int, stride: int) -> int:
    return -(-cells // stride) * stride


def _changed(plain: Tensor, broken: Tensor, axis: int) -> Tensor:
    """Return, along an axis, which cells differ anywhere: NaN differs from everything."""
    return (plain != broken).any(dim=tuple(k for k in range(plain.ndim) if k != axis))


class _Watch:
    """Finds the first module that puts out NaN everywhere though a good part of its input was none.

    Attributes:
        found: its name and type, once the network has run.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._handles: list[Any] = []
        self.found: str | None = None

    def __enter__(self) -> _Watch:
        if isinstance(self._network, torch.jit.ScriptModule):
            return self
        for name, module in self._network.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):
                self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if self.found is not None or not isinstance(output, Tensor) or not output.is_floating_point():
                return
            given = [x for x in inputs if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 2]
            if not given or not bool(output.isnan().all()):
                return
            if any(float(x.isnan().float().mean()) < _MOSTLY for x in given):
                self.found = f"{name.removeprefix('network.')} ({type(module).__name__})"

        return look
