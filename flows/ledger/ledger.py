"""The ledger's words: claim a scene, be heard of, tell what became of it; each an atomic step of its database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    case,
    delete,
    or_,
    select,
    update,
)

from flows.ledger.files import Files
from flows.ledger.history import History
from flows.ledger.holder import is_gone, this_process
from flows.ledger.rows import Row, State
from flows.ledger.statements import batched, insert_into, reading, replaced
from flows.ledger.tables import NOT_DONE, SCENE, SEEN, STATES, TALLY, clock
from segflow.recipe import Service

_LOST = "the run that had it ended without a word: it was killed, or the machine went down or out of memory"
_MADE = "whole; what is made of all scenes, or sent elsewhere, is not yet"


class Ledger:
    """Scenes of one recipe's name.

    A scene that is claimed is its owner's as long as the owner is heard of (`beat`) every `service.lease_seconds`, and
    on the same machine no longer than the owner's process lives.

    Attributes:
        files: what was seen of files.
        history: earlier runs.
        owner: of what is claimed here.

    Args:
        engine: the database, with its tables.
        pipeline: the recipe's name.
        service: how often and how long.
    """

    def __init__(self, engine: Engine, pipeline: str, service: Service) -> None:
        self.files = Files(engine, pipeline)
        self.history = History(engine, pipeline)
        self._engine = engine
        self._pipeline = pipeline
        self._service = service
        self.owner = uuid4().hex
        self._host = this_process()

    def claim(self, identity: str, name: str, recipe: str, weights: str, backfill: bool = False) -> bool:
        """Take a scene, if it is to be done and nobody has it: pending, failed before, lost by another, or not known.

        One that is done is to be done again where another content was done since under the name that it had: its
        outputs were replaced.

        Args:
            identity: of its content.
            name: of its outputs.
            recipe: fingerprint of what can change bits.
            weights: their sha256.
            backfill: also one that is done by another recipe or other weights.
        """
        with self._engine.begin() as db:
            now = clock(db)
            values = {"identity": identity, "name": name, "state": "pending", "recipe": recipe, "weights": weights}
            made = insert_into(db, SCENE).values(pipeline=self._pipeline, changed=now, **values)
            db.execute(made.on_conflict_do_nothing())
            self._lose(db, now, SCENE.c.identity == identity)
            again = and_(SCENE.c.state == "done", replaced(self._pipeline))
            free = or_(SCENE.c.state.in_(("pending", "failed")), again)
            if backfill:
                other = or_(SCENE.c.recipe != recipe, SCENE.c.weights != weights)
                free = or_(free, and_(SCENE.c.state == "done", other))
            taken = self._change(SCENE.c.identity == identity, free).values(
                **(values | {"state": "running"}),
                owner=self.owner,
                host=self._host,
                lease=now + self._service.lease_seconds,
                error=case((SCENE.c.error == _MADE, None), else_=SCENE.c.error),
                changed=now,
            )
            return bool(db.execute(taken).rowcount)

    def beat(self) -> int:
        """Say that this run is alive; return how many scenes it has."""
        with self._engine.begin() as db:
            lease = clock(db) + self._service.lease_seconds
            return db.execute(self._change(*self._mine()).values(lease=lease)).rowcount

    def done(self, identity: str) -> bool:
        """Note that a scene is done; False where another run has taken it meanwhile."""
        return self._end(identity, state="done", failures=0, losses=0, error=None, log=None) is not None

    def made(self, identity: str) -> bool:
        """Note that a scene is whole, and stays this run's until `settle`; False where another run has taken it.

        What is killed before that has lost nothing: the scene is free again, and that is no loss that counts.
        """
        with self._engine.begin() as db:
            made = self._change(SCENE.c.identity == identity, *self._mine())
            made = made.values(failures=0, losses=0, error=_MADE, log=None, changed=clock(db))
            return bool(db.execute(made).rowcount)

    def settle(self) -> int:
        """Note that all that this run has `made` is done; return how many scenes that are."""
        with self._engine.begin() as db:
            done = self._change(SCENE.c.error == _MADE, *self._mine())
            free = {"owner": None, "host": None, "lease": None, "error": None}
            return db.execute(done.values(state="done", changed=clock(db), **free)).rowcount

    def failed(self, identity: str, error: str, log: str = "") -> State | None:
        """Note that a scene failed; after `service.retries` times it is in quarantine. Return its state.

        None where another run has taken it meanwhile.
        """
        count = SCENE.c.failures + 1
        state = case((count >= self._service.retries, "quarantined"), else_="failed")
        return self._end(identity, state=state, failures=count, error=error, log=log)

    def release(self) -> int:
        """Give back what this run has and did not finish, as if it had not been tried."""
        with self._engine.begin() as db:
            free = self._change(*self._mine()).values(state="pending", owner=None, host=None, lease=None)
            return db.execute(free.values(changed=clock(db))).rowcount

    def retry(self, names: Sequence[str] | None) -> list[str]:
        """Let scenes be tried again that failed, are in quarantine or are done; return their names.

        Args:
            names: of scenes, or their identities; all that failed or are in quarantine when None.
        """
        if names is None:
            open_ones = (SCENE.c.pipeline == self._pipeline, SCENE.c.state.in_(("failed", "quarantined")), NOT_DONE)
            return sorted(self._again(open_ones))
        return sorted(name for which in self._at_rest(names) for name in self._again(which))

    def _again(self, which: Sequence[ColumnElement[bool]]) -> Sequence[str]:
        """Let scenes be tried again; one statement a transaction, since the tally is locked after the first."""
        with self._engine.begin() as db:
            again = update(SCENE).values(state="pending", failures=0, losses=0, error=None, log=None, changed=clock(db))
            return db.execute(again.where(*which).returning(SCENE.c.name)).scalars().all()

    def forget(self, names: Sequence[str]) -> list[str]:
        """Drop what is known of scenes, unless they run: those whose files are still there are new. Return their names.

        Args:
            names: of scenes, or their identities.
        """
        found: dict[str, str] = {}
        for which in self._at_rest(names):
            with self._engine.begin() as db:
                gone = delete(SCENE).where(*which).returning(SCENE.c.identity, SCENE.c.name)
                dropped: dict[str, str] = dict(tuple(row) for row in db.execute(gone))
                for some in batched(list(dropped)):
                    db.execute(delete(SEEN).where(SEEN.c.pipeline == self._pipeline, SEEN.c.identity.in_(some)))
            found |= dropped
        return sorted(found.values())

    def matching(self, pattern: str) -> list[str]:
        """Return the names of scenes that a pattern means, as in a shell; a name that there is means itself."""
        if self.named(pattern) or not set(pattern) & set("*?["):
            return [pattern]
        asked = select(SCENE.c.name).distinct().where(SCENE.c.pipeline == self._pipeline)
        with reading(self._engine) as db:
            return sorted(name for name in db.execute(asked).scalars() if fnmatchcase(name, pattern))

    def row(self, identity: str) -> Row | None:
        """Return what is known of a scene."""
        return next(self.rows(SCENE.c.identity == identity), None)

    def rows(self, *which: ColumnElement[bool]) -> Iterator[Row]:
        """Yield scenes, those that are not done when nothing is asked for, the latest change first."""
        which = which or (NOT_DONE,)
        columns = [SCENE.c[name] for name in Row.__slots__]
        asked = select(*columns).where(SCENE.c.pipeline == self._pipeline, *which).order_by(SCENE.c.changed.desc())
        with reading(self._engine) as db:
            yield from (Row(*found) for found in db.execute(asked).all())

    def named(self, name: str) -> list[Row]:
        """Return the scenes of a name, the latest first: of the same name, one for each content that it had."""
        return list(self.rows(SCENE.c.name == name))

    def log(self, identity: str) -> str:
        """Return the log of a scene's last attempt that failed."""
        asked = select(SCENE.c.log).where(SCENE.c.pipeline == self._pipeline, SCENE.c.identity == identity)
        with reading(self._engine) as db:
            return db.execute(asked).scalar() or ""

    def tally(self) -> dict[str, int]:
        """Return how many scenes are in each state."""
        asked = select(*(TALLY.c[state] for state in STATES)).where(TALLY.c.pipeline == self._pipeline)
        with reading(self._engine) as db:
            found = db.execute(asked).first()
        return dict(zip(STATES, found or (0,) * len(STATES), strict=True))

    def now(self) -> float:
        """Return the time by the ledger's clock."""
        with reading(self._engine) as db:
            return clock(db)

    def _at_rest(self, names: Sequence[str]) -> Iterator[tuple[ColumnElement[bool], ...]]:
        """Yield conditions that mean scenes by name or identity, unless they run."""
        for some in batched(list(names)):
            named = or_(SCENE.c.name.in_(some), SCENE.c.identity.in_(some))
            yield SCENE.c.pipeline == self._pipeline, SCENE.c.state != "running", named

    def _mine(self) -> tuple[ColumnElement[bool], ...]:
        return NOT_DONE, SCENE.c.state == "running", SCENE.c.owner == self.owner

    def _change(self, *which: ColumnElement[bool]) -> Any:
        return update(SCENE).where(SCENE.c.pipeline == self._pipeline, *which)

    def _end(self, identity: str, **values: Any) -> State | None:
        with self._engine.begin() as db:
            ended = self._change(SCENE.c.identity == identity, *self._mine())
            ended = ended.values(owner=None, host=None, lease=None, changed=clock(db), **values)
            state: State | None = db.execute(ended.returning(SCENE.c.state)).scalar()
            return state

    def _lose(self, db: Connection, now: float, which: ColumnElement[bool]) -> None:
        """Take a scene from a run that is not alive any more."""
        held = select(SCENE.c.owner, SCENE.c.host, SCENE.c.lease, SCENE.c.error)
        found = db.execute(held.where(SCENE.c.pipeline == self._pipeline, which, SCENE.c.state == "running")).first()
        if found is None or not (found.lease <= now or is_gone(found.host)):
            return
        whole = found.error == _MADE
        count = SCENE.c.losses + (0 if whole else 1)
        lost = self._change(
            which, SCENE.c.state == "running", SCENE.c.owner == found.owner, SCENE.c.lease == found.lease
        )
        db.execute(
            lost.values(
                state=case((count >= self._service.losses, "quarantined"), else_="pending"),
                losses=count,
                error=None if whole else _LOST,
                owner=None,
                host=None,
                lease=None,
                changed=now,
            )
        )
