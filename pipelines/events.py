"""What happens in a run, for whoever shows progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from segflow.report import SceneState


@dataclass(frozen=True, slots=True)
class SceneStarted:
    """A scene begins: `cells` in all, of which `done` are there from before."""

    scene: str
    number: int
    scenes: int
    forwards: int


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A chunk is stored."""

    scene: str
    forwards: int


@dataclass(frozen=True, slots=True)
class SceneEnded:
    """A scene is done, unchanged, failed or refused."""

    state: SceneState


Event = SceneStarted | ChunkDone | SceneEnded
Listener = Callable[[Event], None]
