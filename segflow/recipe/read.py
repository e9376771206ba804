"""From YAML, the environment and the command line to a recipe, with errors that name the key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from segflow.errors import RecipeError
from segflow.masking import hide_value, open_text
from segflow.recipe.schema import Recipe

REQUIRED = "REQUIRED"
"""What `segflow init` writes where only a person knows the value."""


def read_recipe(path: Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a YAML recipe; relative paths in it start from its own folder.

    Args:
        path: the file.
        settings: dotted key to value, laid over the file's (``--set``); relative paths in them start from the
            working directory.

    Raises:
        RecipeError: the file is missing, is not YAML, or has a key or value that cannot be meant.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f"cannot read the recipe {path}: {getattr(error, 'strerror', error)}",
            "a YAML file",
            "check the path; `segflow sample` writes recipes that run",
        ) from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not YAML: {error}", "a YAML mapping", "correct the file") from error
    return parse_recipe(data, path.parent, settings, str(path))


def parse_recipe(
    data: Any, base: Path, settings: Mapping[str, Any] | None = None, origin: str = "the recipe"
) -> Recipe:
    """Make a recipe of plain data. See `read_recipe`."""
    if not isinstance(data, dict):
        raise RecipeError(
            f"{origin} is empty" if data is None else f"{origin} holds {type(data).__name__}",
            "a mapping with kind, inputs and model",
            "see pipelines/aerial.yaml for a complete one",
        )
    unfilled: dict[str, str] = {}
    data = _expand(data, origin, unfilled)
    for key, value in (settings or {}).items():
        data = _lay_over(data, key.split("."), _from_cwd(key, value))
    _require_filled(data, origin)
    try:
        recipe = Recipe.model_validate({**data, "base": str(base.absolute())})
    except ValidationError as error:
        raise _explain(error, origin) from error
    recipe.unfilled.update(unfilled)
    return recipe


def keys_to_fill(value: Any, key: str = "") -> list[str]:
    """Return the dotted keys of plain data that are still marked REQUIRED, in their order; lists count from 0."""
    if isinstance(value, dict):
        named = [(f"{key}.{name}" if key else str(name), item) for name, item in value.items()]
    elif isinstance(value, list):
        named = [(f"{key}.{place}", item) for place, item in enumerate(value)]
    else:
        return [key] if value == REQUIRED else []
    return [found for name, item in named for found in keys_to_fill(item, name)]


def _require_filled(data: dict[str, Any], origin: str) -> None:
    left = keys_to_fill(data)
    if left:
        raise RecipeError(
            f"{origin} still has {REQUIRED} at {', '.join(left)}",
            "values that neither the model nor the input tell",
            "fill them in; the comments beside them say what they mean",
        )


_PATH_KEYS = {
    *("inputs", "inputs.path", "inputs.aoi"),
    *("references", "references.path", "references.mask"),
    *("outputs.folder", "model.weights", "report.regions"),
}


def _from_cwd(key: str, value: Any) -> Any:
    """Anchor relative paths given on the command line to the working directory, also those inside of a value."""
    if isinstance(value, dict):
        return {name: _from_cwd(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, list):
        return [_from_cwd(key, item) for item in value]
    if (
        key not in _PATH_KEYS
        or not isinstance(value, str)
        or "://" in value
        or value.startswith(("/", "~", "builtin:", "torchvision:"))
    ):
        return value
    return str(Path.cwd() / value)


def _lay_over(data: dict[str, Any], keys: list[str], value: Any) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {**data, head: value}
    inner = data.get(head)
    if isinstance(inner, str | list) and head in ("inputs", "references"):
        inner = {"path": inner}
    return {**data, head: _lay_over(inner if isinstance(inner, dict) else {}, rest, value)}


def _expand(value: Any, origin: str, unfilled: dict[str, str]) -> Any:
    """Replace ${VAR} by the environment's value, in every string; note in `unfilled` how each of them was written."""
    if isinstance(value, dict):
        return {key: _expand(item, origin, unfilled) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, origin, unfilled) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        try:
            found = os.environ[match[1]]
        except KeyError:
            raise RecipeError(
                f"{origin} uses ${{{match[1]}}}, which is not set",
                "a variable of the environment",
                f"export {match[1]}=..., or write the value itself",
            ) from None
        hide_value(match[1], found)
        return found

    filled = re.sub(r"\$\{(\w+)\}", fill, value)
    if filled not in ("", value):
        unfilled[filled] = value
    return filled


def _explain(error: ValidationError, origin: str) -> RecipeError:
    """Turn pydantic's first complaint into found, expected, remedy, with the nearest name for a misspelt key."""
    first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    where = _place(first["loc"])
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = _known_keys(where[:-1])
        near = get_close_matches(where[-1], known, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else "remove it; `segflow schema` lists all keys"
        return RecipeError(f"{origin} has an unknown key {key}", "one of " + ", ".join(known), remedy)
    if first["type"] == "missing":
        needed = "name, classes, channels and patch" if where[0] == "train" else "kind, inputs and model.weights"
        return RecipeError(f"{origin} lacks {key}", f"{needed} at least", f"add {key}")
    given = first["input"]
    shown = "" if isinstance(given, dict) else " is " + open_text(repr(given))
    found = f"{origin}: {key}{shown}" if key else f"{origin} cannot be meant"
    # A value that may be of several types gets a complaint for each.
    same = [item for item in error.errors() if _place(item["loc"]) == where]
    names = [name for item in same for name in _choices(item)]
    wanted = [_plain(item) for item in same if not _choices(item)]
    if names:
        wanted.append("one of " + ", ".join(names) if len(names) > 1 else names[0])
    near = get_close_matches(str(given), names, n=1, cutoff=0.5)
    remedy = f"did you mean {near[0]}?" if near else "correct it; `segflow schema` describes it"
    return RecipeError(found, " or ".join(dict.fromkeys(wanted)), remedy)


def _plain(error: ErrorDetails) -> str:
    """Return what a complaint wants, in plain words."""
    if error["type"] in _BOUNDS:
        name, words = _BOUNDS[error["type"]]
        return words.format(error["ctx"][name])
    if error["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(error["ctx"]["pattern"], error["msg"])
    return _PLAIN.get(error["type"], error["msg"].removeprefix("Value error, "))


_BOUNDS = {
    "greater_than": ("gt", "more than {:g}"),
    "greater_than_equal": ("ge", "{:g} or more"),
    "less_than": ("lt", "less than {:g}"),
    "less_than_equal": ("le", "{:g} or less"),
}
"""Where pydantic keeps a bound, and how it is told."""

_PATTERNS = {
    r"^[\w.-]+$": "letters, digits, and _ . - between them, no blank",
    r"^(auto|cpu|cuda(:\d+)?)$": "auto, cpu, cuda, or cuda:1 for the second GPU",
    r"^#[0-9A-Fa-f]{6}$": 'a colour as "#RRGGBB", in quotes, such as "#3060C0"',
}
"""Patterns of the schema, in words."""

_PLAIN = {
    "tuple_type": "a list in brackets",
    "list_type": "a list in brackets",
    "dict_type": "a mapping, such as {key: value}",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
"""What pydantic calls by Python's names."""


def _choices(error: ErrorDetails) -> list[str]:
    """Return the names of which a complaint wants one."""
    return re.findall(r"'([^']*)'", str(error["ctx"]["expected"])) if error["type"] == "literal_error" else []


def _place(steps: tuple[int | str, ...]) -> list[str]:
    """Return the keys that lead to a complaint, without pydantic's names of types."""
    return [str(step) for step in steps if not (isinstance(step, str) and _is_of_pydantic(step))]


def _is_of_pydantic(part: str) -> bool:
    """Tell whether a step of a place names a type, or the key of a mapping, and is no key of the recipe."""
    return part[:1].isupper() or "[" in part or part in ("int", "float", "str", "bool")


def _known_keys(path: list[str]) -> list[str]:
    """List the keys that are known at a place of the recipe."""
    node: Any = Recipe
    for part in path:
        field = getattr(node, "model_fields", {}).get(part)
        if field is None:
            break
        inner = [a for a in getattr(field.annotation, "__args__", (field.annotation,)) if hasattr(a, "model_fields")]
        node = inner[0] if inner else Recipe
    return sorted(name for name in node.model_fields if name != "base")
