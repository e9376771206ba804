"""Truncated files are found when they are opened, not after hours of work."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from segflow.errors import InputError
from segflow.io.gdalenv import is_plain

_MOST_BLOCKS = 400_000
_REMEDY = "fetch or make the file again"


def require_whole_file(file: Any, path: str) -> None:
    """Refuse a local TIFF or PNG that ends before its pixels do; other formats' readers say so themselves.

    A TIFF's blocks must end within the file: the table of block offsets that GDAL has read tells (of more than 400,000
    blocks, the last ones are looked at). A PNG's chunks must lead to its end mark: GDAL reads zeros where one is cut.

    Raises:
        InputError: the file is cut short; for a TIFF it says from which row on.
    """
    if not is_plain(path) or not Path(path).is_file():
        return
    if file.driver == "GTiff":
        _require_whole_tiff(file, path, Path(path).stat().st_size)
    elif file.driver == "PNG":
        _require_whole_png(Path(path))


def _require_whole_tiff(file: Any, path: str, size: int) -> None:
    separate = file.interleaving is not None and file.interleaving.name == "band"
    for band in file.indexes if separate else file.indexes[:1]:
        height, width = file.block_shapes[band - 1]
        down, right = -(-file.height // height), -(-file.width // width)
        for row in range(max(0, down - max(1, _MOST_BLOCKS // right)), down):
            for column in range(right):
                offset = file.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=band)
                length = file.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=band)
                if offset is not None and length is not None and int(offset) + int(length) > size:
                    raise InputError(
                        f"{path} is cut short: it has {size} bytes, and its rows from {row * height} on lie beyond",
                        f"at least {int(offset) + int(length)} bytes",
                        _REMEDY,
                    )


def _require_whole_png(path: Path) -> None:
    """Walk the chunks (PNG specification, third edition, 5.3) up to IEND."""
    with path.open("rb") as file:
        place = 8
        while True:
            file.seek(place)
            head = file.read(8)
            if len(head) < 8:
                raise InputError(f"{path} is cut short at byte {place + len(head)}", "a PNG that ends in IEND", _REMEDY)
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IEND":
                return
            place += 12 + length
