"""What an incremental run came to: state, counts and words for whoever is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from flows.ledger.intake import Inventory

if TYPE_CHECKING:
    from segflow.report import SceneState

IncrementState = Literal["done", "degraded", "failed"]


@dataclass(slots=True)
class Increment:
    """What a run of what is new came to.

    Attributes:
        name: of the run.
        scenes: what became of each scene that was tried.
        inventory: what the last look found.
        quarantined: names of scenes that were put into quarantine.
        max_failed: share of scenes that may fail.
        unsent: what could not be made of all scenes, or sent elsewhere, in words; the next run tries it again.
        drift: what moved by more than `service.drift` from earlier runs, in words.
        lost: scenes that another run took meanwhile, since this one was not heard of: what became of them counts there.
        busy: whether another run is at work in the folder, to which the rest was left.
    """

    name: str
    max_failed: float
    scenes: list[SceneState] = field(default_factory=list)
    inventory: Inventory = field(default_factory=Inventory)
    quarantined: list[str] = field(default_factory=list)
    busy: bool = False
    unsent: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[SceneState]:
        """The scenes that failed."""
        return [item for item in self.scenes if item.error is not None]

    @property
    def state(self) -> IncrementState:
        """done; degraded: some scenes failed; failed: more than `max_failed` of them."""
        if not self.failed:
            return "degraded" if self.unsent or self.inventory.unreadable else "done"
        share = len(self.failed) / len(self.scenes)  # 29 of 100 is 0.29, and 100 * 0.29 is less than 29
        return "failed" if share > self.max_failed else "degraded"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "state": self.state,
            "scenes": [{"scene": item.scene, "state": item.state, "error": item.error} for item in self.scenes],
            "quarantined": self.quarantined,
            "waiting": self.inventory.waiting,
            "running": self.inventory.held,
            "outside": self.inventory.outside,
            "unreadable": self.inventory.unreadable,
            "lost": self.lost,
            "known": self.inventory.known,
            "busy": self.busy,
            "unsent": self.unsent,
            "drift": self.drift,
        }

    @property
    def summary(self) -> str:
        """One line for a log, a list of runs, a message."""
        done, failed = len(self.scenes) - len(self.failed), self.failed
        parts = [f"{done} new" if self.scenes else "nothing new"]
        parts += [f"{len(failed)} failed ({_some([item.scene for item in failed])})"] if failed else []
        for names, what in (
            (self.quarantined, "put into quarantine"),
            (self.inventory.waiting, "still being copied"),
            (self.inventory.held, "with another run"),
            (self.inventory.outside, "outside of the folder"),
            (self.inventory.unreadable, "unreadable"),
            (self.lost, "taken over by another run"),
        ):
            parts += [f"{len(names)} {what}"] if names else []
        parts += [f"{len(self.unsent)} not sent"] if self.unsent else []
        parts += [f"drift: {'; '.join(self.drift)}"] if self.drift else []
        parts += [f"{max(0, self.inventory.known - done)} known before"]
        return ", ".join(parts) + ("; another run is at work here" if self.busy else "")


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
