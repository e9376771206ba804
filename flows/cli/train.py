"""`segflow train`."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING

from flows.cli.recipe import recipe_of
from flows.progress import remaining
from segflow.errors import SegflowError
from segflow.recipe import Recipe

if TYPE_CHECKING:
    from segflow.metrics import Scores
    from segflow.report.training import Point, Scored
    from segflow.training.train import Trained

_EVERY_SECONDS = 10.0


def main(options: argparse.Namespace) -> int:
    """Train a model by a recipe; what was cut off goes on from its last checkpoint."""
    recipe = recipe_of(options)
    for name in ("lightning", "monai", "onnx", "tensorboard"):
        if find_spec(name) is None:
            raise SegflowError(
                f"the package {name} is not installed", "what training needs", "pip install 'segflow[train]'"
            )
    from segflow.training.fit import is_first

    trained = _trained(recipe, None if options.quiet else _Lines(recipe), options.prefect)
    if not is_first():
        return 0  # the process that this one helped tells of it
    if options.json:
        models = [
            {"name": model.card.name, "weights": str(model.weights), "scores": model.card.scores}
            for model in trained.models
        ]
        one = models[0] if len(models) == 1 else {"weights": None, "scores": None}
        found = {"weights": one["weights"], "scores": one["scores"], "models": models, "pooled": trained.scores}
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    if trained.scores is not None:
        sys.stdout.write(_table(trained.scores))
    else:
        sys.stderr.write("segflow: nothing was held back, so there are no scores (train.validation)\n")
    for model in trained.models:
        stem = model.weights.with_suffix("")
        sys.stdout.write(f"{model.weights}\n{stem}_training.html\n")
    return 0


def _trained(recipe: Recipe, report: _Lines | None, prefect: bool) -> Trained:
    """Train, here or as a flow run."""
    if prefect:
        from flows.launch import require_prefect
        from flows.prefect.flow import train_as_flow

        require_prefect()
        return train_as_flow(recipe, report)
    from segflow.training.train import train

    return train(recipe, report=report)


class _Lines:
    """A line every ten seconds: step, loss, rate and what is left, from the speed since this command began.

    Scores on what is held back are a line of their own, by class.
    """

    def __init__(self, recipe: Recipe) -> None:
        plan = recipe.train
        self._steps = 0 if plan is None else plan.steps
        self._dice = plan is not None and plan.validation.score == "mean_dice"
        self._name = ""
        self._first = 0
        self._began = self._said = monotonic()

    def __call__(self, name: str, point: Point | Scored) -> None:
        """Hear of a step, or of scores."""
        from segflow.report.training import Scored

        if isinstance(point, Scored):
            self._score(name, point)
            return
        now = monotonic()
        if name != self._name:
            self._name, self._first, self._began, self._said = name, point.step, now, now
            begun = "" if point.step == 1 else f", going on after step {point.step - 1:,}"
            sys.stderr.write(f"{name}: {self._steps:,} steps{begun}\n")
        done = point.step - self._first
        if done == 0 or (now - self._said < _EVERY_SECONDS and point.step != self._steps):
            return
        self._said = now
        left = (now - self._began) / done * (self._steps - point.step)
        sys.stderr.write(
            f"{name}: step {point.step:,} of {self._steps:,}, loss {point.loss:.4f}, rate {point.rate:.2g}, "
            f"about {remaining(left)} left\n"
        )
        sys.stderr.flush()

    def _score(self, name: str, found: Scored) -> None:
        by_class = found.dice if self._dice else found.iou
        mean = found.overall.get("mean_dice" if self._dice else "mean_iou")
        each = ", ".join(f"{key} {value:.3f}" for key, value in by_class.items() if value is not None)
        sys.stderr.write(
            f"{name}: held back, after step {found.step:,}: mean {'Dice' if self._dice else 'IoU'} "
            f"{'unknown' if mean is None else f'{mean:.3f}'} ({each})\n"
        )
        sys.stderr.flush()


def _table(found: Scores) -> str:
    lines = [f"{'held back':<20} {'IoU':>7} {'Dice':>7} {'precision':>9} {'recall':>7}"]
    for row in found["classes"]:
        values = [row.get(key) for key in ("iou", "dice", "precision", "recall")]
        shown = ["" if value is None else f"{value:.4f}" for value in values]
        lines.append(f"{row['name']:<20} {shown[0]:>7} {shown[1]:>7} {shown[2]:>9} {shown[3]:>7}")
    overall = found["overall"]
    if overall is not None:
        mean = [overall[key] for key in ("mean_iou", "mean_dice")]
        shown = ["" if value is None else f"{value:.4f}" for value in mean]
        lines.append(f"{'mean':<20} {shown[0]:>7} {shown[1]:>7}")
        lines.append(f"pixel accuracy {overall['pixel_accuracy']:.4f}")
    return "\n".join(lines) + "\n"
