"""`segflow train`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from time import monotonic

from flows.cli.recipe import recipe_of
from flows.progress import remaining
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
    """Return a listener that says a line now and then, and at the end; steps count from 0."""
    steps = recipe.train.steps if recipe.train is not None else 0
    every = max(1, steps // 50)
    began = monotonic()
    first: list[int] = []

    def report(step: int, loss: float) -> None:
        first[:] = first or [step]
        done = step + 1
        if quiet or (done % every and done != steps):
            return
        left = (monotonic() - began) / (done - first[0]) * (steps - done)
        sys.stderr.write(f"step {done:,} of {steps:,}, loss {loss:.4f}, about {remaining(left)} left\n")
        sys.stderr.flush()

    return report
