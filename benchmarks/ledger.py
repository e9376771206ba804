"""How long a ledger of a million scenes takes to answer, in SQLite and in a PostgreSQL that is started for it.

    python -m benchmarks.ledger [--scenes 1000000] [--only sqlite,postgresql]

Wall time of each question, median and range of five; and of a look at what is known of 10,000 files, as runs take it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

from sqlalchemy import text

from benchmarks.turns import spread
from flows.ledger import Ledger, open_ledger
from flows.ledger.tables import SCENE, SEEN
from tests.flows.ledgers import postgres, recipe_with

FILES = 10_000
_IDENTITY = {"sqlite": "printf('%064x', i)", "postgresql": "lpad(to_hex(i), 64, '0')"}
_EVERY = 10_000
"""Of so many scenes one has failed."""


def fill(ledger: Ledger, pipeline: str, scenes: int) -> None:
    """Put scenes into a ledger, nearly all of them done, and make the first ten thousand known by their files."""
    columns = "pipeline, identity, name, state, recipe, weights, changed"
    state = f"case when i % {_EVERY} = 0 then 'failed' else 'done' end"
    with ledger._engine.begin() as db:
        identity = _IDENTITY[db.dialect.name]
        fresh = (
            f"with recursive n(i) as (select 0 union all select i + 1 from n where i < {scenes - 1}) "
            f"insert into {SCENE.name} ({columns}) "
            f"select '{pipeline}', {identity}, 's' || i, {state}, 'r', 'w', 0.0 from n"
        )
        db.execute(text(fresh))
        seen = "(pipeline, key, stamps, since, identity)"
        known = (
            f"insert into {SEEN.name} {seen} select pipeline, '/in/' || name || '.tif', '[]', 0.0, identity "
            f"from {SCENE.name} where changed = 0.0 order by identity limit {FILES}"
        )
        db.execute(text(known))


def questions(ledger: Ledger) -> dict[str, Callable[[], Any]]:
    """Return what runs and people ask a ledger."""
    new = count()

    def claimed_and_done() -> None:
        identity = f"new-{next(new)}"
        if not (ledger.claim(identity, identity, "r", "w") and ledger.done(identity)):
            raise RuntimeError(f"{identity} is new, and cannot be claimed and done")

    return {
        "how many in each state": ledger.tally,
        "which are not done": lambda: list(ledger.rows()),
        "one scene": lambda: ledger.row(f"{5:064x}"),
        "one name": lambda: ledger.named("s77"),
        "claim and done": claimed_and_done,
        "say that a run is alive": ledger.beat,
        "the last runs": ledger.runs,
    }


def seconds(ask: Callable[[], Any], times: int = 5) -> list[float]:
    """Return how long a question took, each time."""
    spent = []
    for _ in range(times):
        began = perf_counter()
        ask()
        spent.append(perf_counter() - began)
    return spent


@contextmanager
def ledger_in(where: str, folder: Path) -> Iterator[Ledger]:
    """Open an empty ledger there."""
    if where == "sqlite":
        with open_ledger(recipe_with(None, folder)) as ledger:
            yield ledger
    else:
        with postgres() as url, open_ledger(recipe_with(url, folder)) as ledger:
            yield ledger


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1_000_000)
    parser.add_argument("--only", default="sqlite,postgresql", help="which databases, with commas")
    asked = parser.parse_args()
    sys.stdout.write("| ledger | question | ms, wall |\n|---|---|---|\n")
    for where in asked.only.split(","):
        with tempfile.TemporaryDirectory(prefix="segflow-ledger-") as folder, ledger_in(where, Path(folder)) as ledger:
            fill(ledger, "nights", asked.scenes)
            for what, ask in questions(ledger).items():
                row(where, what, seconds(ask))
            keys = [f"/in/s{n}.tif" for n in range(FILES)]
            row(where, f"what is known of {FILES:,} files", seconds(lambda: ledger.files.sightings(keys)))  # noqa: B023
            row(where, "let all that failed be tried again", seconds(lambda: ledger.retry(None), 1))


def row(where: str, what: str, spent: list[float]) -> None:
    """Tell a row of the table."""
    sys.stdout.write(f"| {where} | {what} | {spread((1000 * one for one in spent), 1)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
