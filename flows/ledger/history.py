"""Earlier runs, as the ledger remembers them."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Engine, insert, select

from flows.ledger.rows import RunRow
from flows.ledger.statements import reading
from flows.ledger.tables import RUN, clock


class History:
    """Runs of one recipe's name.

    Args:
        engine: the database, with its tables.
        pipeline: the recipe's name.
    """

    def __init__(self, engine: Engine, pipeline: str) -> None:
        self._engine = engine
        self._pipeline = pipeline

    def add(self, name: str, began: float, state: str, done: int, failed: int, facts: Any) -> None:
        """Remember a run that ends now.

        Args:
            name: of the run.
            began: when, by the ledger's clock.
            state: what it came to.
            done: how many scenes.
            failed: how many scenes.
            facts: what it has measured, as plain data; empty where nothing was.
        """
        with self._engine.begin() as db:
            row = {"name": name, "began": began, "ended": clock(db), "state": state, "done": done, "failed": failed}
            db.execute(insert(RUN).values(pipeline=self._pipeline, facts=json.dumps(facts), **row))

    def latest(self, limit: int = 10) -> list[RunRow]:
        """Return this many runs, the last first."""
        columns = [RUN.c[name] for name in RunRow.__slots__]
        asked = select(*columns).where(RUN.c.pipeline == self._pipeline).order_by(RUN.c.number.desc()).limit(limit)
        with reading(self._engine) as db:
            found = [dict(row) for row in db.execute(asked).mappings()]
        return [RunRow(**(row | {"facts": json.loads(row["facts"])})) for row in found]
