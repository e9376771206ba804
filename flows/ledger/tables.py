"""The ledger's tables, for SQLite and PostgreSQL alike.

How many scenes are in each state is kept by a trigger in a row of its own: counting a million rows takes a fifth of a
second.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    event,
    inspect,
    text,
)

METADATA = MetaData()
STATES = ("pending", "running", "failed", "quarantined", "done")

SCENE = Table(
    "segflow_scene",
    METADATA,
    Column("pipeline", String, primary_key=True, comment="the recipe's name"),
    Column("identity", String, primary_key=True, comment="of the scene's content"),
    Column("name", String, nullable=False, comment="that its outputs begin with"),
    Column("state", String, nullable=False),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("losses", Integer, nullable=False, server_default=text("0"), comment="runs that ended without a word"),
    Column("owner", String, comment="the run that has it"),
    Column("host", String, comment="where that run is"),
    Column("lease", Float, comment="until when, in seconds since 1970 by the ledger's clock"),
    Column("recipe", String, nullable=False, comment="fingerprint of what can change bits"),
    Column("weights", String, nullable=False, comment="sha256"),
    Column("changed", Float, nullable=False),
    Column("error", Text),
    Column("log", Text, comment="of the attempt that failed"),
)
Index("segflow_scene_name", SCENE.c.pipeline, SCENE.c.name)
Index(
    "segflow_scene_open",
    SCENE.c.pipeline,
    SCENE.c.state,
    sqlite_where=SCENE.c.state != "done",
    postgresql_where=SCENE.c.state != "done",
)

TALLY = Table(
    "segflow_tally",
    METADATA,
    Column("pipeline", String, primary_key=True),
    *(Column(state, BigInteger, nullable=False, server_default=text("0")) for state in STATES),
)

SEEN = Table(
    "segflow_seen",
    METADATA,
    Column("pipeline", String, primary_key=True),
    Column("key", String, primary_key=True, comment="the scene's files"),
    Column("stamps", Text, nullable=False, comment="size, time and inode of each file, as JSON"),
    Column("since", Float, nullable=False, comment="when they were first seen so"),
    Column("identity", String, comment="of their content, once it was looked at"),
)

RUN = Table(
    "segflow_run",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("pipeline", String, nullable=False),
    Column("name", String, nullable=False),
    Column("began", Float, nullable=False),
    Column("ended", Float, nullable=False),
    Column("state", String, nullable=False),
    Column("done", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("facts", Text, nullable=False, comment="scores and areas by class, as JSON"),
)
Index("segflow_run_pipeline", RUN.c.pipeline, RUN.c.number)

_IS = {"sqlite": "({row}.state = '{state}')", "postgresql": "({row}.state = '{state}')::int"}


def _tallied(dialect: str, signs: dict[str, int]) -> str:
    """Return the statement that moves one scene from its old state to its new one in the tally."""
    row = next(iter(signs))

    def change(state: str) -> str:
        is_so = (_IS[dialect].format(row=name, state=state) for name in signs)
        return "".join(f" {'+' if sign > 0 else '-'} {term}" for sign, term in zip(signs.values(), is_so, strict=True))

    changes = ", ".join(f"{state} = {state}{change(state)}" for state in STATES)
    first = f"insert into segflow_tally (pipeline) values ({row}.pipeline) on conflict (pipeline) do nothing; "
    return f"{first}update segflow_tally set {changes} where pipeline = {row}.pipeline;"


_MOVES = {"insert": {"new": 1}, "update": {"new": 1, "old": -1}, "delete": {"old": -1}}
_DDL: Any = DDL  # SQLAlchemy gives it no types
for _verb, _signs in _MOVES.items():
    _of = "of state " if _verb == "update" else ""
    event.listen(
        SCENE,
        "after_create",
        _DDL(
            f"create trigger segflow_tally_{_verb} after {_verb} {_of}on segflow_scene begin "
            f"{_tallied('sqlite', _signs)} end"
        ).execute_if(dialect="sqlite"),
    )
    event.listen(
        SCENE,
        "after_create",
        _DDL(
            f"create function segflow_tally_{_verb}() returns trigger language plpgsql as $$ begin "
            f"{_tallied('postgresql', _signs)} return null; end $$; "
            f"create trigger segflow_tally_{_verb} after {_verb} {_of}on segflow_scene for each row "
            f"execute function segflow_tally_{_verb}()"
        ).execute_if(dialect="postgresql"),
    )


def make_tables(engine: Engine) -> None:
    """Make the tables that are missing; processes that come at once wait for each other."""
    if inspect(engine).has_table(RUN.name):
        return
    with engine.begin() as db:
        if engine.dialect.name == "postgresql":
            db.execute(text("select pg_advisory_xact_lock(7372166)"))
        METADATA.create_all(db)


def clock(db: Connection) -> float:
    """Return the seconds since 1970 by the one clock that all runs share."""
    if db.dialect.name == "sqlite":
        return float(db.execute(text("select (julianday('now') - 2440587.5) * 86400.0")).scalar_one())
    return float(db.execute(text("select extract(epoch from clock_timestamp())")).scalar_one())
