"""The ledger's tables, for SQLite and PostgreSQL alike.

How many scenes are in each state is kept by a trigger in a row of its own: counting a million rows takes a fifth of a
second.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import (
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
    bindparam,
    func,
    insert,
    inspect,
    select,
    text,
)

from segflow.errors import OutputError

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

NOT_DONE = SCENE.c.state != bindparam("done", "done", literal_execute=True)
"""As the index says it, word for word: by a parameter a database may not know that it serves."""

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

VERSION = 1
"""Of tables and triggers; 0 had a trigger a row in PostgreSQL, and no table that tells the version."""
MARK = Table("segflow_ledger", METADATA, Column("version", Integer, nullable=False))


def _moved(signs: dict[str, int]) -> str:
    """Return SQLite's statements that move one scene from its old state to its new one in the tally."""
    row = next(iter(signs))

    def change(state: str) -> str:
        return "".join(f" {'+' if sign > 0 else '-'} ({name}.state = '{state}')" for name, sign in signs.items())

    changes = ", ".join(f"{state} = {state}{change(state)}" for state in STATES)
    first = f"insert into segflow_tally (pipeline) values ({row}.pipeline) on conflict (pipeline) do nothing; "
    return f"{first}update segflow_tally set {changes} where pipeline = {row}.pipeline;"


def _counted(signs: dict[str, int]) -> str:
    """Return PostgreSQL's statement that brings all rows of a statement into the tally at once.

    Once a statement: a change of the same row for each of a hundred thousand scenes would take time by its square.
    """
    rows = " union all ".join(
        f"select pipeline, state, {sign} as sign from {name}_rows" for name, sign in signs.items()
    )
    sums = ", ".join(f"coalesce(sum(sign) filter (where state = '{state}'), 0) as {state}" for state in STATES)
    counts = f"select pipeline, {sums} from ({rows}) as moved group by pipeline"
    some = " or ".join(f"{state} <> 0" for state in STATES)
    adds = ", ".join(f"{state} = tally.{state} + excluded.{state}" for state in STATES)
    columns = ", ".join(STATES)
    return (
        f"insert into segflow_tally as tally (pipeline, {columns}) "
        f"select pipeline, {columns} from ({counts}) as counted where {some} "
        f"on conflict (pipeline) do update set {adds};"
    )


_MOVES = {"insert": {"new": 1}, "update": {"new": 1, "old": -1}, "delete": {"old": -1}}


def _triggers(dialect: str) -> Iterator[str]:
    """Yield the statements that make the triggers."""
    for verb, signs in _MOVES.items():
        if dialect == "sqlite":
            of = "of state " if verb == "update" else ""
            yield f"create trigger segflow_tally_{verb} after {verb} {of}on segflow_scene begin {_moved(signs)} end"
        else:
            yield (
                f"create or replace function segflow_tally_{verb}() returns trigger language plpgsql as "
                f"$$ begin {_counted(signs)} return null; end $$"
            )
            tables = " ".join(f"{name} table as {name}_rows" for name in signs)
            yield f"drop trigger if exists segflow_tally_{verb} on segflow_scene"
            yield (
                f"create trigger segflow_tally_{verb} after {verb} on segflow_scene referencing {tables} "
                f"for each statement execute function segflow_tally_{verb}()"
            )


def make_tables(engine: Engine) -> None:
    """Make the tables that are missing, or bring them up to date; processes that come at once wait for each other.

    Raises:
        OutputError: a later version of segflow made them.
    """
    if _version(engine) == VERSION:
        return
    with engine.begin() as db:
        if engine.dialect.name == "postgresql":
            db.execute(text("select pg_advisory_xact_lock(7372166)"))
        found = _version(db)
        if found == VERSION:
            return
        METADATA.create_all(db)
        if found is None or engine.dialect.name == "postgresql":
            for statement in _triggers(engine.dialect.name):
                db.exec_driver_sql(statement)
        db.execute(insert(MARK).values(version=VERSION))


def _version(place: Engine | Connection) -> int | None:
    """Return which version of the tables is there; None where there are none."""
    there = inspect(place)
    if not there.has_table(MARK.name):
        return 0 if there.has_table(RUN.name) else None
    asked = select(func.max(MARK.c.version))
    if isinstance(place, Connection):
        found: int = place.execute(asked).scalar_one()
    else:
        with place.connect().execution_options(segflow_reads=True) as db:
            found = db.execute(asked).scalar_one()
    if found > VERSION:
        raise OutputError(
            f"the ledger is of version {found}", f"version {VERSION}, or an earlier one", "install a newer segflow"
        )
    return found


def clock(db: Connection) -> float:
    """Return the seconds since 1970 by the one clock that all runs share."""
    if db.dialect.name == "sqlite":
        return float(db.execute(text("select (julianday('now') - 2440587.5) * 86400.0")).scalar_one())
    return float(db.execute(text("select extract(epoch from clock_timestamp())")).scalar_one())
