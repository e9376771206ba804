"""The first line of an error that another library raised."""

from __future__ import annotations

import pytest

from segflow.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("one\ntwo"), "one"),
        (RuntimeError("\n  one\ntwo"), "one"),
        (RuntimeError(), "RuntimeError"),
        (EOFError(" \n"), "EOFError"),
        (ValueError("x" * 1000), "x" * 300),
    ],
)
def test_an_error_is_told_in_one_short_line_even_if_it_says_nothing(error: Exception, said: str) -> None:
    assert first_line(error) == said
