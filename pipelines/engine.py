"""The network, loaded and settled once a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import psutil

from segflow.backends import Forward, ForwardSettings, load_forward, probe, resolve_settings
from segflow.errors import PlanError, RecipeError
from segflow.memory import allowance, shown
from segflow.models.model import Model, load_model
from segflow.patches import patch_of
from segflow.recipe import Recipe

_ESTIMATE = {"torch": 1.0, "openvino": 0.4}
"""Share of the estimate of `activation_bytes` that was measured."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A model on a device.

    Attributes:
        model: card and weights.
        weights_sha256: hash of the weights.
        settings: how it is run; nothing is `auto` any more.
        forward: the network, ready to run in this process.
        facts: backend, version, device.
        probe: hash of its output on a fixed patch.
        base_bytes: memory that this process holds with all requests warm.
        seconds_a_patch: measured, with all requests in flight.
    """

    model: Model
    weights_sha256: str
    settings: ForwardSettings
    forward: Forward
    facts: Mapping[str, str]
    probe: str
    base_bytes: int
    seconds_a_patch: float

    def close(self) -> None:
        """Free the device."""
        self.forward.close()


def model_of(recipe: Recipe) -> Model:
    """Return the recipe's model.

    Raises:
        RecipeError: the recipe names none.
        ModelError: it cannot be used.
    """
    if recipe.model is None:
        raise RecipeError(
            "the recipe has no model", "model.weights", "add `model: {weights: builtin:landcover-rgb}` or a path"
        )
    return load_model(recipe.model, recipe.resolve, recipe.kind)


def settle(recipe: Recipe) -> Engine:
    """Load the model and fix how it is run, by one probe with as many patches as there will be in flight.

    Raises:
        RecipeError, ModelError: what is asked for does not exist here.
        PlanError: so many patches of that size do not fit in memory.
    """
    model = model_of(recipe)
    patch = patch_of(model.card, recipe.tiling)
    settings = resolve_settings(recipe.compute, recipe.tiling.batch, patch)
    _require_room(recipe, model, settings)
    forward = load_forward(model, settings)
    found = probe(forward, model.card, patch)
    blank = np.zeros((len(model.card.channels), *patch), np.float32)
    began = perf_counter()
    for _ in forward.stream([blank] * settings.batch):
        pass
    seconds = (perf_counter() - began) / settings.batch
    return Engine(
        model,
        model.sha256,
        settings,
        forward,
        dict(forward.facts),
        found,
        psutil.Process().memory_info().rss,
        seconds,
    )


def _require_room(recipe: Recipe, model: Model, settings: ForwardSettings) -> None:
    """Refuse patches that memory cannot hold before one of them is run."""
    if settings.device != "cpu":
        return
    from segflow.backends.network import activation_bytes

    card = model.card
    held = psutil.Process().memory_info().rss
    each = activation_bytes(model.network(), settings.patch, len(card.channels), card.stride)
    need = held + int(_ESTIMATE[settings.backend] * each * settings.batch)
    allowed = allowance(recipe.compute.memory, held)
    if need > allowed:
        raise PlanError(
            f"{settings.batch} patches of {list(settings.patch)} in flight need about {shown(need)}",
            f"at most {shown(allowed)}",
            "lower tiling.patch or tiling.batch, or raise compute.memory",
        )
