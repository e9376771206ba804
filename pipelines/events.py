"""What happens in a run, for whoever shows progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segflow.report import SceneState


@dataclass(frozen=True, slots=True)
class SceneStarted:
    """A scene begins.

    Attributes:
        scene: its name.
        number: which scene it is, from 1.
        scenes: how many there are.
        forwards: patches that are still to be run, at most.
        resumed: whether chunks from an earlier run are there.
    """

    scene: str
    number: int
    scenes: int
    forwards: int
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A chunk is stored.

    Attributes:
        scene: the scene's name.
        forwards: patches that were run for it.
        block: which block it belongs to.
    """

    scene: str
    forwards: int
    block: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SceneEnded:
    """A scene is done, unchanged, failed or refused."""

    state: SceneState


Event = SceneStarted | ChunkDone | SceneEnded
Listener = Callable[[Event], None]
