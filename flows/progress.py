"""Progress: a bar with an estimate on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from pipelines.events import ChunkDone, Event, Listener, SceneEnded, SceneStarted

_EVERY_SECONDS = 10.0


@contextmanager
def progress(quiet: bool = False) -> Iterator[Listener]:
    """Give a listener that shows a run's progress on standard error."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar() as listener:
            yield listener
    else:
        yield Lines()


def remaining(seconds: float) -> str:
    """Return how long something will take, as rough as it is known: 42 s, 4 min 07 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Lines:
    """A line when a scene begins and ends, and every ten seconds between."""

    def __init__(self) -> None:
        self._total = self._done = 0
        self._began = self._said = monotonic()

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        if isinstance(event, SceneStarted):
            self._total, self._done, self._began = event.forwards, 0, monotonic()
            rest = " left of an earlier run" if event.resumed else ""
            self._say(f"{event.scene}: scene {event.number} of {event.scenes}, {event.forwards:,} patches{rest}")
        elif isinstance(event, ChunkDone):
            self._done += event.forwards
            spent = monotonic() - self._began
            if monotonic() - self._said >= _EVERY_SECONDS and self._done:
                left = spent * max(0, self._total - self._done) / self._done
                self._say(f"{event.scene}: {self._done:,} of {self._total:,} patches, about {remaining(left)} left")
        elif isinstance(event, SceneEnded):
            self._say(f"{event.state.scene}: {event.state.state}")

    def _say(self, text: str) -> None:
        self._said = monotonic()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("patches"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        tasks = {}

        def listen(event: Event) -> None:
            if isinstance(event, SceneStarted):
                tasks[event.scene] = bar.add_task(event.scene, total=event.forwards)
            elif isinstance(event, ChunkDone):
                bar.advance(tasks[event.scene], event.forwards)
            elif event.state.scene in tasks:
                task = tasks[event.state.scene]
                bar.update(task, completed=bar.tasks[task].total if event.state.state == "done" else None)

        yield listen
