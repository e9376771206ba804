"""The user's cache folder: what was measured or made once and can be made again at any time.

Nothing that decides a result lives here alone: a run writes it beside its results as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any


def cache_folder() -> Path:
    """Return the folder: $SEGFLOW_CACHE, or `segflow` in $XDG_CACHE_HOME or ~/.cache. It need not exist."""
    own = os.environ.get("SEGFLOW_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "segflow"


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hexadecimal, of facts that JSON can express, whatever their order."""
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def remembered(kind: str, key: str) -> dict[str, Any] | None:
    """Return what was kept under a key; None where there is nothing that can be read."""
    try:
        found = json.loads((cache_folder() / kind / f"{key}.json").read_text())
    except (OSError, ValueError, RuntimeError):  # no home
        return None
    return found if isinstance(found, dict) else None


def remember(kind: str, key: str, value: Mapping[str, Any]) -> None:
    """Keep a value under a key. A folder that cannot be written is no error: it is worked out again next time."""
    with suppress(OSError, RuntimeError):
        folder = cache_folder() / kind
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=folder, delete=False) as part:  # several processes may write at once
            path = Path(part.name)
        try:
            path.write_text(json.dumps(dict(value), indent=1, sort_keys=True))
            path.replace(folder / f"{key}.json")
        finally:
            path.unlink(missing_ok=True)  # a full disk leaves nothing behind
