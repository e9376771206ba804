"""A block's sweep: patches of one input band after another, through the network, blended, sealed row by row."""

from segflow.sweep.engine import Sealed, sweep
from segflow.sweep.head import Head, head_of
from segflow.sweep.task import Task

ENGINE = 1
"""Raised when a change of the code changes a bit of any result; a test of golden hashes watches over it."""

__all__ = ["ENGINE", "Head", "Sealed", "Task", "head_of", "sweep"]
