"""GDAL's surroundings: flat cache, settings for remote files, warnings we answer ourselves, errors in our words."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from xml.sax.saxutils import unescape

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.env import set_gdal_config
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from segflow.io.names import stem_of

VRT = "<VRTDataset segflow="
"""How a path begins that is the text of a VRT; what it is named after comes next. See `segflow.io.mosaic`."""
GDAL_ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises; where it does not wrap what GDAL says, as in `rasterio.warp.transform`, the second."""
CACHE_BYTES = 64 << 20
_LARGEST_CACHE_BYTES = 512 << 20
_granted = 0
_SCHEMES = ("http", "https", "ftp", "s3", "gs", "az", "adls", "oss", "swift", "hdfs")
_VSI_REMOTE = ("vsicurl", "vsis3", "vsigs", "vsiaz", "vsiadls", "vsioss", "vsiswift", "vsihdfs", "vsiwebhdfs")
_USER = re.compile(r"://[^/]*@")
_QUIET = threading.RLock()


def is_remote(path: str) -> bool:
    """Tell whether GDAL fetches this path over a network."""
    if path.startswith(VRT):
        return False
    if path.startswith("/vsi"):
        return any(part.removesuffix("_streaming") in _VSI_REMOTE for part in path.split("/"))
    return any(scheme in _SCHEMES for scheme in urlsplit(path).scheme.split("+"))


def is_plain(path: str) -> bool:
    """Tell whether this is a path of the file system, and not a URL, a /vsi path, a VRT's text or the like."""
    return "://" not in path and not path.startswith(("/vsi", VRT))


def shown(path: str) -> str:
    """Return the path as it may be printed: no query nor user, which may hold secrets; of a VRT's text its name."""
    if path.startswith(VRT):
        return unescape(path.split('"', 2)[1], {"&quot;": '"'})
    return path if is_plain(path) else _USER.sub("://", path.split("?", 1)[0])


def scene_name(path: str) -> str:
    """Return the file's name without folders, query and extension: 'https://h/a/b.tif?k=1' gives 'b'."""
    return stem_of(shown(path))


@contextmanager
def environment(path: str, sidecars: bool = False) -> Iterator[None]:
    """Hold GDAL's settings for this path: a small block cache, strict JPEG, patience with remote servers.

    Args:
        path: what is opened or read.
        sidecars: for remote files, look for sidecars by name: some thirty requests. The folder is never listed.
    """
    limit_cache()
    options: dict[str, str] = {"GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE"}
    if is_remote(path):
        options |= {
            "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE" if sidecars else "EMPTY_DIR",
            "GDAL_HTTP_MAX_RETRY": "3",
            "GDAL_HTTP_RETRY_DELAY": "1",
            "GDAL_HTTP_CONNECTTIMEOUT": "20",
        }
    with rasterio.Env(**{key: value for key, value in options.items() if key not in os.environ}):
        yield


@contextmanager
def no_georeference_is_fine() -> Iterator[None]:
    """Silence rasterio's warning about a missing georeference: we give a notice of our own, or none is due."""
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def reason(error: BaseException) -> str:
    """Return what GDAL said: the innermost cause, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def limit_cache(row_bytes: int = 0) -> None:
    """Bound GDAL's block cache: its default, 5 % of the RAM, would grow with the machine.

    Args:
        row_bytes: of a row of a file's storage blocks, which neighbouring reads share; the cache grows to hold it, up
            to 512 MiB, and does not shrink again.
    """
    global _granted
    wanted = cache_bytes_of(row_bytes)
    if wanted > _granted and "GDAL_CACHEMAX" not in os.environ:
        set_gdal_config("GDAL_CACHEMAX", wanted)
        _granted = wanted


def cache_bytes_of(row_bytes: int) -> int:
    """Return the size of GDAL's block cache for a file. See `limit_cache`."""
    return min(_LARGEST_CACHE_BYTES, max(CACHE_BYTES, row_bytes * 5 // 4))
