"""`segflow run`."""

from __future__ import annotations

import argparse
import json
import sys

from flows.cli.codes import DONE, REFUSED, SOME_FAILED
from flows.cli.recipe import recipe_of
from flows.launch import launch, launch_new
from pipelines.planning.scenes import Selection
from segflow.errors import RecipeError
from segflow.recipe import Recipe
from segflow.report import run_summary, summary, to_json


def main(options: argparse.Namespace) -> int:
    """Run a recipe."""
    from flows.progress import progress

    recipe = recipe_of(options)
    selection = Selection(options.window, options.bbox, options.limit)
    if options.new or options.backfill:
        return _new(recipe, selection, options)
    with progress(quiet=options.quiet > 0) as listener:
        outcome = launch(recipe, selection, force=options.force, listener=listener, prefect=options.prefect)
    if options.json:
        sys.stdout.write(to_json(outcome.report) + "\n")
    elif options.quiet == 0 and outcome.exit_code != REFUSED:
        scenes = outcome.report.scenes
        if len(scenes) == 1 and scenes[0].report is not None:
            sys.stdout.write(summary(scenes[0].report) + "\n")
        else:
            sys.stdout.write(run_summary(outcome.report) + "\n")
        sys.stdout.write(f"\n{outcome.folder}/report.html\n")
    if outcome.exit_code:
        for scene in outcome.report.scenes:
            if scene.error is not None:
                sys.stderr.write(f"segflow: {scene.scene}: {scene.error}\n")
        for text in outcome.unpublished:
            sys.stderr.write(f"segflow: {text}\n")
    return outcome.exit_code


def _new(recipe: Recipe, selection: Selection, options: argparse.Namespace) -> int:
    """Run what is new by the ledger."""
    from flows.progress import progress

    if selection != Selection() or options.force:
        raise RecipeError(
            "--new or --backfill with a part of the work, or --force",
            "whole scenes, each once",
            "leave the other flag out; `segflow retry RECIPE SCENE` lets a scene be done again",
        )
    with progress(quiet=options.quiet > 0) as listener:
        increment = launch_new(recipe, backfill=options.backfill, listener=listener, prefect=options.prefect)
    if options.json:
        sys.stdout.write(json.dumps(increment.to_json(), indent=2) + "\n")
    elif options.quiet == 0:
        sys.stdout.write(increment.summary + "\n")
    for scene in increment.failed:
        sys.stderr.write(f"segflow: {scene.scene}: {scene.error}\n")
    for text in (*increment.inventory.unreadable, *increment.unsent):
        sys.stderr.write(f"segflow: {text}\n")
    return DONE if increment.state == "done" else SOME_FAILED
