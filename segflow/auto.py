"""`tiling.patch: auto` and `tiling.overlap: auto`: how large patches are, and how much they overlap, by measuring."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from segflow.backends import ForwardSettings, resolve_settings
from segflow.cache import key_of
from segflow.errors import PlanError
from segflow.memory import allowance, rss_bytes, shown
from segflow.models.model import Model
from segflow.patches import patch_of
from segflow.recipe import Compute, Tiling
from tiling import Box, Lattice, Layout, Network, Profile, demand, least_overlap, least_work, rows_of

if TYPE_CHECKING:
    from segflow.models.receptive.field import Field

_FAR = 1 << 16
_LAYERS = 2
_ACROSS = 32
"""Patches side by side in a block, at least, for each that its neighbour runs again: 3 % more on an axis, at most."""
_SHARE = 0.75
"""Of the memory allowed, what the projection of a patch may take; the rest is for what it does not know."""
_REMEDY = "raise tiling.tolerance, give a larger tiling.patch (or auto), or state tiling.overlap"


@dataclass(frozen=True, slots=True)
class AutoTiling:
    """What `auto` came to.

    Attributes:
        asked: hash of the model and of what the recipe leaves open; the same for the same wish.
        patch: cells of a patch.
        overlap: cells that neighbours share.
        blend: profile of the blend.
        tolerance: how much a probability may change because of a cut; None where the overlap was stated.
        reach: cells on either side of a cut that can depend on the other side; None: no end was found.
        effective: radius that holds 99.9 % of the input gradient of a cell; None: not known.
        change: the largest change of a probability by a cut that was measured on the scene; None: not measured.
    """

    asked: str
    patch: tuple[int, ...]
    overlap: int
    blend: Profile
    tolerance: float | None = None
    reach: int | None = None
    effective: int | None = None
    change: float | None = None

    def applied(self, tiling: Tiling) -> Tiling:
        """Return the tiling with nothing left open."""
        return tiling.model_copy(update={"patch": self.patch, "overlap": f"{self.overlap}px", "blend": self.blend})


def asked_of(tiling: Tiling, model: Model) -> str:
    """Return a hash of the model and of what is left open: not of memory and workers, so that a resume may differ."""
    blend = tiling.blend if "blend" in tiling.model_fields_set else None
    wish = [str(tiling.patch), str(tiling.overlap), blend, tiling.tolerance]
    return key_of({"weights": model.sha256, "card": model.card.model_dump(mode="json"), "tta": model.tta, "wish": wish})


def settle_tiling(
    tiling: Tiling, compute: Compute, model: Model, shape: tuple[int, ...] | None, itemsize: int = 4
) -> AutoTiling:
    """Settle patch and overlap.

    Args:
        tiling: the recipe's, in which one of them is `auto`.
        compute: the recipe's.
        model: card and weights.
        shape: cells of the scene, on the model's grid, that a patch is made for; None: not known.
        itemsize: bytes of an input value.

    Raises:
        PlanError: the network's result depends on the patch's size, no overlap keeps the tolerance, or memory is short.
        ModelError: the network cannot be run on other patches than its own.
    """
    from segflow.models.receptive.field import field_of

    card = model.card
    if card.preparation is not None or card.lattice == "even":
        raise PlanError(
            f"{card.name} has volumes prepared as a whole and patches laid as nnU-Net lays them",
            "tiling.patch and tiling.overlap that it was made with",
            "remove auto from the recipe's tiling",
        )
    held = rss_bytes()
    allowed = allowance(compute.memory, held)
    fixed = None if tiling.patch == "auto" else patch_of(card, tiling)
    field = field_of(model, fixed, allowed - held)
    stated = isinstance(tiling.overlap, str) and tiling.overlap != "auto"
    blend: Profile = tiling.blend if stated or "blend" in tiling.model_fields_set else "crop"
    if stated:
        cells = int(str(tiling.overlap).removesuffix("px"))
        overlap = -(-cells // card.stride) * card.stride
    else:
        overlap = _overlap(field, fixed, card.stride, blend, len(card.patch), tiling.tolerance, card.name)
    scene, memory = _Scene(shape or card.patch, itemsize), _Memory(held, allowed)
    patch = fixed or _patch(tiling, compute, model, scene, (overlap, blend), memory)
    return AutoTiling(
        asked_of(tiling, model),
        patch,
        overlap,
        blend,
        None if stated else tiling.tolerance,
        field.reach,
        field.effective,
    )


def _overlap(
    field: Field,
    patch: tuple[int, ...] | None,
    stride: int,
    blend: Profile,
    axes: int,
    tolerance: float,
    name: str,
) -> int:
    """Return the overlap that keeps the tolerance on every axis of a patch (None: of one that is large enough)."""
    found = [
        least_overlap(cells, stride, field.bound(-(-cells // 2) + 1), blend, axes, tolerance)
        for cells in sorted(set(patch or (_FAR,)))
    ]
    whole = [overlap for overlap in found if overlap is not None]
    if len(whole) < len(found):
        deepest = axes * float(field.bound(min(patch or (_FAR,)) // 2)[-1])
        far = f"{field.reach} cells" if field.reach is not None else "no end that was found"
        size = list(patch) if patch else "any size"
        if blend != "crop" and deepest <= tolerance:
            raise PlanError(
                f"{name} sees {far} beyond a cell, and {blend} blends cells close to a cut into the result: with "
                f"patches of {size} no overlap keeps what a cut changes small enough",
                f"a cut that changes no probability by more than {tolerance:g}, the tolerance",
                f"remove tiling.blend (crop drops such cells), or {_REMEDY}",
            )
        raise PlanError(
            f"{name} sees {far} beyond a cell, and with patches of {size} a cut may "
            f"change a probability by {deepest:.2g} as far from it as a cell can be",
            f"at most {tolerance:g}, the tolerance",
            _REMEDY,
        )
    return max(whole)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a patch is made for.

    Attributes:
        shape: cells on the model's grid.
        itemsize: bytes of an input value.
    """

    shape: tuple[int, ...]
    itemsize: int


@dataclass(frozen=True, slots=True)
class _Memory:
    """Bytes: what this process holds, and what the run may use in all."""

    held: int
    allowed: int


def _patch(
    tiling: Tiling, compute: Compute, model: Model, scene: _Scene, cut: tuple[int, Profile], memory: _Memory
) -> tuple[int, ...]:
    """Return the patch that costs the least, of those that memory holds, with the overlap and blend of `cut`."""
    from segflow.backends.room import free_bytes

    card, shape, overlap = model.card, scene.shape, cut[0]
    settings = resolve_settings(compute, tiling.batch, card.patch)
    rate = _bytes_a_cell(model, settings)
    room = memory.allowed / (compute.workers_here + (compute.workers_here > 1))
    on_device = free_bytes(settings.device)

    def fits(patch: tuple[int, ...]) -> bool:
        in_process = 0 if on_device else int(rate * prod(patch))
        needs = Network(len(card.channels), card.output_channels, in_process, settings.batch, memory.held)
        layout = _swept(shape, patch, cut, tiling.block)
        return demand(layout, needs, scene.itemsize, tiling.accumulator, _LAYERS).total_bytes <= _SHARE * room

    space = on_device * _SHARE if on_device else _SHARE * room - memory.held
    most = int(space / (rate * settings.batch * (2 if on_device else 1)))
    at_once, besides = settings.batch * compute.most_workers, 1 + settings.batch
    square = getattr(model.network(), "square", False)
    found = least_work(shape, card.stride, overlap, at_once, most, fits, square, besides)
    found = found or least_work(shape, card.stride, overlap, at_once, most // 2, square=square, besides=besides)
    if found is None:
        raise PlanError(
            f"patches of {card.name} need {overlap} cells of overlap, and memory holds patches of "
            f"{max(0, most):,} cells",
            f"more than {overlap} cells on every axis, {settings.batch} patches at once in {shown(int(room))}",
            "raise compute.memory or tiling.tolerance, or lower tiling.batch or compute.workers",
        )
    return found


def _swept(shape: tuple[int, ...], patch: tuple[int, ...], cut: tuple[int, Profile], block: int | str) -> Layout:
    """Return a scene in blocks as the recipe says: by `auto` the narrowest that are worth a larger patch."""
    overlap, blend = cut
    step = tuple(n - overlap for n in patch)
    sweep = max(range(len(shape)), key=lambda axis: shape[axis])
    rows = rows_of(step[sweep])

    def across(axis: int) -> int:
        if isinstance(block, int):
            return min(shape[axis], block)
        repeated = max(1, -(-patch[axis] // step[axis]) - 1)
        return shape[axis] if block == "whole" else min(shape[axis], _ACROSS * repeated * step[axis])

    cells = tuple(-(-n // rows) * rows if axis == sweep else across(axis) for axis, n in enumerate(shape))
    return Layout(Lattice.of(shape, patch, step, blend), shape, Box.whole(shape), sweep, cells, rows)


def _bytes_a_cell(model: Model, settings: ForwardSettings) -> float:
    """Return the memory that each cell of a patch in flight takes, input and output included."""
    from segflow.backends.network import APPETITES, estimate_bytes

    card = model.card
    channels = 3 * (len(card.channels) + card.output_channels)
    each, _ = estimate_bytes(model, card.patch)
    return float(APPETITES[settings.backend].most * each / prod(card.patch) + 4 * channels)
