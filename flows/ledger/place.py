"""Where a recipe's ledger is, and how it is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from flows.ledger.ledger import Ledger
from flows.ledger.tables import make_tables
from segflow.errors import OutputError, RecipeError, first_line
from segflow.recipe import Recipe

_BUSY_SECONDS = 60.0


def place_of(recipe: Recipe) -> URL | Path:
    """Return the ledger's URL, or its file.

    Raises:
        RecipeError: runs on several machines could not tell their recipes apart.
    """
    said = recipe.service.ledger
    if said is None:
        return recipe.folder / "ledger.sqlite"
    if "://" not in said:
        return recipe.resolve(said)
    if "name" not in recipe.model_fields_set:
        raise RecipeError(
            "the recipe has no name, and shares a ledger with others",
            "name: a word that no other recipe of that ledger has",
            "add name to the recipe",
        )
    return make_url(said).set(drivername="postgresql+psycopg")


@contextmanager
def open_ledger(recipe: Recipe, make: bool = True) -> Iterator[Ledger]:
    """Open a recipe's ledger, made if it is missing.

    Args:
        recipe: says where it is.
        make: make its file where there is none; else one in memory stands for it, and is gone afterwards.

    Raises:
        OutputError: it cannot be reached or written; also later, whenever it cannot.
        RecipeError: as `place_of`.
    """
    place = place_of(recipe)
    with _told(place):
        engine = _engine(place) if make or isinstance(place, URL) or place.exists() else _in_memory()
        try:
            make_tables(engine)
            yield Ledger(engine, recipe.name, recipe.service)
        finally:
            engine.dispose()


def _engine(place: URL | Path) -> Engine:
    if isinstance(place, URL):
        return create_engine(place, pool_pre_ping=True, pool_size=2)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {place.parent}: {error.strerror}",
            "a folder that can be written, for the ledger",
            "choose another service.ledger or outputs.folder, or mend its permissions",
        ) from error
    engine = create_engine(f"sqlite:///{place}", connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None})
    event.listen(engine, "connect", _durable)
    event.listen(engine, "begin", _begin)
    return engine


def _in_memory() -> Engine:
    return create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


def _durable(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")


def _begin(db: Connection) -> None:
    """Take the right to write at once where that is meant: taken later, it may be refused."""
    db.exec_driver_sql("begin" if db.get_execution_options().get("segflow_reads") else "begin immediate")


@contextmanager
def _told(place: URL | Path) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        where = place.render_as_string(hide_password=True) if isinstance(place, URL) else str(place)
        raise OutputError(
            f"the ledger {where} cannot be used: {first_line(error.orig or error)}",
            "a database that can be reached and written",
            "check service.ledger and its disk; the same command goes on from here",
        ) from error
