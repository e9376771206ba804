"""What `torch.save` wrote: a state dict, a checkpoint that holds one (also Lightning's), or, if trusted, a module.

A checkpoint's hyper-parameters, optimiser and callbacks are never looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segflow.errors import ModelError
from segflow.models.card import Card
from segflow.models.formats.described import Described
from segflow.models.formats.pickles import read_pickle, refusal, unsafe_names
from segflow.models.formats.states import inner_state, kind_of, network_of

if TYPE_CHECKING:
    from torch import nn


def files(path: Path) -> tuple[Path, ...]:
    """Return the file itself."""
    return (path,)


def describe(path: Path, trust: bool) -> Described:
    """Tell rasters from volumes by the tensors' ranks, and where the state dict lies; no code is run without trust."""
    import torch

    holder = read_pickle(path, trust)
    if isinstance(holder, torch.nn.Module):
        holder = _plain(holder, path)
        kind = kind_of(tuple(value.shape) for value in holder.state_dict().values())
        note = f"a pickled {type(holder).__name__}, which brings its own code"
        stride = getattr(holder, "stride", None)
        return Described(
            "checkpoint",
            path,
            kind=kind,
            stride=stride if isinstance(stride, int) else None,
            graph=True,
            needs_trust=True,
            notes=(note,),
        )
    state, entry = inner_state(holder, path)
    kind = kind_of(tuple(value.shape) for value in state.values())
    where = f" under {entry}" if entry else ""
    version = holder.get("pytorch-lightning_version")
    maker = f"; a checkpoint of Lightning {version}" if isinstance(version, str) else ""
    needs = bool(trust and unsafe_names(path))
    return Described("checkpoint", path, kind=kind, needs_trust=needs, notes=(f"{len(state)} tensors{where}{maker}",))


def network(path: Path, card: Card, trust: bool) -> nn.Module:
    """Return the network of the card's architecture with the file's weights, or the module that was pickled."""
    import torch

    holder = read_pickle(path, trust)
    if isinstance(holder, torch.nn.Module):
        if not trust:
            raise refusal(path, "it holds a whole module", [type(holder).__name__])
        return _plain(holder, path)
    state, _ = inner_state(holder, path)
    return network_of(state, path, card)


def _plain(module: nn.Module, path: Path) -> nn.Module:
    import torch

    if isinstance(module, torch.nn.DataParallel):
        inner = module.module
        if not isinstance(inner, torch.nn.Module):
            raise ModelError(f"{path} holds an empty DataParallel", "a network", "save the network's state dict")
        return inner
    return module
