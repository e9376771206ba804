"""Content identity of rasters: a string that changes when what is read may have changed, and not when a file is moved.

Local files count by their bytes (`segflow.io.content`): the file itself, its mask sidecar, and the sources of a VRT,
down through nested ones. Archives (/vsizip and kin) count as the archive. What is remote, or not a file at all, counts
by its server's ETag, Last-Modified and length (by HTTP, where the server tells them) and by the values of 64
storage blocks spread evenly over the raster. Overviews and .aux.xml are left out: no pixel that is read depends on them
but through the header, and viewers write them beside the user's files.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from segflow.io.content import file_identity
from segflow.io.gdalenv import VRT, environment, is_plain, is_remote, no_georeference_is_fine

_BLOCKS = 64
_BESIDE = (".aux.xml", ".ovr", ".msk.ovr")


def raster_identity(dataset: Any, path: str, facts: Mapping[str, Any]) -> str:
    """Return the identity of an open raster.

    Args:
        dataset: the open rasterio data set.
        path: what it was opened by.
        facts: what else decides the pixels (header, bands, nodata, mask settings); plain JSON values.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    sources = [file_identity(source) for source in raster_files(dataset)]
    for source in sources:
        digest.update(source.encode())
    if is_remote(path):
        digest.update(_server_says(path).encode())
    if is_remote(path) or not sources:
        _add_blocks(dataset, digest)
    return digest.hexdigest()


def raster_files(dataset: Any) -> Iterable[Path]:
    """Yield all local files that an open raster reads pixels from."""
    return _files(dataset, set())


def _files(dataset: Any, seen: set[str]) -> Iterable[Path]:
    for name in dataset.files:
        name = str(name)
        if name in seen or name.endswith(_BESIDE):
            continue
        seen.add(name)
        if (local := _local(name)) is None:
            continue
        yield local
        if name != dataset.name and (name.lower().endswith(".vrt") or dataset.name.startswith(VRT)):
            with environment(name), no_georeference_is_fine(), rasterio.open(name) as inner:
                yield from _files(inner, seen)


def _local(name: str) -> Path | None:
    """Return the file of the file system that holds a path's bytes: itself, or the archive it lies in."""
    if is_plain(name):
        return Path(name) if Path(name).is_file() else None
    if is_remote(name) or not name.startswith("/vsi"):
        return None
    inner = Path("/" + name.split("/", 2)[-1].lstrip("/"))
    for candidate in (inner, *inner.parents):
        if candidate.is_file():
            return candidate
    relative = Path(str(inner).lstrip(os.sep))
    return next((item for item in (relative, *relative.parents) if item.is_file()), None)


def _server_says(path: str) -> str:
    """Return ETag, Last-Modified and length as the server gives them; empty where it does not."""
    url = path.removeprefix("/vsicurl/")
    if not url.startswith(("http://", "https://")):
        return ""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=20) as answer:
            return repr([answer.headers.get(key) for key in ("ETag", "Last-Modified", "Content-Length")])
    except (urllib.error.URLError, OSError, ValueError):
        return ""


def _add_blocks(dataset: Any, digest: Any) -> None:
    """Add the values of up to 64 storage blocks, spread evenly in reading order."""
    height, width = dataset.block_shapes[0]
    height, width = min(height, 1024), min(width, 4096)
    down, right = -(-dataset.height // height), -(-dataset.width // width)
    for index in np.unique(np.linspace(0, down * right - 1, _BLOCKS).astype(np.int64)):
        row, column = divmod(int(index), right)
        window = Window(
            column * width,
            row * height,
            min(width, dataset.width - column * width),
            min(height, dataset.height - row * height),
        )
        try:
            digest.update(np.ascontiguousarray(dataset.read(window=window)).tobytes())
        except RasterioIOError:
            digest.update(b"unreadable")
