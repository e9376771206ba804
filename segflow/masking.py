"""Texts without what nobody else may read: the one place that knows how a password looks.

Two ways find one: by how it is written (in a URL, in a connection string, under the name of a secret), and by its
value, where a recipe filled it in from a variable that is named after a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"
_SECRET = re.compile(
    r"passw|passphrase|secret|token|credential|signature|bearer|userpwd|(?:api|access|account|private|name)_?key"
    r"|(?:^|_)(?:sas|sig|pwd|auth|apikey|cookie)$",
    re.IGNORECASE,
)
_NO_SECRETS = re.compile(r"file|path|dir$|^PWD$|TOKENIZERS", re.IGNORECASE)
"""Variables of the environment that are named so and hold none."""
_URL = re.compile(r"\w[\w+.-]*://[^\s'\"]+")
_PASSWORD = re.compile(r"(\w://[^/:@]*):[^/]*@")
_ALONE = re.compile(r"(https?://)[^/:@]+@")
_IN_QUERY = re.compile(r"((?:[?&]|&amp;)[\w.%-]+=)[^&#]+")
_IN_TEXT = re.compile(
    r"((?:passw\w*|secret|token|signature|(?<![^\W_])sig|api_?key|credential|accountkey)(?:=|%3D))[^&\s'\"]+",
    re.IGNORECASE,
)
_IN_HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*b?['\"]?(?:bearer |basic |aws4-\S+ )?)[^'\"\n]+", re.IGNORECASE)
_PLAIN = re.compile(r"[\w.-]+", re.ASCII)
_SHORTEST, _LONG = 4, 8
_values: dict[str, None] = {}
"""What this process hides by its value: secrets, in all the ways in which URLs write them, and private names. Longest
first."""


def hide_value(variable: str, value: str) -> None:
    """Hide the value of a variable from now on in every text of this process, if the variable is named for a secret.

    Values of fewer than four letters are not hidden: too much would be.
    """
    if _SECRET.search(variable) and variable != "PWD":
        hide_texts((value,))


def hide_environment(environment: Mapping[str, str]) -> None:
    """Hide the values of all variables that are named for a secret and do not name a file, if of eight letters or more.

    Libraries take credentials from there that no recipe names.
    """
    hide_texts(
        value
        for key, value in environment.items()
        if len(value) >= _LONG and _SECRET.search(key) and not _NO_SECRETS.search(key)
    )


def hide_texts(texts: Iterable[str]) -> None:
    """Hide these from now on in every text of this process; those of fewer than four letters are not hidden.

    However they are written: as they are, in a URL, in JSON, in HTML, or as Python shows them.
    """
    new = {way for text in texts if len(text) >= _SHORTEST for way in _written(text)} - _values.keys()
    if new:
        every = sorted({*_values, *new}, key=lambda text: (-len(text), text))
        _values.clear()
        _values.update(dict.fromkeys(every))


def _written(text: str) -> Iterator[str]:
    """Yield the ways in which a text stands in others."""
    yield text
    if not _PLAIN.fullmatch(text):
        raw = text.encode(errors="surrogateescape")
        yield from (quote(raw), quote(raw, safe=""), quote_plus(raw), escape(text), escape(text, quote=False))
        yield from (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])


def hidden_in(texts: Iterable[str]) -> list[str]:
    """Return what this process hides by its value and what stands in one of these texts."""
    there = tuple(texts)
    return [value for value in _values if any(value in text for text in there)]


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
    shown = _IN_TEXT.sub(rf"\1{HIDDEN}", _URL.sub(_open_url, without_hidden(text)))
    return _IN_HEADER.sub(rf"\1{HIDDEN}", shown)


def without_hidden(text: str, more: Iterable[str] = ()) -> str:
    """Return a text without what this process hides by its value, and without more, however that is written."""
    ways = {way for value in more for way in _written(value)}
    for value in (*sorted(ways, key=len, reverse=True), *_values):
        text = text.replace(value, HIDDEN)
    return text


def _open_url(url: re.Match[str]) -> str:
    named = _ALONE.sub(rf"\1{HIDDEN}@", _PASSWORD.sub(rf"\1:{HIDDEN}@", url[0]))
    return _IN_QUERY.sub(rf"\1{HIDDEN}", named)
