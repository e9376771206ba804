"""Features on disk between the sweep that makes them and the formats that take them, so that all take one sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segflow.io.vectors.table import BOX, schema

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Spool:
    """Features in an Arrow stream file.

    Attributes:
        path: of the file.
        count: features.
        bounds: xmin, ymin, xmax, ymax of all; None where there are none.
    """

    path: Path
    count: int
    bounds: tuple[float, float, float, float] | None

    @contextmanager
    def batches(self, box: bool) -> Iterator[pa.RecordBatchReader]:
        """Give a reader of all batches, with or without the column of bounding boxes; one batch at a time is held."""
        import pyarrow as pa

        names = [name for name in schema().names if box or name != BOX]
        picked = pa.schema([schema().field(name) for name in names])
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_stream(file) as stream:
            yield pa.RecordBatchReader.from_batches(picked, (batch.select(names) for batch in stream))


def spooled(path: Path, batches: Iterable[pa.RecordBatch]) -> Spool:
    """Write batches of `segflow.io.vectors.table.schema` to a file."""
    import pyarrow as pa

    count = 0
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema()) as stream:
        for batch in batches:
            if not len(batch):
                continue
            stream.write_batch(batch)
            count += len(batch)
            xmin, ymin, xmax, ymax = (side.to_numpy() for side in batch.column(BOX).flatten())
            low = np.minimum(low, (xmin.min(), ymin.min()))
            high = np.maximum(high, (xmax.max(), ymax.max()))
    return Spool(path, count, (*map(float, low), *map(float, high)) if count else None)  # type: ignore[arg-type]
