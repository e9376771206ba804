"""Sizes as people write them, and how much a run may take."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segflow.memory import allowance, bytes_of, shown
from segflow.recipe import Compute

GIB = 1 << 30


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("8 GiB", 8 * 1024**3),
        ("8GB", 8 * 1000**3),
        ("1.5 KiB", 1536),
        ("0.5 MB", 500_000),
        ("2 TiB", 2 * 1024**4),
    ],
)
def test_a_size_has_the_bytes_that_its_unit_says(size: str, count: int) -> None:
    assert bytes_of(size) == count


@pytest.mark.parametrize("size", ["8", "8 gib", "-1 GiB", "GiB", "8 GiB more", "8 B", ""])
def test_what_is_no_size_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        bytes_of(size)


@given(st.from_regex(r"\A\d{1,6}(\.\d{1,3})? ?[KMGT]i?B\Z"))
def test_every_size_that_a_recipe_takes_has_bytes(size: str) -> None:
    assert Compute(memory=size).memory == size
    assert bytes_of(size) >= 0


@given(st.integers(1024, 1 << 45))
def test_what_is_shown_reads_back_within_its_last_digit(count: int) -> None:
    text = shown(count)
    unit = bytes_of("1 " + text.split()[1])
    assert abs(bytes_of(text) - count) <= 0.05 * unit + 1


def test_few_bytes_are_shown_as_they_are() -> None:
    assert [shown(n) for n in (0, 1023, 1024)] == ["0 B", "1023 B", "1.0 KiB"]


def test_what_the_user_says_is_what_a_run_may_use() -> None:
    assert allowance("2 GiB", held_bytes=5 * GIB) == 2 * GIB


def test_without_a_word_four_fifths_of_what_the_container_leaves_come_on_top_of_what_is_held(tmp_path: Path) -> None:
    room = 1 << 20  # far below what any machine has free
    (tmp_path / "memory.max").write_text(f"{GIB + room}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    assert allowance(None, held_bytes=1000, cgroup=tmp_path) == 1000 + int(0.8 * room)


def test_without_a_container_a_run_gets_no_more_than_the_machine_has(tmp_path: Path) -> None:
    found = allowance(None, held_bytes=0, cgroup=tmp_path)
    assert 0 < found < psutil.virtual_memory().total
