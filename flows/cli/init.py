"""`segflow init`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pipelines.drafts.drafting import draft_recipe, require_free
from segflow.io.atomic import write_text


def main(options: argparse.Namespace) -> int:
    """Write a recipe for a model and an input; what neither tells is marked REQUIRED."""
    path = Path(options.output)
    printed = options.output == "-"
    if not printed:
        require_free(path, options.force)
    draft = draft_recipe(options.model, options.input, Path.cwd() if printed else path.parent, options.trust)
    for warning in draft.warnings:
        sys.stderr.write(f"segflow: warning: {warning}\n")
    if printed:
        sys.stdout.write(draft.text)
        return 0
    write_text(path, draft.text)
    if options.json:
        told = {"recipe": str(path), "required": list(draft.required), "warnings": list(draft.warnings)}
        sys.stdout.write(json.dumps(told) + "\n")
        return 0
    sys.stdout.write(f"{path}\n")
    if draft.required:
        sys.stdout.write(f"fill in: {', '.join(draft.required)}\n")
    sys.stdout.write(f"{'then' if draft.required else 'now'}: segflow run {path}\n")
    return 0
