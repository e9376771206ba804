"""The journal's laws: what is recorded is read back, keys never mix, a full disk is told from a broken file."""

from __future__ import annotations

import resource
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.journal import ChunkRecord, Journal, Totals, has_chunks
from segflow.errors import OutputError
from segflow.metrics import Counts

IDS = (0, 3, 7)
LAWS = settings(max_examples=40, deadline=None)
numbers = st.integers(0, 2**40)


@st.composite
def records(draw: st.DrawFn, referenced: bool = True) -> ChunkRecord:
    """Draw chunks with counts over three classes; times are quarters, so that sums do not depend on the order."""
    matrix = np.array(draw(st.lists(numbers, min_size=9, max_size=9)), np.int64).reshape(3, 3)
    predicted = np.array(draw(st.lists(numbers, min_size=3, max_size=3)), np.int64)
    return ChunkRecord(
        block=tuple(draw(st.lists(st.integers(0, 12), min_size=2, max_size=3))),
        number=draw(st.integers(0, 20)),
        checksum=draw(st.integers(0, 2**32 - 1)),
        counts=Counts(IDS, matrix if referenced else None, draw(numbers), predicted),
        forwards=draw(st.integers(0, 10**6)),
        forwards_minimum=draw(st.integers(0, 10**6)),
        seconds=draw(
            st.dictionaries(st.sampled_from(("read", "network", "seal")), st.integers(0, 4000).map(lambda n: n / 4))
        ),
        peak_rss_bytes=draw(numbers),
    )


def many(referenced: bool = True) -> st.SearchStrategy[list[ChunkRecord]]:
    """Chunks of different places."""
    return st.lists(records(referenced), max_size=6, unique_by=lambda chunk: (chunk.block, chunk.number))


def one(number: int = 0) -> ChunkRecord:
    counts = Counts(IDS, None, 0, np.arange(3, dtype=np.int64))
    return ChunkRecord((0, 0), number, 5, counts, 2, 1, {"read": 0.5}, 9)


def fill(journal: Journal) -> None:
    """Record chunk after chunk until the disk is full."""
    for number in count():
        journal.record(one(number))


@contextmanager
def journal_with(chunks: list[ChunkRecord]) -> Iterator[tuple[Path, Journal]]:
    """A new journal that holds these chunks; closed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        with closing(Journal(path, "key")) as journal:
            for chunk in chunks:
                journal.record(chunk)
            yield path, journal


@given(many())
@LAWS
def test_what_is_recorded_is_read_back_equal_also_by_the_next_run(chunks: list[ChunkRecord]) -> None:
    wanted = {(chunk.block, chunk.number): chunk for chunk in chunks}
    with journal_with(chunks) as (path, journal):
        assert journal.fresh
        assert {(chunk.block, chunk.number): chunk for chunk in journal.chunks()} == wanted
        journal.close()
        with closing(Journal(path, "key")) as again:
            assert not again.fresh
            assert {(chunk.block, chunk.number): chunk for chunk in again.chunks()} == wanted


@given(records(), records())
@LAWS
def test_a_chunk_that_is_done_again_counts_once(first: ChunkRecord, second: ChunkRecord) -> None:
    second = replace(second, block=first.block, number=first.number)
    with journal_with([first, second]) as (_, journal):
        assert list(journal.chunks()) == [second]


@given(many().filter(len), st.data())
@LAWS
def test_a_forgotten_chunk_is_gone_and_no_other(chunks: list[ChunkRecord], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(chunks))
    with journal_with(chunks) as (_, journal):
        journal.forget(gone.block, gone.number)
        journal.forget((99, 99), 99)  # was never there
        left = list(journal.chunks())
        assert len(left) == len(chunks) - 1
        assert all(chunk in left for chunk in chunks if chunk is not gone)


@given(many().filter(len))
@LAWS
def test_another_key_empties_the_journal(chunks: list[ChunkRecord]) -> None:
    with journal_with(chunks) as (path, journal):
        journal.close()
        with closing(Journal(path, "other")) as other:
            assert other.fresh
            assert list(other.chunks()) == []
        with closing(Journal(path, "key")) as back:
            assert back.fresh
            assert list(back.chunks()) == []


@given(st.booleans().flatmap(lambda referenced: st.tuples(st.just(referenced), many(referenced))))
@LAWS
def test_totals_are_the_sum_over_all_chunks(drawn: tuple[bool, list[ChunkRecord]]) -> None:
    referenced, chunks = drawn
    names = {name for chunk in chunks for name in chunk.seconds}
    matrix = sum((chunk.counts.matrix for chunk in chunks if chunk.counts.matrix is not None), np.zeros((3, 3), int))
    wanted = Totals(
        Counts(
            IDS,
            matrix if referenced else None,
            sum(chunk.counts.excluded for chunk in chunks),
            sum((chunk.counts.predicted for chunk in chunks), np.zeros(3, int)),
        ),
        sum(chunk.forwards for chunk in chunks),
        sum(chunk.forwards_minimum for chunk in chunks),
        {name: sum(chunk.seconds.get(name, 0.0) for chunk in chunks) for name in names},
        max((chunk.peak_rss_bytes for chunk in chunks), default=0),
    )
    with journal_with(chunks) as (_, journal):
        assert journal.totals(IDS, referenced) == wanted


def test_there_is_something_to_resume_only_where_a_chunk_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    assert not has_chunks(path)
    with closing(Journal(path, "key")) as journal:
        assert not has_chunks(path)
        journal.record(one())
        assert has_chunks(path)
        journal.forget((0, 0), 0)
        assert not has_chunks(path)
    (tmp_path / "other").write_text("no journal at all")
    assert has_chunks(tmp_path / "other"), "what is staged beside a damaged one is not thrown away"
    (tmp_path / "empty").touch()
    assert not has_chunks(tmp_path / "empty")
    assert not has_chunks(tmp_path)


def spoilt(path: Path, how: str) -> None:
    """Make a file at `path` that no journal can be read from."""
    with closing(Journal(path, "key")) as journal:
        for number in range(200):
            journal.record(one(number))
    data = path.read_bytes()
    assert len(data) > 5 * 4096
    if how == "tables of another program":
        path.unlink()
        with closing(sqlite3.connect(path)) as db:
            db.execute("create table meta (something integer)")
        return
    data = {
        "garbage": b"this is no SQLite file, and longer than a header of one hundred bytes" * 4,
        "empty": b"",
        "cut short": data[: len(data) // 2],
        "spoilt pages": data[: 3 * 4096] + b"\x5a" * (len(data) - 3 * 4096),
    }[how]
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["garbage", "empty", "cut short", "spoilt pages", "tables of another program"])
def test_a_journal_that_cannot_be_read_is_made_anew_and_works(tmp_path: Path, how: str) -> None:
    path = tmp_path / "journal.sqlite"
    spoilt(path, how)
    with closing(Journal(path, "key")) as journal:
        assert journal.fresh
        assert list(journal.chunks()) == []
        journal.record(one(7))
    with closing(Journal(path, "key")) as again:
        assert not again.fresh
        assert list(again.chunks()) == [one(7)]


@pytest.mark.parametrize("column", ["record", "number", "block"])
def test_a_row_that_is_not_as_it_was_written_counts_as_none(tmp_path: Path, column: str) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path, "key")) as journal:
        for number in range(3):
            journal.record(one(number))
    changed = {"record": "replace(record, '9', '8')", "number": "77", "block": "'[5, 5]'"}[column]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"update chunk set {column} = {changed} where number = 1")
    with closing(Journal(path, "key")) as journal:
        assert [chunk.number for chunk in journal.chunks()] == [0, 2]
        assert journal.totals(IDS, False).forwards == one(0).forwards + one(2).forwards


@given(records(), st.data())
@LAWS
def test_a_record_as_text_is_read_back_equal_and_with_one_letter_changed_it_is_refused(
    chunk: ChunkRecord, data: st.DataObject
) -> None:
    text = chunk.to_text()
    assert ChunkRecord.from_text(text) == chunk
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda letter: letter != text[at]))
    with pytest.raises(ValueError, match="checksum"):
        ChunkRecord.from_text(text[:at] + other + text[at + 1 :])


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "nowhere" / "journal.sqlite", "key")


def test_a_disk_that_fills_up_keeps_what_was_recorded_and_the_same_journal_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Journal(path, "key")) as journal:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, before[1]))  # writes beyond fail, as on a full disk
        try:
            with pytest.raises(OutputError, match="cannot be written") as caught:
                fill(journal)
            with pytest.raises(OutputError, match="cannot be written"):
                journal.forget((0, 0), 0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.remedy == "free some space; the same command goes on from here"
        stored = [chunk.number for chunk in journal.chunks()]
        assert stored == list(range(len(stored)))
        assert len(stored) > 10
        journal.record(one(len(stored)))
    with closing(Journal(path, "key")) as again:
        assert [chunk.number for chunk in again.chunks()] == [*stored, len(stored)]
