"""The network of a run: what it is, how it is run, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segflow.errors import RecipeError
from segflow.models.load import load_model
from segflow.models.model import Model
from segflow.recipe import Recipe

if TYPE_CHECKING:
    from segflow.auto import AutoTiling
    from segflow.backends import Forward, ForwardSettings


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
        base_bytes: memory that this process holds before a patch is run: libraries and weights.
        seconds_a_patch: measured, with all requests in flight.
        why: it is run so.
        notices: what a reader of the result must know: how int8 compares with float32.
        activation_bytes: memory that one patch takes while it is run, with its input and output; measured.
        auto: what patch and overlap came to, where the recipe leaves them open.
    """

    model: Model
    weights_sha256: str
    settings: ForwardSettings
    forward: Forward
    facts: Mapping[str, str]
    probe: str
    base_bytes: int
    seconds_a_patch: float
    why: str = ""
    notices: tuple[str, ...] = ()
    activation_bytes: int = 0
    auto: AutoTiling | None = None

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
