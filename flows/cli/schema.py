"""`segflow schema`."""

from __future__ import annotations

import argparse
import json
import sys

from segflow.recipe import Recipe


def main(_options: argparse.Namespace) -> int:
    """Print the JSON Schema of recipes."""
    schema = Recipe.model_json_schema()
    schema["properties"].pop("base", None)
    sys.stdout.write(json.dumps(schema, indent=2) + "\n")
    return 0
