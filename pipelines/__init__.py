"""What runs: the stages as plain functions, the journal of finished chunks, and the shipped recipes."""

from pipelines.run import Outcome, run

__all__ = ["Outcome", "run"]
