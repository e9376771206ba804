"""What a training is of: its settings and its cells. A checkpoint goes on only where both are still the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from segflow.recipe import Recipe
from segflow.training.scenes import Labelled, train_of

_FREE = {"name", "steps", "checkpoint_every", "devices", "keep", "card", "validation"}
"""Keys of `train` that may change between two legs, or that are looked at one by one below."""
_FREE_OF_VALIDATION = {"every", "patience"}
_FREE_OF_CARD = {"description", "training", "scores", "licence", "patch", "overlap"}
_SHOWN = 60
_NAMED = 5


def identity_of(recipe: Recipe, pairs: Sequence[Labelled]) -> dict[str, str]:
    """Return what a training is of: key of the recipe to its value as JSON, and each scene to a hash of its content.

    What only says how long it goes, how often it is looked at or what its card tells is left out, and so are the
    places of files. Values that are the schema's own defaults are left out too.

    Args:
        recipe: has `train` and `references`.
        pairs: all that is trained or scored on, as the files are.

    Raises:
        InputError: a file cannot be read.
    """
    train = train_of(recipe)
    found: dict[str, Any] = {"kind": recipe.kind}
    given = train.model_dump(mode="json", exclude_defaults=True)
    found |= {f"train.{key}": value for key, value in given.items() if key not in _FREE}
    for part, free in (("validation", _FREE_OF_VALIDATION), ("card", _FREE_OF_CARD)):
        values: Mapping[str, Any] = given.get(part, {})
        found |= {f"train.{part}.{key}": value for key, value in values.items() if key not in free}
    if recipe.references is not None:
        labels = recipe.references.model_dump(mode="json", include={"map", "ignore"}, exclude_defaults=True)
        found |= {f"references.{key}": value for key, value in labels.items()}
    found |= {f"scene {pair.name}": _content(pair) for pair in pairs}
    return {key: json.dumps(value, sort_keys=True) for key, value in found.items()}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say in a line what differs; "" where nothing does."""
    keys = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    said = [_said(key, before.get(key), now.get(key)) for key in keys[:_NAMED]]
    if len(keys) > _NAMED:
        said.append(f"and {len(keys) - _NAMED} more")
    return ", ".join(said)


def _said(key: str, before: str | None, now: str | None) -> str:
    if not key.startswith("scene "):
        return f"{key} was {_short(before)}, is {_short(now)}"
    if before is None or now is None:
        return f"{key} {'is new' if before is None else 'is gone'}"
    return f"{key} has other cells or labels"


def _short(value: str | None) -> str:
    if value is None:
        return "not set"
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."


def _content(pair: Labelled) -> str:
    return hashlib.sha256(f"{pair.image.identity()} {pair.label.identity()}".encode()).hexdigest()
