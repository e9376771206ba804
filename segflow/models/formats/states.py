"""State dicts: found in what a checkpoint holds, rid of their prefix, and put into the network that they belong to."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segflow.errors import ModelError
from segflow.grid import Kind
from segflow.models.card import Card
from segflow.models.registry import build

if TYPE_CHECKING:
    from torch import Tensor, nn

_LOG = logging.getLogger(__name__)

_AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
_NESTED = (*_AVERAGED, "state_dict", "model_state_dict", "model", "network_weights", "net", "weights", "module")
_EMA = re.compile(r"(?<![a-z])ema(?![a-z])")
_COUNTERS = ("num_batches_tracked", "n_averaged")  # read in training only


def full_arguments(card: Card) -> dict[str, Any]:
    """Return the architecture's arguments, with what the card says elsewhere filled in."""
    return {
        "in_channels": len(card.channels),
        "out_channels": card.output_channels,
        "dimensions": 2 if card.kind == "raster" else 3,
        **card.arguments,
    }


def network_of(state: Mapping[str, Tensor], path: Path, card: Card) -> nn.Module:
    """Return the network of the card's architecture with these weights.

    Raises:
        ModelError: the card names no architecture, or the weights are not those of it (the keys are listed).
    """
    if not card.architecture:
        raise ModelError(
            f"{path} holds weights only, and nothing says of which network",
            "an architecture",
            "name architecture and arguments in its card, or model.architecture and model.arguments in the recipe",
        )
    network = build(card.architecture, full_arguments(card))
    wanted = network.state_dict()
    found = _counters_from(wanted, without_prefix(wanted, state, path))
    _require_same_keys(wanted, found, path, card.architecture)
    network.load_state_dict({key: as_float(value) for key, value in found.items()}, strict=True)
    return network


def as_float(value: Tensor) -> Tensor:
    """Return a tensor of numbers with a fraction as float32; others as they are."""
    return value.float() if value.is_floating_point() else value


def inner_state(holder: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """Find the state dict in what a checkpoint holds: the whole of it, or an entry such as `state_dict` or `model`.

    Of averaged and plain weights the averaged ones are taken, since they are what is meant to be used.

    Returns:
        the tensors, and the name of the entry ("" for the whole).

    Raises:
        ModelError: there is none.
    """
    if not isinstance(holder, Mapping):
        raise ModelError(
            f"{path} holds a {type(holder).__name__}", "a state dict", "save network.state_dict() in its place"
        )
    tensors = _tensors(holder)
    if tensors:
        return tensors, ""
    for key in _NESTED:
        inner = holder.get(key)
        if isinstance(inner, Mapping) and _holds_tensors(inner):
            found, deeper = inner_state(inner, path)
            return found, f"{key}.{deeper}" if deeper else key
    raise ModelError(
        f"{path} holds {some(map(str, holder)) or 'nothing'}, and no state dict among it",
        "tensors by name, or such a mapping under " + ", ".join(_NESTED),
        "save network.state_dict()",
    )


def _tensors(holder: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of a mapping if it is a state dict: at least half of its entries are tensors, none holds any.

    Beside a state dict a checkpoint may hold tensors too, such as the best loss.
    """
    import torch

    if any(isinstance(holder.get(key), Mapping) and _holds_tensors(holder[key]) for key in _NESTED):
        return {}
    found = {str(key): value for key, value in holder.items() if isinstance(value, torch.Tensor)}
    return found if found and 2 * len(found) >= len(holder) else {}


def _holds_tensors(holder: Mapping[Any, Any]) -> bool:
    """Tell whether a mapping holds tensors, itself or in mappings within: settings that are called ema hold none."""
    import torch

    values = holder.values()
    return any(isinstance(v, torch.Tensor) or (isinstance(v, Mapping) and _holds_tensors(v)) for v in values)


def kind_of(shapes: Iterable[tuple[int, ...]]) -> Kind | None:
    """Tell rasters from volumes by the rank of the convolutions' weights."""
    ranks = {len(shape) for shape in shapes}
    return "volume" if 5 in ranks else "raster" if 4 in ranks else None


def without_prefix(wanted: Mapping[str, Any], found: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Take away what wrappers put before every key: ``module.``, ``model.``, ``net.`` and any other.

    What lies beside the prefix (a loss's weights, metrics) is left out. Of several whole copies the averaged one
    ("ema" in its prefix) is taken.

    Raises:
        ModelError: there are several whole copies and nothing says which is meant.
    """
    needed = {key for key in wanted if not key.endswith(_COUNTERS)}
    if not needed or needed <= found.keys():
        return {key: value for key, value in found.items() if not (key in _COUNTERS and key not in wanted)}
    first = max(needed, key=len)
    prefixes = sorted(
        {key.removesuffix(first) for key in found if key.endswith("." + first)}, key=lambda p: (len(p), p)
    )
    whole = [prefix for prefix in prefixes if all(prefix + key in found for key in needed)]
    averaged = [prefix for prefix in whole if _EMA.search(prefix.lower())]
    chosen = averaged or whole
    if len(chosen) > 1:
        raise ModelError(
            f"{path} holds {len(chosen)} copies of the network: {', '.join(chosen)}",
            "one, or one that is called ema",
            "save the state dict of the one that you mean",
        )
    prefix = chosen[0] if chosen else _likeliest(needed, found)
    if prefix:
        dropped = [key for key in found if not key.startswith(prefix)]
        _LOG.info("%s: keys are taken without %r%s", path, prefix, f"; left out: {some(dropped)}" if dropped else "")
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def _likeliest(needed: set[str], found: Mapping[str, Any]) -> str:
    """Return the prefix with which most keys fit, so that the list of those that do not is short."""
    votes: dict[str, int] = {"": len(needed & found.keys())}
    for key in found:
        parts = key.split(".")
        for cut in range(1, len(parts)):
            if ".".join(parts[cut:]) in needed:
                prefix = ".".join(parts[:cut]) + "."
                votes[prefix] = votes.get(prefix, 0) + 1
    return max(votes, key=lambda prefix: (votes[prefix], -len(prefix)))


def _counters_from(wanted: Mapping[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fill in batch counters where there are none: older checkpoints lack them, and prediction does not read them."""
    if any(key.endswith(_COUNTERS) for key in found):
        return found
    return {**{key: value for key, value in wanted.items() if key.endswith(_COUNTERS)}, **found}


def _require_same_keys(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path, architecture: str
) -> None:
    lacking = sorted(set(wanted) - set(found))
    surplus = sorted(set(found) - set(wanted))
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(set(wanted) & set(found))
        if found[key].shape != wanted[key].shape
    ]
    complaints = [
        f"{title}: {some(items)}"
        for title, items in (("missing", lacking), ("unknown", surplus), ("of another shape", shapes))
        if items
    ]
    if complaints:
        raise ModelError(
            f"{path} does not hold the weights of {architecture}: " + "; ".join(complaints),
            "every tensor of the card's architecture with its arguments, and no other",
            "correct architecture and arguments in the card, or take the weights that belong to it",
        )


def some(items: Iterable[str], limit: int = 6) -> str:
    """Return the first few of a list, and how many more there are."""
    listed = list(items)
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more} more" if more > 0 else "")
