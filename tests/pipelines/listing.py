"""The files of a folder as a depot takes them; imports little, since processes that are killed start with it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from segflow.io.manifest import Manifest, StoredFile

UPLOADING = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from segflow.io.depot import Depot
from tests.pipelines.listing import listed
Depot(sys.argv[2]).put(sys.argv[3], *listed(Path(sys.argv[1])), datetime.now(UTC))
"""
"""Publishes a folder (1) to a place (2) under the hash of a content (3)."""


def listed(folder: Path) -> tuple[dict[str, Path], Manifest]:
    """All files of a folder, as they are put."""
    paths = {path.name: path for path in sorted(folder.iterdir())}
    files = [StoredFile(n, hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_size) for n, p in paths.items()]
    return paths, Manifest("", True, {"a": "f"}, tuple(files))
