"""What hangs together: numbered pieces and the pairs of them that meet, as a graph (`scipy.sparse.csgraph`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def united(pairs: NDArray[np.integer], count: int) -> NDArray[np.int32]:
    """Return the number (count,) of the whole that each piece belongs to, from 0 in the order of their first pieces.

    Args:
        pairs: (n, 2) pieces that are one.
        count: of pieces.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if count == 0:
        return np.empty(0, np.int32)
    met = np.ones(len(pairs), np.bool_)
    graph = coo_array((met, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    found: NDArray[np.int32] = connected_components(graph.tocsr(), directed=False)[1]
    return found
