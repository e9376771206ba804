"""Codes of a pair: the cells that confusion counts score, and no other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segflow.metrics import count_confusion
from segflow.metrics.windows import pair_of
from tiling import Box

IDS, IGNORE, MAPPING = (1, 2, 5), (0,), {7: 2, 8: 0}


@given(st.integers(0, 1 << 20))
def test_a_pair_scores_the_cells_that_are_counted(seed: int) -> None:
    random = np.random.default_rng(seed)
    prediction = random.choice(np.array([0, 1, 2, 5, 255], np.uint8), (13, 11))
    reference = random.choice(np.array([0, 1, 2, 5, 7, 8, np.nan], np.float32), (13, 11))
    valid, scored = random.random((2, 13, 11)) < 0.8
    pair = pair_of(
        (13, 11),
        lambda box: (prediction[box.slices], valid[box.slices]),
        lambda box: (reference[box.slices], scored[box.slices]),
        IDS,
        ignore=IGNORE,
        mapping=MAPPING,
    )
    ours, theirs = pair.read(Box((2, 1), (12, 11)))
    part = np.s_[2:12, 1:11]
    counts = count_confusion(
        reference[part],
        prediction[part],
        IDS,
        ignore=IGNORE,
        mapping=MAPPING,
        valid=valid[part],
        scored=scored[part],
    )
    table = np.zeros((4, 4), int)
    np.add.at(table, (theirs.ravel(), ours.ravel()), 1)
    assert np.array_equal(table[:3, :3], counts.matrix)
    assert table[3, 3] == counts.excluded
    assert table.sum() == ours.size
