"""The journal of finished chunks: what a resume goes by, and what the report is summed from."""

from __future__ import annotations

import json
import logging
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from segflow.errors import OutputError
from segflow.metrics import Counts

_LOG = logging.getLogger(__name__)
_TABLES = """
create table if not exists meta (key text primary key, value text not null);
create table if not exists chunk (
    block text not null, number integer not null, record text not null, primary key (block, number));
"""


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A chunk that is stored.

    Attributes:
        block: the block's coordinates.
        number: the chunk's number in the block.
        checksum: of the stored bytes.
        counts: its cells by class, and against the reference.
        forwards: patches that were run for it.
        forwards_minimum: those of them that count once over all blocks.
        seconds: busy time by stage.
        peak_rss_bytes: largest resident memory of the worker so far.
    """

    block: tuple[int, ...]
    number: int
    checksum: int
    counts: Counts
    forwards: int
    forwards_minimum: int
    seconds: dict[str, float]
    peak_rss_bytes: int

    def to_text(self) -> str:
        """Return the record as one line that ends with its own checksum."""
        line = json.dumps({name: getattr(self, name) for name in self.__slots__} | {"counts": self.counts.to_json()})
        return f"{line} {zlib.crc32(line.encode())}"

    @staticmethod
    def from_text(text: str) -> ChunkRecord:
        """Return the record that `to_text` wrote.

        Raises:
            ValueError: the line is not as it was written.
        """
        line, _, check = text.rpartition(" ")
        if check != str(zlib.crc32(line.encode())):
            raise ValueError("the record's checksum differs")
        data = json.loads(line)
        return ChunkRecord(**{**data, "block": tuple(data["block"]), "counts": Counts.from_json(data["counts"])})


@dataclass(frozen=True, slots=True)
class Totals:
    """The sum over all chunks."""

    counts: Counts
    forwards: int
    forwards_minimum: int
    seconds: dict[str, float]
    peak_rss_bytes: int

    def with_seconds(self, **spent: float) -> Totals:
        """Return the same with what other stages took."""
        return replace(self, seconds={**self.seconds, **spent})


class Journal:
    """One SQLite file a scene, written by the driver alone. A row is on the disk when `record` returns.

    A file that is damaged, or no journal, is removed and made anew: the chunks' notes tell what is stored.

    Args:
        path: the file; made if it is missing.
        key: what the chunks belong to. A journal of another key is emptied: results never mix.

    Raises:
        OutputError: the disk is full or cannot be written. All methods raise it.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        try:
            self.fresh = self._opened(key)
        except _BrokenJournalError as error:
            _LOG.warning("%s; it is made anew", error.found)
            for end in ("", "-wal", "-shm"):
                path.with_name(path.name + end).unlink(missing_ok=True)
            self.fresh = self._opened(key)

    def _opened(self, key: str) -> bool:
        with self._told():
            self._db = sqlite3.connect(self._path)
        try:
            return self._prepare(key)
        except OutputError:
            self._db.close()
            raise

    def _prepare(self, key: str) -> bool:
        """Make the tables; empty them and return True where they belong to another key."""
        with self._told():
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            if self._db.execute("pragma quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("its pages are spoilt")
            self._db.executescript(_TABLES)
            self._db.execute("select block, number, record from chunk limit 1")
            row = self._db.execute("select value from meta where key = 'key'").fetchone()
            if row is not None and row[0] == key:
                return False
            with self._db:
                self._db.execute("delete from chunk")
                self._db.execute("insert or replace into meta values ('key', ?)", (key,))
            return True

    def record(self, chunk: ChunkRecord) -> None:
        """Note a chunk that has been stored."""
        row = (json.dumps(chunk.block), chunk.number, chunk.to_text())
        with self._told(), self._db:
            self._db.execute("insert or replace into chunk values (?, ?, ?)", row)

    def forget(self, block: tuple[int, ...], number: int) -> None:
        """Drop a chunk whose bytes are not there any more."""
        with self._told(), self._db:
            self._db.execute("delete from chunk where block = ? and number = ?", (json.dumps(block), number))

    def chunks(self) -> Iterator[ChunkRecord]:
        """Yield all chunks, by block and number; a row that is not as it was written is none."""
        with self._told(), closing(self._db.cursor()) as cursor:
            for block, number, text in cursor.execute("select * from chunk order by block, number"):
                try:
                    record = ChunkRecord.from_text(text)
                except ValueError:
                    continue
                if (json.dumps(record.block), record.number) == (block, number):
                    yield record

    def totals(self, ids: tuple[int, ...], referenced: bool) -> Totals:
        """Sum all chunks."""
        counts = Counts.zero(ids, referenced=referenced)
        seconds: Counter[str] = Counter()
        forwards = minimum = peak = 0
        for chunk in self.chunks():
            counts += chunk.counts
            seconds.update(chunk.seconds)
            forwards += chunk.forwards
            minimum += chunk.forwards_minimum
            peak = max(peak, chunk.peak_rss_bytes)
        return Totals(counts, forwards, minimum, dict(seconds), peak)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell a disk that cannot be written, which can be mended, from a file that is broken."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            # SQLITE_ERROR is operational by name, but says that the tables are not ours.
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise OutputError(
                    f"the journal {self._path} cannot be written: {error}",
                    "a folder with room and the right to write",
                    "free some space; the same command goes on from here",
                ) from error
            raise _BrokenJournalError(
                f"the journal {self._path} cannot be used: {error}",
                "the SQLite file that segflow wrote",
                "check the disk; the same command goes on from here",
            ) from error


class _BrokenJournalError(OutputError):
    """The file is damaged, or no journal."""


def has_chunks(path: Path) -> bool:
    """Tell whether a journal is there and knows of a finished chunk: whether there is something to resume.

    A damaged one may: what is staged is then checked against its notes, so it is not thrown away.
    """
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(path)) as db:
            return db.execute("select 1 from chunk limit 1").fetchone() is not None
    except sqlite3.OperationalError:  # no table yet
        return False
    except sqlite3.DatabaseError:
        return True
