"""`segflow models`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from segflow.models.model import builtins
from segflow.models.registry import architectures


def main(options: argparse.Namespace) -> int:
    """List built-in models or architectures."""
    rows = _architectures() if options.architectures else _builtins()
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return 0
    for row in rows:
        sys.stdout.write("  ".join(f"{value}" for value in _line(row)) + "\n")
    return 0


def _builtins() -> list[dict[str, Any]]:
    return [
        {
            "name": card.name,
            "kind": card.kind,
            "description": card.description,
            "classes": [item.model_dump(mode="json") for item in card.classes],
            "channels": list(card.channels),
            "scores": card.scores,
            "licence": card.licence,
        }
        for card in builtins()
    ]


def _architectures() -> list[dict[str, Any]]:
    return [{"name": row.name, "parameters": row.parameters, "paper": row.paper} for row in architectures()]


def _line(row: dict[str, Any]) -> list[str]:
    if "parameters" in row:
        return [f"{row['name']:<12}", f"{row['parameters']:>12,} parameters", row["paper"]]
    names = ", ".join(item["name"] for item in row["classes"])
    return [f"builtin:{row['name']:<20}", f"{row['kind']:<7}", row["description"] or names]
