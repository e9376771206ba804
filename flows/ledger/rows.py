"""What a ledger gives: rows of its tables, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

State = Literal["pending", "running", "failed", "quarantined", "done"]
Stamps = str
"""Size, time and inode of a scene's files, as JSON."""


@dataclass(frozen=True, slots=True)
class Row:
    """What the ledger says of a scene. See `flows.ledger.tables.SCENE`."""

    identity: str
    name: str
    state: State
    failures: int
    losses: int
    owner: str | None
    host: str | None
    lease: float | None
    recipe: str
    weights: str
    changed: float
    error: str | None


@dataclass(frozen=True, slots=True)
class Sighting:
    """Files as they were seen: since when, and of what content and state, where that is known."""

    stamps: Stamps
    since: float
    identity: str | None
    state: State | None
    held: bool
    recipe: str | None
    weights: str | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """What the ledger remembers of a run. See `flows.ledger.tables.RUN`."""

    number: int
    name: str
    began: float
    ended: float
    state: str
    done: int
    failed: int
    facts: Any
