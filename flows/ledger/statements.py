"""Statements that the ledger's parts have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Connection, Engine, String, any_, exists, literal

from flows.ledger.tables import SCENE

_MANY = 500
"""Values that one statement finds rows by, at most."""


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Read without holding up those who write."""
    with engine.connect().execution_options(segflow_reads=True) as db:
        yield db


def insert_into(db: Connection, table: Any) -> Any:
    """Return the database's own INSERT, which knows what to do where a row is there already."""
    return import_module(f"sqlalchemy.dialects.{db.dialect.name}").insert(table)


def replaced(pipeline: str) -> ColumnElement[bool]:
    """Tell of a scene that is done whether another of its name was done after it."""
    other = SCENE.alias()
    same = other.c.name == SCENE.c.name
    later = [other.c.pipeline == pipeline, same, other.c.identity != SCENE.c.identity]
    return exists().where(*later, other.c.state == "done", other.c.changed > SCENE.c.changed)


def among(db: Connection, column: Any, values: list[str]) -> Iterator[ColumnElement[bool]]:
    """Yield conditions that together find rows by many values: one array where that goes, for one plan of it."""
    if db.dialect.name == "postgresql":
        yield column == any_(literal(values, ARRAY(String)))
    else:
        yield from (column.in_(some) for some in batched(values))


def batched(items: list[Any]) -> Iterator[list[Any]]:
    """Cut a list into parts that a statement can hold."""
    return (items[start : start + _MANY] for start in range(0, len(items), _MANY))
