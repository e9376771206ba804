"""`segflow retry` and `segflow forget`."""

from __future__ import annotations

import argparse
import json
import sys

from flows.cli.codes import DONE
from flows.cli.recipe import recipe_of
from segflow.errors import RecipeError, SegflowError


def main(options: argparse.Namespace) -> int:
    """Let scenes be done again, or drop them from the ledger."""
    from flows.ledger import open_ledger

    recipe = recipe_of(options)
    forgets = options.command == "forget"
    if not forgets and bool(options.scenes) == options.failed:
        raise RecipeError(
            "no scene is named" if not options.scenes else "scenes and --failed",
            "one of them",
            "segflow retry RECIPE SCENE..., or segflow retry RECIPE --failed",
        )
    with open_ledger(recipe, make=False) as ledger:
        if not forgets and options.failed:
            names, lacking = ledger.retry(None), []
        else:
            meant = {scene: ledger.matching(scene) for scene in options.scenes}
            wanted = list(dict.fromkeys(name for some in meant.values() for name in some))
            names = ledger.forget(wanted) if forgets else ledger.retry(wanted)
            lacking = [scene for scene, some in meant.items() if not set(some) & set(names)]
    _require_all(lacking)
    if options.json:
        sys.stdout.write(json.dumps({"scenes": names}) + "\n")
    elif options.quiet == 0:
        what = "dropped" if forgets else "to be done by the next run"
        sys.stdout.write(f"{', '.join(names) or 'no scene'}: {what}\n")
    return DONE


def _require_all(lacking: list[str]) -> None:
    if lacking:
        raise SegflowError(
            f"the ledger knows no scene {', '.join(lacking)} that could be changed",
            "names of scenes that were tried and do not run now",
            "`segflow status RECIPE` lists those that are not done",
        )
