"""What int8 is calibrated with, and what came of it: plain values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATCHES = 40
"""Patches that are asked of a scene; every fifth is held out."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Where calibration patches come from.

    Attributes:
        name: of the scene, for the report.
        identity: of all that decides the patches.
        take: returns at most so many patches (channel, *patch), always the same ones.
    """

    name: str
    identity: str
    take: Callable[[int], Sequence[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a calibrated network.

    Attributes:
        key: hash of all that it was made of.
        scene: that the patches came from.
        patches: that it was calibrated with.
        held_out: patches that it was compared on.
        unseen: whether these were none of the patches that it was calibrated with.
        agreement: share of cells, in the patches held out, with the label that float32 gives.
        speed: how many times as fast as float32 it was there, by the shortest of three turns.
        patch: cells of the patches that it takes, in array order; empty where an earlier version made it.
    """

    key: str
    scene: str
    patches: int
    held_out: int
    unseen: bool
    agreement: float
    speed: float
    patch: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """The same for a reader of the report."""
        seen = "patches that it was not calibrated with" if self.unseen else "of these (there is no other)"
        return (
            f"int8 was calibrated on {self.patches} patches of {self.scene}; on {self.held_out} {seen} "
            f"{self.agreement:.2%} of the labels were those of f32, {self.speed:.1f} times as fast"
        )
