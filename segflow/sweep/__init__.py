"""A block's sweep: patches of one input band after another, through the network, blended, sealed row by row."""

from segflow.sweep.engine import Sealed, sweep
from segflow.sweep.head import Head, head_of
from segflow.sweep.task import Task

__all__ = ["Head", "Sealed", "Task", "head_of", "sweep"]
