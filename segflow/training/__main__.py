"""`python -m segflow.training RECIPE`: train as a recipe says, until `segflow train` wraps the same function."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch

from segflow.errors import SegflowError
from segflow.recipe import read_recipe
from segflow.training.train import train

log = logging.getLogger("segflow.training")


def main() -> int:
    """Train one recipe; return the exit code: 0 done, 2 refused."""
    parser = argparse.ArgumentParser(prog="python -m segflow.training", description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="threads of the fit; results repeat for equal numbers")
    parser.add_argument("--steps", type=int, help="another number of steps, for a short look")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)

    def report(step: int, loss: float) -> None:
        if (step + 1) % 25 == 0:
            log.info("step %d loss %.4f", step + 1, loss)

    try:
        recipe = read_recipe(arguments.recipe, {"train.steps": arguments.steps} if arguments.steps else None)
        model = train(recipe, report=report)
    except SegflowError as error:
        log.error("%s", error)
        return 2
    log.info("wrote %s; scores %s", model.weights, model.card.scores)
    return 0


if __name__ == "__main__":
    sys.exit(main())
