"""`segflow train`: from a recipe to a model, its card and its scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from segflow.errors import ModelError, RecipeError
from segflow.io.lock import locked
from segflow.memory import allowance
from segflow.metrics import Counts, Scores, scores
from segflow.models.card import Card
from segflow.models.model import Model, full_arguments
from segflow.models.registry import build
from segflow.recipe import Recipe, Train
from segflow.report.training import Point, Scored
from segflow.training.batches import Batches
from segflow.training.beginning import network_of
from segflow.training.fit import Fitted, fit, is_first
from segflow.training.identity import identity_of
from segflow.training.labelled import LabelIndex, Scene
from segflow.training.losses import loss_of
from segflow.training.memory import require_room
from segflow.training.sampling import Sampler
from segflow.training.scenes import HeldBack, Labelled, Opener, index_of, open_pairs, scenes_of, train_of
from segflow.training.schedule import settings_of
from segflow.training.scoring import Scoring, score_scenes
from segflow.training.statistics import scene_statistics
from segflow.training.write import described, scored_card, write_all, write_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

log = logging.getLogger(__name__)

Report = Callable[[str, Point | Scored], None]
"""Hears of a step, or of scores while training, of the model of this name."""

_WORST = 8
HIDDEN = ".training"
_ITS_OWN = ("name", "kind", "architecture", "arguments", "classes", "channels", "normalisation")
"""Keys of the card that `train` has itself."""
_NOT_TRAINED = ("regions", "preparation", "output")


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training made.

    Attributes:
        models: one; of a cross-validation over all folds, one a fold.
        scores: over all cells that were held back, each scored by a model that has not seen it; None where none were.
    """

    models: tuple[Model, ...]
    scores: Scores | None


def train(recipe: Recipe, opener: Opener = open_pairs, report: Report | None = None) -> Trained:
    """Train as a recipe says, and write `NAME.safetensors` (float16), its card, ONNX, curve and page.

    With `validation.fold: all` there is one model a fold, NAME-fold0 and so on. A training that was cut off goes on
    from its last checkpoint in the output folder. Numbers repeat to the bit on one machine with the same number of
    threads.

    Args:
        recipe: needs `train` and `references`.
        opener: opens images and labels.
        report: called with the model's name and, after every step, the curve's new point, or what it scored.

    Raises:
        RecipeError: train or references are missing or name scenes that are not there.
        InputError: an input or label file is missing or broken, or its labels do not fit the classes.
        ModelError: the architecture does not take its arguments, or the card does not hold together.
        PlanError: the batch does not fit in memory.
        OutputError: the loss is no longer finite, the disk is full, another training of the same name is under way, or
            the one that was cut off was begun with other settings or data.
    """
    plan = train_of(recipe)
    card = card_of(recipe)
    if "normalisation" not in plan.model_fields_set:
        log.warning("train.normalisation is not given: the network learns from raw values; {source: scene} suits most")
    pairs = opener(recipe, card)
    done = [_one(part, card_of(part), pairs, report) for part in _folds(recipe, plan)]
    models = tuple(model for model, _ in done)
    counted = [scoring.total for _, scoring in done if scoring is not None]
    if not counted:
        return Trained(models, None)
    return Trained(models, scores(sum(counted, start=Counts.zero(card.ids)), card.classes))


def _folds(recipe: Recipe, plan: Train) -> list[Recipe]:
    """Return one recipe for each model that is made."""
    folds = plan.validation.folds
    if folds is None or plan.validation.fold != "all":
        return [recipe]
    made = []
    for fold in range(folds):
        held = plan.validation.model_copy(update={"fold": fold})
        one = plan.model_copy(update={"name": f"{plan.name}-fold{fold}", "validation": held})
        made.append(recipe.model_copy(update={"train": one}))
    return made


def _one(recipe: Recipe, card: Card, pairs: Sequence[Labelled], report: Report | None) -> tuple[Model, Scoring | None]:
    plan = train_of(recipe)
    learned, scored = scenes_of(recipe, pairs)
    network = network_of(recipe, card)
    require_room(network, len(card.channels), plan.patch, plan.batch, _room(recipe, network), plan.accumulate)
    index = index_of(recipe)
    batches, sampler = _batches(plan, card, learned, index)
    loss, settings = loss_of(plan, sampler.counts), settings_of(plan, identity_of(recipe, pairs))
    with _alone(recipe.folder / HIDDEN / f"{plan.name}.lock"):
        fitted = fit(
            network,
            batches,
            loss,
            settings,
            recipe.folder / HIDDEN / plan.name,
            _scorer(recipe, card, scored, index, report) if scored else None,
            None if report is None else lambda point: report(plan.name, point),
            _device(recipe),
        )
        return _publish(recipe, card, fitted, list(learned), scored, index)


def _alone(lock: Path) -> AbstractContextManager[None]:
    """Keep a second training of the same name away; processes that share a batch are one training."""
    return locked(lock, f"training of {lock.stem}") if is_first() else nullcontext()


def _publish(
    recipe: Recipe, card: Card, fitted: Fitted, learned: list[str], scored: Sequence[HeldBack], index: LabelIndex
) -> tuple[Model, Scoring | None]:
    plan = train_of(recipe)
    weights = recipe.folder / f"{plan.name}.safetensors"
    described_card = described(card, plan, recipe, fitted, learned)
    if not fitted.first:
        return Model(described_card, weights), None
    draft = Model(described_card, recipe.folder / HIDDEN / plan.name / weights.name)
    write_weights(fitted.state, draft.weights)
    scoring = None
    if scored:
        # What is scored is what was written: weights that were rounded to float16.
        scoring = score_scenes(draft.network(), draft.card, scored, index, recipe.tiling, recipe.compute, worst=_WORST)
        draft = replace(draft, card=scored_card(draft.card, scoring, scored))
    return write_all(draft, weights, recipe, fitted, scoring), scoring


def _batches(plan: Train, card: Card, learned: Mapping[str, Scene], index: LabelIndex) -> tuple[Batches, Sampler]:
    rng = np.random.default_rng([plan.seed, 3])
    scenes = list(learned.values())
    sampler = Sampler(scenes, index, len(card.classes), plan.balance, plan.seed)
    batches = Batches(
        sampler=sampler,
        statistics=tuple(scene_statistics(scene, card.normalisation, rng) for scene in scenes),
        patch=plan.patch,
        batch=plan.batch,
        augment=plan.augment,
        zoom=plan.zoom,
        seed=plan.seed,
        border=plan.border,
    )
    return batches, sampler


def _scorer(
    recipe: Recipe, card: Card, scored: Sequence[HeldBack], index: LabelIndex, report: Report | None
) -> Callable[[nn.Module, int], Scored]:
    plan = train_of(recipe)

    def score(network: nn.Module, step: int) -> Scored:
        found = score_scenes(network, card, scored, index, recipe.tiling, recipe.compute, plan.validation.limit).scores
        rows: Any = found["classes"]
        overall: dict[str, Any] = dict(found["overall"] or {})
        numbers = {key: value for key, value in overall.items() if isinstance(value, float)}
        made = Scored(
            step, numbers, {row["name"]: row.get("iou") for row in rows}, {row["name"]: row.get("dice") for row in rows}
        )
        if report is not None:
            report(plan.name, made)
        return made

    return score


def _room(recipe: Recipe, network: nn.Module) -> int:
    """Return the bytes that a fit may take: of a GPU, shared by none, what is free on it."""
    device = _device(recipe)
    if device.startswith("cuda") and torch.cuda.is_available():
        free: int = torch.cuda.mem_get_info(device)[0]
        return free * train_of(recipe).devices
    held = sum(p.numel() * p.element_size() for p in network.parameters())
    return allowance(recipe.compute.memory, held)


def _device(recipe: Recipe) -> str:
    if recipe.compute.device != "auto":
        return recipe.compute.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def card_of(recipe: Recipe) -> Card:
    """Return the card of the model that a recipe makes, without scores.

    Raises:
        ModelError: it does not hold together.
    """
    plan = train_of(recipe)
    _require_trainable(plan.card)
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
        _require_multiples(plan.patch, stride)
        return Card.model_validate({**named, "stride": stride, **plan.card})
    except ValueError as error:
        raise ModelError(f"train makes no card: {error}", "values that a card takes", "correct train") from error


def _require_trainable(further: Mapping[str, Any]) -> None:
    """Refuse keys of the card that would contradict what is trained: a channel a class, of which softmax is taken."""
    own = [key for key in further if key in _ITS_OWN]
    if own:
        raise RecipeError(
            f"train.card.{own[0]} is set", f"train.{own[0]}, which the card takes over", f"remove train.card.{own[0]}"
        )
    usual = {"activation": "softmax", "averaged": "probabilities", **dict.fromkeys(_NOT_TRAINED)}
    for key, value in usual.items():
        if further.get(key, value) != value and further[key]:
            raise RecipeError(
                f"train.card.{key} is {further[key]}",
                "what segflow train makes: one channel a class, of which softmax is taken",
                f"remove train.card.{key}",
            )


def _require_multiples(patch: tuple[int, ...], stride: int) -> None:
    if any(n % stride for n in patch):
        near = [max(1, round(n / stride)) * stride for n in patch]
        raise RecipeError(
            f"train.patch is {list(patch)}", f"multiples of {stride}, the network's total stride", f"take {near}"
        )
