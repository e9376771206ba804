"""A recipe as the text that a report shows: what was set, without what nobody else may read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from segflow.recipe.schema import Recipe

HIDDEN = "***"
_SECRET = re.compile(r"passw|secret|token|credential|api_?key|access_?key", re.IGNORECASE)
_URL = re.compile(r"\w[\w+.-]*://[^\s'\"]+")
_PASSWORD = re.compile(r"(\w://[^/:@]*):[^/]*@")
_ALONE = re.compile(r"(https?://)[^/:@]+@")
_IN_QUERY = re.compile(r"([?&][\w.-]+=)[^&#]+")
_IN_TEXT = re.compile(r"((?:passw\w*|secret|token|signature|sig|api_?key)=)[^&\s'\"]+", re.IGNORECASE)


def recipe_text(recipe: Recipe) -> str:
    """Return what a recipe sets, as YAML, without defaults and passwords (in URLs, connection strings, by key).

    The output folder is left out: the report lies in it, and stays true when the folder is moved.
    """
    plain = open_data(recipe.model_dump(mode="json", exclude_defaults=True, exclude={"outputs": {"folder"}}))
    if not plain.get("outputs", True):
        del plain["outputs"]
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def open_data(value: Any) -> Any:
    """Return plain data without what stands under the name of a secret, or as a password in a text."""
    if isinstance(value, Mapping):
        return {key: HIDDEN if _SECRET.search(str(key)) and item else open_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [open_data(item) for item in value]
    if isinstance(value, str):
        return open_text(value)
    return value


def open_text(text: str) -> str:
    """Return a text, such as a log, without passwords and values of queries that stand in its URLs."""
    return _IN_TEXT.sub(rf"\1{HIDDEN}", _URL.sub(_open_url, text))


def _open_url(url: re.Match[str]) -> str:
    named = _ALONE.sub(rf"\1{HIDDEN}@", _PASSWORD.sub(rf"\1:{HIDDEN}@", url[0]))
    return _IN_QUERY.sub(rf"\1{HIDDEN}", named)
