"""A chunk in which nothing was found is as much a chunk as any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segflow.io.staging import Staging
from tiling import Box


def test_a_chunk_of_background_alone_is_stored_and_read_back(tmp_path: Path) -> None:
    region = Box.whole((8, 6, 6))
    staging = Staging.prepare(tmp_path / "staging", region, (4, 6, 6), {"labels": "uint8"})
    again = Staging(tmp_path / "staging", region)  # as a worker opens it
    for store, chunk in ((staging, Box((0, 0, 0), (4, 6, 6))), (again, Box((4, 0, 0), (8, 6, 6)))):
        checksum = store.write(chunk, {"labels": np.zeros(chunk.shape, np.uint16)})
        assert Staging(tmp_path / "staging", region).checksum(chunk) == checksum
    assert not again.read("labels", region).any()
