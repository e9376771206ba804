"""What runs: the stages as plain functions, the journal of finished chunks, and the shipped recipes."""

from __future__ import annotations

from typing import Any

__all__ = ["Outcome", "run"]


def __getattr__(name: str) -> Any:
    """Bring `run` when it is asked for, since the libraries behind it take their time."""
    if name in __all__:
        from pipelines.runner import Outcome, run

        return {"Outcome": Outcome, "run": run}[name]
    raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
