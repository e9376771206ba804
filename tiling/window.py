"""Blend profiles: how much a patch's word counts at each of its cells, along one axis, before normalising."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Profile = Literal["gaussian", "hann", "linear", "constant", "crop", "nnunet"]
PROFILES: tuple[Profile, ...] = get_args(Profile)


def window(profile: Profile, patch: int) -> NDArray[np.float64]:
    """Return the profile of one patch along one axis: (patch,) float64, positive everywhere, symmetric but for nnunet.

    - gaussian: sigma = patch / 8, as in nnU-Net and MONAI (Isensee et al. 2021).
    - nnunet: the same with its peak on the cell ``patch // 2``, which nnU-Net puts there: half a cell further where the
      patch is even.
    - hann: sampled at cell centres, so that no cell has weight 0.
    - linear: a triangle, sampled at cell centres.
    - constant, crop: 1; a crop's margin depends on the neighbours and is cut by the lattice.
    """
    centres = np.arange(patch, dtype=np.float64) + 0.5
    if profile in ("gaussian", "nnunet"):
        middle = patch / 2 if profile == "gaussian" else patch // 2 + 0.5
        return np.exp(-0.5 * ((centres - middle) / (patch / 8)) ** 2)
    if profile == "hann":
        return np.sin(np.pi * centres / patch) ** 2
    if profile == "linear":
        return np.minimum(centres, patch - centres)
    return np.ones(patch)
