"""Pieces that meet are one whole, as scipy's disjoint sets have it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import DisjointSet

from segflow.union import united

COUNT = 9
pieces = st.integers(0, COUNT - 1)


@given(st.lists(st.tuples(pieces, pieces), max_size=20))
def test_pieces_have_one_number_exactly_where_a_way_of_pairs_leads_from_one_to_the_other(
    pairs: list[tuple[int, int]],
) -> None:
    sets = DisjointSet(range(COUNT))
    for one, other in pairs:
        sets.merge(one, other)
    expected = sorted(map(sorted, sets.subsets()))
    found = united(np.array(pairs, np.int64).reshape(-1, 2), COUNT)
    assert [np.flatnonzero(found == number).tolist() for number in range(found.max() + 1)] == expected


def test_a_pair_that_is_told_often_is_still_a_pair() -> None:
    assert united(np.array([[0, 2]] * 512), 3).tolist() == [0, 1, 0]


def test_of_no_pieces_there_is_no_whole() -> None:
    assert united(np.empty((0, 2), np.int64), 0).tolist() == []
