"""Ctrl-C and SIGTERM while training: remembered until the step is done, so that nothing of it is lost."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody has asked to stop."""

    def __init__(self) -> None:
        self.asked = False

    def require(self) -> None:
        """Raise KeyboardInterrupt if somebody has. To be called where all that was done is kept."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def soft_stop(on: bool) -> Iterator[Stop]:
    """Let the first Ctrl-C or SIGTERM only be remembered; a second one does what it did before, and so ends at once.

    Args:
        on: False where several processes share a batch: they would stop after different steps and wait for each other.
            Only the main thread hears signals; in others nothing changes either.
    """
    stop = Stop()
    if not on or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # What is ignored (a job in the background of a script) or not Python's stays so.
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(_signal: int, _frame: FrameType | None) -> None:
        stop.asked = True
        give_back()
        log.warning("stopping after this step or score; once more stops at once")

    for number in before:
        signal.signal(number, remember)
    try:
        yield stop
    finally:
        give_back()
