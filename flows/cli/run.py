"""`segflow run`."""

from __future__ import annotations

import argparse
import sys

from flows.cli.codes import REFUSED
from flows.cli.recipe import recipe_of
from flows.launch import launch
from pipelines.prepare import Selection
from segflow.report import run_summary, summary, to_json


def main(options: argparse.Namespace) -> int:
    """Run a recipe."""
    from flows.progress import progress

    recipe = recipe_of(options)
    selection = Selection(options.window, options.bbox, options.limit)
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
