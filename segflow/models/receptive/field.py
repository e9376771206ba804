"""How far a network sees, measured once for a model and kept in the user's cache folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segflow.cache import key_of, remember, remembered
from segflow.errors import ModelError, PlanError, first_line
from segflow.memory import shown
from segflow.models.model import Model
from segflow.models.probabilities import Probabilities
from segflow.models.receptive.cuts import change
from segflow.models.receptive.gradient import effective_radius
from segflow.models.receptive.probes import leaves
from segflow.models.receptive.reach import Reach, reach_of

_VERSION = 1
"""Raised when what is measured, or how, changes."""
_SEEDS = {2: (1, 2, 3), 3: (1,)}
_LONGEST = {2: 2048, 3: 384}
ACROSS = {2: 384, 3: 64}
"""Cells of a slab on the axes that are not cut."""
_RADIUS = {2: 128, 3: 24}
_HEADROOM = 3.0
_REMEDY = "set tiling.patch and tiling.overlap to numbers, or leave them out"


@dataclass(frozen=True, slots=True)
class Field:
    """What is known of a network's field.

    Attributes:
        reach: cells on either side of a cut that can depend on the other side; None: no end was found.
        effective: radius that holds 99.9 % of the input gradient of a cell; None where there is no gradient.
        patch: cells of the slab that was cut out, along the axis that is cut.
        context: cells on either side of it that the other prediction saw.
        changes: by distance from the nearest cut, the largest change of a probability on the probes.
    """

    reach: int | None
    effective: int | None
    patch: int
    context: int
    changes: tuple[float, ...]

    def bound(self, cells: int) -> NDArray[np.float64]:
        """Return how much a cut changes at most, (cells,) by distance: the headroom times what was measured.

        What was not measured counts as the last that was, and beyond the reach nothing changes.
        """
        measured = np.asarray(self.changes, np.float64)
        out = _HEADROOM * measured[np.minimum(np.arange(cells), len(measured) - 1)]
        if self.reach is not None:
            out[self.reach :] = 0.0
        return out


def field_of(model: Model, patch: tuple[int, ...] | None, most_bytes: int) -> Field:
    """Measure a model's field, or recall it.

    Args:
        model: card and weights.
        patch: that will be run; None: any that is large enough.
        most_bytes: memory that the measuring may take.

    Raises:
        PlanError: the result depends on the size of the patch; a module that makes it so is named.
        ModelError: the network takes patches of one size only.
    """
    card = model.card
    about = {"version": _VERSION, "weights": model.sha256, "card": card.model_dump(mode="json"), "tta": model.tta}
    key = key_of({**about, "patch": patch})
    kept = remembered("fields", key)
    if kept is not None:
        return Field(**{**kept, "changes": tuple(kept["changes"])})
    network = model.network()
    if getattr(network, "fixed_patch", None) is not None:
        raise ModelError(
            f"{card.name} takes patches of {list(network.fixed_patch)} only, as it was exported",  # type: ignore[arg-type]
            "a network of open sizes, whose field can be measured",
            _REMEDY,
        )
    found = _measured(network, Probabilities(network, card).eval(), model, patch, most_bytes)
    remember("fields", key, asdict(found))
    return found


def _measured(
    network: nn.Module, whole: nn.Module, model: Model, patch: tuple[int, ...] | None, most_bytes: int
) -> Field:
    card = model.card
    axes, channels, stride = len(card.patch), len(card.channels), card.stride
    trial = _up(2 * _RADIUS[axes], stride)
    _require_room(network, model, (trial,) * axes, most_bytes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would change bits
    try:
        try:
            reach = reach_of(whole, channels, axes, stride)
        except (ModelError, RuntimeError, ValueError, IndexError):
            reach = Reach(None)  # it takes no strip; what it depends on is seen below
        effective = effective_radius(whole, torch.from_numpy(leaves(channels, (trial,) * axes, 0))[None])
        cut, context = _sizes(reach.cells, effective, patch, axes, stride)
        across = _up(ACROSS[axes], stride)
        _require_room(network, model, (cut + 2 * context, *(across,) * (axes - 1)), most_bytes)
        changes = np.zeros(cut // 2, np.float64)
        for seed, axis in product(_SEEDS[axes], range(axes)):
            shape = [across] * axes
            shape[axis] = cut + 2 * context
            contexts = [context if other == axis else 0 for other in range(axes)]
            changes = np.maximum(changes, change(whole, leaves(channels, tuple(shape), seed), contexts))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ModelError(
            f"{card.name} cannot be run on patches of other sizes: {first_line(error)}",
            "a network of open sizes, whose field can be measured",
            _REMEDY,
        ) from error
    finally:
        torch.set_num_threads(threads)
    if reach.module is not None:
        raise PlanError(
            f"{card.name} has {reach.module}, which sees the whole patch, so that its result depends on the patch's "
            f"size: a probability in the middle of {cut} cells changes by up to {changes[-1]:.2g} with {context} more "
            "on each side",
            "a network of which each cell sees a bounded part of the patch",
            f"{_REMEDY}: the size that it was trained with",
        )
    return Field(reach.cells, effective, cut, context, tuple(float(value) for value in changes))


def _sizes(
    reach: int | None, effective: int | None, patch: tuple[int, ...] | None, axes: int, stride: int
) -> tuple[int, int]:
    """Return the cells of the slab that is cut out, along the axis that is cut, and those on either side of it.

    Both cover the reach, or else twice the effective radius, but for what is too long; and no more than is run.
    """
    radius = reach if reach is not None else 2 * effective if effective else _RADIUS[axes]
    context = min(max(stride, _up(radius, stride)), _up(_LONGEST[axes] // 4, stride))
    cut = 2 * (context + stride)
    return (cut if patch is None else min(cut, min(patch))), context


def _up(cells: int, stride: int) -> int:
    return -(-cells // stride) * stride


def _require_room(network: nn.Module, model: Model, shape: tuple[int, ...], most_bytes: int) -> None:
    from segflow.backends.network import activation_bytes

    card = model.card
    need = activation_bytes(network, shape, len(card.channels), card.stride)
    if need > most_bytes:
        raise PlanError(
            f"measuring how far {card.name} sees takes {shown(need)}",
            f"at most {shown(most_bytes)}",
            f"raise compute.memory, or {_REMEDY}",
        )


def changes_on(model: Model, pieces: Sequence[tuple[NDArray[np.float32], tuple[int, ...]]]) -> NDArray[np.float64]:
    """Return what cuts change on given input: the largest change of a probability by distance, over all pieces.

    Args:
        model: card and weights.
        pieces: standardised input (channel, *axes), and how many cells on either side of each axis are cut off it.
    """
    network = Probabilities(model.network(), model.card).eval()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [change(network, around, context).astype(np.float64) for around, context in pieces]
    finally:
        torch.set_num_threads(threads)
    out = np.zeros(max(len(one) for one in found))
    for one in found:
        out = np.maximum(out, np.pad(one, (0, len(out) - len(one))))
    return out
