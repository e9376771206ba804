"""`segflow train`: from a recipe to a model, its card and its scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors.torch import save_file

from segflow.errors import ModelError
from segflow.io.atomic import replacing
from segflow.metrics import Counts, scores
from segflow.models.card import Card, write_card
from segflow.models.model import Model, full_arguments
from segflow.models.registry import build
from segflow.recipe import Recipe, Train
from segflow.training.batches import Batches
from segflow.training.fit import FitSettings, Fitted, fit
from segflow.training.sampling import LabelIndex, Sampler, scene_statistics
from segflow.training.scenes import Opener, Scored, open_pairs, scenes_of, train_of
from segflow.training.scoring import count_scene

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger(__name__)


def train(recipe: Recipe, opener: Opener = open_pairs, report: Callable[[int, float], None] | None = None) -> Model:
    """Train a model as a recipe says, and write `NAME.safetensors` (float16) and its card into the output folder.

    A training that was cut off goes on from its last checkpoint in the output folder. Numbers repeat to the bit on one
    machine with the same number of threads.

    Args:
        recipe: needs `train` and `references`.
        opener: opens images and labels.
        report: called after every step with its number and loss.

    Raises:
        RecipeError: train or references are missing or name scenes that are not there.
        InputError: an input or label file is missing or broken, or no cell has a label.
        ModelError: the architecture does not take its arguments, or the card does not hold together.
    """
    plan = train_of(recipe)
    card = card_of(recipe)
    learned, scored = scenes_of(recipe, opener(recipe, card))
    rng = np.random.default_rng([plan.seed, 3])
    statistics = [scene_statistics(scene, card.normalisation, rng) for scene in learned.values()]
    index = index_of(recipe)
    sampler = Sampler(list(learned.values()), index, len(card.classes), plan.balance, plan.seed)
    batches = Batches(
        sampler,
        tuple(statistics),
        plan.patch,
        plan.batch,
        plan.augment.preset,
        plan.zoom,
        plan.seed,
        plan.augment.colour,
    )
    torch.manual_seed(plan.seed)
    network = build(card.architecture, full_arguments(card))
    checkpoint = recipe.folder / ".training" / f"{plan.name}.ckpt"
    fitted = fit(network, batches, settings_of(plan), checkpoint, report)
    model = write_model(card, fitted, recipe, list(learned))
    return model if not scored else score_model(model, recipe, scored)


def card_of(recipe: Recipe) -> Card:
    """Return the card of the model that a recipe makes, without scores.

    Raises:
        ModelError: it does not hold together.
    """
    plan = train_of(recipe)
    named: dict[str, Any] = {
        "name": plan.name,
        "kind": recipe.kind,
        "architecture": plan.architecture,
        "arguments": plan.arguments,
        "classes": plan.classes,
        "channels": plan.channels,
        "normalisation": plan.normalisation,
        "patch": plan.patch,
    }
    try:
        first = Card.model_validate({**named, **{k: v for k, v in plan.card.items() if k not in ("patch", "stride")}})
        with torch.device("meta"):
            stride = int(getattr(build(plan.architecture, full_arguments(first)), "stride", 1))
        return Card.model_validate({**named, "stride": stride, **plan.card})
    except ValueError as error:
        raise ModelError(f"train makes no card: {error}", "values that a card takes", "correct train") from error


def index_of(recipe: Recipe) -> LabelIndex:
    """Return how label ids become channels: `references.map` first, then the classes; every other id is ignored."""
    references = recipe.references
    ids = [item.id for item in train_of(recipe).classes]
    return LabelIndex(ids, references.map if references else {}, references.ignore if references else ())


def settings_of(plan: Train) -> FitSettings:
    """Return the fit's settings as the recipe has them."""
    return FitSettings(
        steps=plan.steps,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        dice=plan.loss.get("dice", 0.0),
        class_weights=plan.class_weights if not isinstance(plan.class_weights, str) else None,
        average=plan.average,
        bf16=plan.precision == "bf16",
    )


def write_model(card: Card, fitted: Fitted, recipe: Recipe, learned: Sequence[str]) -> Model:
    """Write weights as float16 and the card with what is known of the training."""
    plan = train_of(recipe)
    recipe.folder.mkdir(parents=True, exist_ok=True)
    weights = recipe.folder / f"{plan.name}.safetensors"
    save_weights(fitted.state, weights)
    arguments = full_arguments(card)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build(card.architecture, arguments).parameters())
    facts: dict[str, Any] = {
        "recipe": recipe.name,
        "steps": plan.steps,
        "batch": plan.batch,
        "parameters": parameters,
        "minutes": round(fitted.seconds / 60, 1),
        "scenes": list(learned),
        "held_back": plan.validation.model_dump(mode="json", exclude_defaults=True),
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        **card.training,
    }
    done = card.model_copy(update={"training": facts, "arguments": arguments})
    write_card(done, weights.with_suffix(".yaml"))
    return Model(done, weights)


def save_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict as safetensors, floating-point tensors as float16, in one atomic replacement.

    Raises:
        ModelError: a weight is beyond float16's range.
    """
    half: dict[str, Tensor] = {}
    for key, value in state.items():
        narrow = value.half() if value.is_floating_point() else value
        if narrow.is_floating_point() and not bool(torch.isfinite(narrow).all()):
            raise ModelError(f"weight {key} is beyond float16", "finite weights", "lower train.learning_rate")
        half[key] = narrow.contiguous().clone()
    with replacing(path) as part:
        save_file(half, part)
        part.chmod(0o644)


def score_model(model: Model, recipe: Recipe, scored: Sequence[Scored]) -> Model:
    """Score a model on what was held back, and write the scores into its card."""
    network = model.network()
    total, rows = count_model(network, model.card, recipe, scored)
    result = scores(total, model.card.classes)
    overall = result["overall"]
    keys = ("pixel_accuracy", "mean_class_accuracy", "mean_iou", "mean_dice", "kappa")
    found = {
        "on": rows,
        "how": "middle halves of windows of a patch's size, no blending",
        "overall": {key: _brief(overall[key]) for key in keys} if overall else {},  # type: ignore[literal-required]
        "iou": {row["name"]: _brief(row.get("iou")) for row in result["classes"]},
        "dice": {row["name"]: _brief(row.get("dice")) for row in result["classes"]},
    }
    card = model.card.model_copy(update={"scores": {**model.card.scores, "held_back": found}})
    write_card(card, model.weights.with_suffix(".yaml"))
    return Model(card, model.weights)


def count_model(
    network: nn.Module, card: Card, recipe: Recipe, scored: Sequence[Scored]
) -> tuple[Counts, list[dict[str, Any]]]:
    """Count over all scenes that are held back, whole or in part; and say which cells they are."""
    index = index_of(recipe)
    total = Counts.zero(list(card.ids))
    rows: list[dict[str, Any]] = []
    for item in scored:
        known = scene_statistics(item.scene, card.normalisation, np.random.default_rng(0))
        total = total + count_scene(network, item.scene, (item.box,), known, index, card.patch, card.ids)
        rows.append({"scene": item.name, "start": list(item.box.start), "stop": list(item.box.stop)})
    return total, rows


def _brief(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
