"""What every part of a recipe and of a model's card has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

DEFAULT = "x-default"


def unwritten(schema: dict[str, Any]) -> None:
    """Name a key's default to readers of the schema, but to no form, which would write it into the recipe.

    For keys of which it matters whether they are written: their default depends on other keys, or is none of theirs.
    """
    schema[DEFAULT] = schema.pop("default")


class Part(BaseModel):
    """A mapping of a YAML file: frozen; unknown keys are refused; a form shows the keys as they are written."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), field_title_generator=lambda name, _: name
    )
