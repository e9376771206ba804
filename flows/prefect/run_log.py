"""What a flow run's log on the server holds besides warnings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines import telling


@contextmanager
def progress_logged() -> Iterator[None]:
    """Let lines of progress through for a while, and no others: those may name paths and addresses.

    What handlers show on a terminal is decided by their own level.
    """
    logger = logging.getLogger(telling.__name__)
    before = logger.level
    logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(before)
