"""How many cells two label maps agree on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def agreement(one: str, other: str) -> float:
    """Return the share of cells with the same label."""
    return float((_labels(one) == _labels(other)).mean())


def _labels(path: str) -> NDArray[np.uint8]:
    if path.endswith(".tif"):
        import rasterio

        with rasterio.open(path) as file:
            values: NDArray[np.uint8] = file.read(1)
            return values
    import nibabel

    return np.asarray(nibabel.load(path).dataobj).astype(np.uint8)
