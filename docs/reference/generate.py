"""Writes recipe.md, card.md and cli.md from the schemas and the parser: `python docs/reference/generate.py`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.cli.main import parser
from segflow.models.card import Card
from segflow.part import DEFAULT
from segflow.recipe import Recipe

FOLDER = Path(__file__).parent


def schema_page(title: str, intro: str, model: type[BaseModel]) -> str:
    """Return a page with a table for the model and for each model inside it."""
    schema = model.model_json_schema()
    parts = [f"# {title}", intro, _table(schema)]
    for name, inner in sorted(schema.get("$defs", {}).items()):
        if "properties" in inner:
            about = inner.get("description", "").split("\n")[0]
            parts += [f"## {name}", about, _table(inner)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(schema: dict[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in schema["properties"].items():
        if key == "base":
            continue
        preset = field.get("default", field.get(DEFAULT))
        default = "**needed**" if key in needed else f"`{preset}`" if preset is not None else ""
        meaning = field.get("description", "").replace("|", "\\|")
        lines.append(f"| `{key}` | {_type(field)} | {default} | {meaning} |")
    return "\n".join(lines)


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(item) for item in field["anyOf"] if item.get("type") != "null"))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array":
        return "list of " + _type(field["items"]) if "items" in field else "list"
    return str(field.get("type", "any"))


def cli_page() -> str:
    """Return a page with the help of every command."""
    os.environ["COLUMNS"] = "100"
    top = parser()
    parts = ["# Command line", "```text\n" + top.format_help().rstrip() + "\n```"]
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                parts += [f"## segflow {name}", "```text\n" + command.format_help().rstrip() + "\n```"]
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, str]:
    """Return all pages by file name."""
    return {
        "recipe.md": schema_page(
            "Recipe",
            "All keys of a recipe. Needed are `kind`, `inputs` and `model.weights`. Unknown keys are refused. Relative "
            "paths start from the recipe's folder, those of `--set` from the working directory; `${NAME}` is read from "
            "the environment.",
            Recipe,
        ),
        "card.md": schema_page(
            "Model card",
            "The file `NAME.yaml` beside `NAME.safetensors`: what the network eats and what its channels mean.",
            Card,
        ),
        "cli.md": cli_page(),
    }


if __name__ == "__main__":
    for file, text in pages().items():
        (FOLDER / file).write_text(text)
