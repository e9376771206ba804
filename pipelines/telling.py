"""A run's log: which scene it is at, and at times which block and how far it is."""

from __future__ import annotations

import logging
from time import monotonic

from pipelines.events import ChunkDone, Event, Listener, SceneStarted

_LOG = logging.getLogger(__name__)
EVERY_SECONDS = 30.0
"""How often a block is told of, at most."""


class Told:
    """Logs a scene's beginning, and a block with the patches so far at most every so many seconds; passes events on."""

    def __init__(self, listener: Listener, every_seconds: float = EVERY_SECONDS) -> None:
        self._listener = listener
        self._every = every_seconds
        self._total = self._done = 0
        self._said = monotonic()

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        self._listener(event)
        if isinstance(event, SceneStarted):
            self._total, self._done, self._said = event.forwards, 0, monotonic()
            rest = " left of an earlier run" if event.resumed else ""
            place = f"scene {event.number} of {event.scenes}"
            _LOG.info("%s: %s, %d patches%s", event.scene, place, event.forwards, rest)
        elif isinstance(event, ChunkDone):
            self._done += event.forwards
            if monotonic() - self._said >= self._every:
                self._said = monotonic()
                _LOG.info("%s: block %s, %d of %d patches", event.scene, event.block, self._done, self._total)
