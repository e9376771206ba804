"""A recipe as others may read it: what was set, without what nobody else may know."""

from __future__ import annotations

from typing import Any

import yaml

from segflow.masking import open_data
from segflow.recipe.schema import Recipe


def recipe_text(recipe: Recipe) -> str:
    """Return what a recipe sets, as YAML, without defaults; see `open_recipe`.

    The output folder is left out: the report lies in it, and stays true when the folder is moved.
    """
    plain = open_recipe(recipe)
    outputs = plain.get("outputs", {})
    outputs.pop("folder", None)
    if not outputs:
        plain.pop("outputs", None)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def open_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe sets as plain data, as it may be shown and kept.

    ${VAR} stands where it was written, and passwords that were written themselves are left out (in URLs, connection
    strings, by key).
    """
    found: dict[str, Any] = open_data(_unfilled(recipe.model_dump(mode="json", exclude_defaults=True), recipe.unfilled))
    return found


def _unfilled(value: Any, written: dict[str, str]) -> Any:
    """Put texts back as they were written, before the environment filled them."""
    if isinstance(value, dict):
        return {key: _unfilled(item, written) for key, item in value.items()}
    if isinstance(value, list):
        return [_unfilled(item, written) for item in value]
    return written.get(value, value) if isinstance(value, str) else value
