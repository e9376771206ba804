"""`segflow train`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from time import monotonic

from flows.cli.recipe import recipe_of
from segflow.recipe import Recipe


def main(options: argparse.Namespace) -> int:
    """Train a model by a recipe; what was cut off goes on from its last checkpoint."""
    recipe = recipe_of(options)
    from segflow.training.train import train

    model = train(recipe, report=_report(recipe, options.quiet))
    if options.json:
        sys.stdout.write(json.dumps({"weights": str(model.weights), "scores": model.card.scores}) + "\n")
    else:
        sys.stdout.write(f"{model.weights}\n")
    return 0


def _report(recipe: Recipe, quiet: int) -> Callable[[int, float], None]:
    """Return a listener that says a line now and then."""
    steps = recipe.train.steps if recipe.train is not None else 0
    every = max(1, steps // 50)
    began = monotonic()
    first: list[int] = []

    def report(step: int, loss: float) -> None:
        first[:] = first or [step]
        if quiet or step % every:
            return
        left = (monotonic() - began) / (step - first[0] + 1) * (steps - step)
        sys.stderr.write(f"step {step:,} of {steps:,}, loss {loss:.4f}, about {left / 60:.0f} min left\n")
        sys.stderr.flush()

    return report
