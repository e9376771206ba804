"""An incremental run: what is new by the ledger, each scene once, until nothing new is found."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event as Signal
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING

from flows.incremental.increment import Increment
from flows.incremental.scene_log import SceneLog
from flows.ledger import Ledger, Row, RunRow, open_ledger
from flows.ledger.intake import Intake
from flows.workers import with_workers
from pipelines.events import Event, Listener, SceneEnded, SceneStarted
from pipelines.network.engine import model_of
from pipelines.planning.scenes import NamedScene, Selection
from segflow.errors import BusyError, SegflowError
from segflow.recipe import Recipe, open_text

if TYPE_CHECKING:
    from pipelines.runner import Outcome, Stages
    from segflow.report import Results, SceneState

_LOG = logging.getLogger(__name__)
_BEATS = 4
"""How often a run says that it is alive while its lease lasts."""
_BACK = 100
"""How many runs back those with results are looked for, to compare with."""
_COMPARED = 7
"""How many of them are compared with, at most: of their median an odd run moves nothing."""


def run_increment(
    recipe: Recipe,
    *,
    backfill: bool = False,
    listener: Listener = lambda _: None,
    stages: Callable[[], Stages | None] = lambda: None,
    name: str = "run",
) -> Increment:
    """Segment what is new, each scene once, whoever else asks for it at the same time.

    Killed at any moment, it leaves scenes that the next run takes up where they were.

    Args:
        recipe: what is meant, and how it is operated.
        backfill: also do again what was done with another recipe or other weights.
        listener: told of progress.
        stages: gives the stages, when the first scene needs them; a scheduler wraps them.
        name: the run is remembered by it.

    Raises:
        SegflowError: the run as a whole cannot be: the model, the folder, the ledger, the cluster.
    """
    model = model_of(recipe)
    increment = Increment(name, recipe.service.max_failed)
    with open_ledger(recipe) as ledger:
        began, before = ledger.now(), None
        intake = Intake(recipe, model, ledger, backfill)
        claims = _Claims(ledger, intake, increment, listener, backfill, _waits(recipe))
        with _alive(ledger, recipe.service.lease_seconds):
            try:
                while fresh := _fresh(intake, claims, recipe):
                    from pipelines.runner import Lot

                    before = before or _before(ledger)
                    outcome = with_workers(
                        recipe,
                        Selection(),
                        listener=claims.heard,
                        stages=stages(),
                        force=False,
                        lot=Lot(fresh, claims.admit, before, tuple(increment.scenes)),
                    )
                    claims.left(outcome, {item.name for item in fresh})
            except BusyError as error:
                increment.busy = True
                _LOG.warning("%s; what is new is left to it", error.found)
            finally:
                claims.end()
        if increment.scenes:
            _remember(ledger, began, increment, before, recipe.service.drift)
    return increment


def _remember(
    ledger: Ledger, began: float, increment: Increment, before: Results | None, least_drift: float | None
) -> None:
    """Compare what a run has measured with earlier runs, and have the ledger remember it."""
    from segflow.report import drift_of, results_of, run_report

    now = results_of(run_report(increment.name, increment.scenes, 0))
    drift = drift_of(before, now, least_drift)
    increment.drift = [] if drift is None else list(drift.told)
    facts = {} if now is None else now.model_dump(exclude={"run"})
    failed = len(increment.failed)
    ledger.history.add(increment.name, began, increment.state, len(increment.scenes) - failed, failed, facts)


def _waits(recipe: Recipe) -> bool:
    """Tell whether a scene that is whole is not done before the end of its run: something is made of all, or sent."""
    outputs = recipe.outputs
    return recipe.publish is not None or outputs.vrt or outputs.stac or outputs.bids


def _before(ledger: Ledger) -> Results | None:
    """Return the median of what the ledger remembers of the last good runs that had results."""
    from segflow.report import median_of

    good = [run for run in ledger.history.latest(_BACK) if run.facts and run.state != "failed"]
    read = [(run, results) for run in good if (results := _results(run)) is not None][:_COMPARED]
    if not read:
        return None
    whens = [datetime.fromtimestamp(run.ended, UTC) for run, _ in read]
    last, first = (f"{read[n][0].name} of {whens[n]:%Y-%m-%d %H:%M} UTC" for n in (0, -1))
    names = f"the run before, {last}" if len(read) == 1 else f"the median of {len(read)} runs before, {first} to {last}"
    return median_of([results for _, results in read], names)


def _results(run: RunRow) -> Results | None:
    """Return what a run has measured; None where another version of segflow wrote it, and means other things."""
    from segflow.report import Results

    try:
        return Results.model_validate({**run.facts, "run": run.name})
    except (ValueError, TypeError):
        return None


def _fresh(intake: Intake, claims: _Claims, recipe: Recipe) -> list[NamedScene]:
    """Look for scenes that this run has not tried; wait for files to settle, and for runs that seem to be dead."""
    end, beat = monotonic() + recipe.service.lease_seconds * 1.25, recipe.service.lease_seconds / _BEATS
    settled = alive = False
    while True:
        claims.increment.inventory = look = intake.look()
        fresh = [item for item in look.fresh if item.name not in claims.tried]
        if look.waiting and not settled:
            settled = True
            sleep(recipe.service.settle_seconds)
        elif fresh:
            return fresh
        elif look.held and not alive and monotonic() < end:
            alive = not claims.may_be_dead(look.held)
            sleep(0 if alive else min(1.0, beat / 2))
        else:
            return []


class _Claims:
    """Scenes as they come to this run: claimed before, told to the ledger after."""

    def __init__(
        self,
        ledger: Ledger,
        intake: Intake,
        increment: Increment,
        listener: Listener,
        backfill: bool,
        waits: bool,
    ) -> None:
        self.increment = increment
        self.tried: set[str] = set()
        self._ledger = ledger
        self._intake = intake
        self._listener = listener
        self._backfill = backfill
        self._whole = ledger.made if waits else ledger.done
        self._identities: dict[str, str] = {}
        self._leases: dict[str, float] = {}
        self._log = SceneLog()

    def admit(self, item: NamedScene) -> bool:
        """Claim a scene for this run; one that cannot be read fails here."""
        self.tried.add(item.name)
        self._log.begin()
        error = None
        try:
            identity = self._intake.identify(item)
        except SegflowError as told:
            error = str(told)
            identity = self._intake.identify_broken(item)
        if identity in self._identities.values():
            return False  # the same content under another name
        if not self._ledger.claim(identity, item.name, *self._intake.made, self._backfill):
            return False
        self._identities[item.name] = identity
        if error is None:
            return True
        from segflow.report import SceneState

        self.heard(SceneEnded(SceneState(scene=item.name, state="refused", error=error)))
        return False

    def heard(self, event: Event) -> None:
        """Hear of an event, and tell the ledger what became of a scene."""
        if isinstance(event, SceneStarted):
            self._log.note(f"{event.scene}: {event.forwards} patches to run{', resumed' if event.resumed else ''}")
        if isinstance(event, SceneEnded):
            self._log.note(f"{event.state.scene}: {event.state.state}: {event.state.error or 'whole'}")
            self._tell(event.state)
        self._listener(event)

    def _tell(self, state: SceneState) -> None:
        """Tell the ledger what became of a scene; it does not count where another run has it by now."""
        identity = self._identities[state.scene]
        if state.error is None:
            told = "done" if self._whole(identity) else None
        else:
            told = self._ledger.failed(identity, open_text(state.error), self._log.text())
        if told is None:
            self.increment.lost.append(state.scene)
            _LOG.warning("%s: another run took it meanwhile, and its result counts", state.scene)
            return
        self.increment.scenes.append(state)
        if told == "quarantined":
            self.increment.quarantined.append(state.scene)

    def left(self, outcome: Outcome, names: set[str]) -> None:
        """Note that the scenes of a lot are done; where something could not be sent, the next run has them again."""
        if outcome.unpublished:
            self._ledger.release()
            self.increment.unsent.extend(outcome.unpublished)
            whole = (item.scene for item in outcome.report.scenes if item.error is None and item.scene in names)
            self._ledger.retry([self._identities[scene] for scene in whole if scene in self._identities])
        else:
            self._ledger.settle()

    def may_be_dead(self, names: list[str]) -> bool:
        """Tell whether one of the runs that hold these scenes has not been heard of since this was asked before."""
        before, self._leases = self._leases, {row.name: row.lease or 0.0 for name in names for row in self._held(name)}
        return not before or any(before.get(name) == lease for name, lease in self._leases.items())

    def _held(self, name: str) -> list[Row]:
        return [row for row in self._ledger.named(name) if row.state == "running"]

    def end(self) -> None:
        """Give back what was begun and not ended."""
        self._log.close()
        self._ledger.release()


@contextmanager
def _alive(ledger: Ledger, lease_seconds: float) -> Iterator[None]:
    """Say that this run is alive, from a thread, as long as it is."""
    over = Signal()

    def beat() -> None:
        while not over.wait(lease_seconds / _BEATS):
            try:
                ledger.beat()
            except Exception as error:  # the next one may be heard
                _LOG.warning("the ledger cannot be told that this run is alive: %s", error)

    thread = Thread(target=beat, name="segflow-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
