"""What a training leaves: weights, card, ONNX, curve and page."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors.torch import save_file

from segflow.errors import ModelError, OutputError
from segflow.hardware import cpu_name, usable_cores
from segflow.io.atomic import replacing
from segflow.metrics import Scores
from segflow.models.card import Card, write_card
from segflow.models.model import Model, full_arguments
from segflow.models.registry import build
from segflow.recipe import Recipe, Train, Validation
from segflow.report.training import TrainingReport
from segflow.report.training_write import write_curve_csv, write_training_report
from segflow.training.export import write_onnx
from segflow.training.fit import Fitted
from segflow.training.scenes import HeldBack
from segflow.training.scoring import Scoring

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_OVERALL = ("pixel_accuracy", "mean_class_accuracy", "mean_iou", "mean_dice", "kappa")


def write_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict as safetensors, floating-point tensors as float16, in one atomic replacement.

    A tensor with a number beyond float16's range, such as the variance that a norm saw in raw values, stays as it is.

    Raises:
        ModelError: a weight is not finite.
    """
    half: dict[str, Tensor] = {}
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(f"weight {key} is not finite", "finite weights", "lower train.learning_rate")
        narrow = value.half() if value.is_floating_point() else value
        kept = narrow if bool(torch.isfinite(narrow).all()) else value
        half[key] = kept.contiguous().clone()
    with replacing(path) as part:
        save_file(half, part)
        part.chmod(0o644)


def described(card: Card, plan: Train, recipe: Recipe, fitted: Fitted, learned: Sequence[str]) -> Card:
    """Return the card with what is known of the training."""
    arguments = full_arguments(card)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build(card.architecture, arguments).parameters())
    facts: dict[str, Any] = {
        "recipe": recipe.name,
        "steps": len(fitted.points),
        "batch": plan.batch * plan.accumulate,
        "parameters": parameters,
        "minutes": round(fitted.seconds / 60, 1),
        "scenes": list(learned) if len(learned) <= 40 else len(learned),
        "patch": list(plan.patch),
        "held_back": _held_back(plan.validation),
        **_beginning(plan),
        "made": time.strftime("%Y-%m-%d", time.gmtime()),
        **({"kept": f"the best of {len(fitted.scored)} scores"} if plan.keep == "best" and fitted.scored else {}),
        **card.training,
    }
    return card.model_copy(update={"training": facts, "arguments": arguments})


def _beginning(plan: Train) -> dict[str, str]:
    """Return what the weights began as, where they were not fresh; of a path its last part."""
    given = {"start": plan.start, "encoder": plan.encoder}
    return {key: value.rpartition("/")[2] for key, value in given.items() if value is not None}


def _held_back(how: Validation) -> dict[str, Any]:
    if how.folds is not None:
        return {"folds": how.folds, "fold": how.fold}
    return how.model_dump(mode="json", include={"scenes", "region", "margin"}, exclude_defaults=True)


def scored_card(card: Card, scoring: Scoring, scored: Sequence[HeldBack]) -> Card:
    """Return the card with its scores on what was held back."""
    on: Any = [{"scene": item.name, "start": list(item.box.start), "stop": list(item.box.stop)} for item in scored]
    brief = summary(scoring.scores)
    return card.model_copy(update={"scores": {**card.scores, "held_back": {"on": _short(on), **brief}}})


def summary(found: Scores) -> dict[str, Any]:
    """Return the scores that a card holds, rounded to four places."""
    overall = found["overall"]
    return {
        "overall": {key: _brief(overall[key]) for key in _OVERALL} if overall else {},  # type: ignore[literal-required]
        "iou": {row["name"]: _brief(row.get("iou")) for row in found["classes"]},
        "dice": {row["name"]: _brief(row.get("dice")) for row in found["classes"]},
    }


def write_all(draft: Model, weights: Path, recipe: Recipe, fitted: Fitted, scoring: Scoring | None) -> Model:
    """Write ONNX, curve and page, then put the weights in their place and write their card. Return the model there.

    Killed in between, there are the old weights with their card, the new ones with theirs, or none with a card: weights
    never lie beside a card that tells another model's scores. The same command writes the rest.

    Args:
        draft: its weights lie in a hidden folder of the same disk.
        weights: where they go.
        recipe: that was followed.
        fitted: what was made.
        scoring: how it does; None where nothing was held back.

    Raises:
        OutputError: a file cannot be written.
    """
    model = Model(draft.card, weights)
    notices = _try_onnx(draft, weights.with_suffix(".onnx"))
    stem = weights.with_suffix("")
    write_curve_csv(fitted.points, fitted.scored, stem.with_name(f"{stem.name}_training.csv"))
    page = _page(model.card, recipe, fitted, scoring, notices)
    write_training_report(page, stem.with_name(f"{stem.name}_training.html"))
    try:
        weights.with_suffix(".yaml").unlink(missing_ok=True)
        draft.weights.replace(weights)
    except OSError as error:
        raise OutputError(
            f"{weights} cannot be written: {error.strerror}",
            "a folder with the right to write",
            "check the folder's permissions, then run the same command",
        ) from error
    write_card(model.card, weights.with_suffix(".yaml"))
    return model


def _page(card: Card, recipe: Recipe, fitted: Fitted, scoring: Scoring | None, notices: list[str]) -> TrainingReport:
    """Return what the page tells; arguments as in `write_all`."""
    training = card.training
    facts = {
        "processor": f"{cpu_name()}, {usable_cores()} cores",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("segflow", "torch", "lightning", "monai")),
        "python": platform.python_version(),
        "minutes": training["minutes"],
        "parameters": f"{training['parameters']:,}",
        "seed": recipe.train.seed if recipe.train is not None else "",
    }
    text = yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True)
    return TrainingReport(
        card=card,
        points=fitted.points,
        scored=fitted.scored,
        final=None if scoring is None else scoring.scores,
        worst=() if scoring is None else scoring.worst,
        recipe_text=text,
        notices=notices,
        facts=facts,
        kept=None if fitted.step == len(fitted.points) else fitted.step,
    )


def _try_onnx(draft: Model, path: Path) -> list[str]:
    """Write ONNX, and return notices: a network that has no such form is whole without it."""
    try:
        write_onnx(draft.network(), draft.card, path)
    except ModelError as error:
        path.unlink(missing_ok=True)  # of another training
        log.warning("%s", error.found)
        return [f"{error.found}. The safetensors file holds the same."]
    return []


def _short(items: list[Any], most: int = 20) -> Any:
    return items if len(items) <= most else f"{len(items)} scenes"


def _brief(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
