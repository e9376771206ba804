"""Intervals over scenes: scipy's bootstrap, and what one scene can not tell."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from segflow.metrics import Counts, scores
from segflow.metrics.bootstrap import bootstrap
from segflow.models.card import LabelClass

IDS = (1, 2, 3)


def matrices(scenes: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 40, (3, 3)) + np.diag(random.integers(20, 400, 3)) for _ in range(scenes)]


def test_intervals_are_scipy_s_within_the_noise_of_resampling() -> None:
    found = bootstrap(matrices(20), IDS, 4000)
    right = np.array([m.trace() for m in matrices(20)])
    total = np.array([m.sum() for m in matrices(20)])

    def accuracy(r: np.ndarray, t: np.ndarray, axis: int = -1) -> np.ndarray:
        return r.sum(axis=axis) / t.sum(axis=axis)

    theirs = scipy_bootstrap(
        (right, total), accuracy, paired=True, n_resamples=4000, method="percentile", random_state=1
    ).confidence_interval
    ours = found.overall["pixel_accuracy"]
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_values_are_the_pooled_scores() -> None:
    parts = matrices(5)
    total = sum(parts)
    classes = [LabelClass(id=i, name=str(i), colour="#000000") for i in IDS]
    pooled = scores(Counts(IDS, np.asarray(total), 0, np.asarray(total).sum(axis=0)), classes)
    found = bootstrap(parts, IDS, 50)
    assert pooled["overall"] is not None
    for key, interval in found.overall.items():
        assert interval.value == pytest.approx(pooled["overall"][key])  # type: ignore[literal-required]
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= interval.high
    for item, row in zip(found.classes, pooled["classes"], strict=True):
        assert (item.iou.value, item.dice.value) == pytest.approx((row["iou"], row["dice"]))


def test_the_same_scenes_give_the_same_intervals() -> None:
    assert bootstrap(matrices(4), IDS, 100) == bootstrap(matrices(4), IDS, 100)


def test_equal_scenes_have_an_interval_without_width() -> None:
    interval = bootstrap([matrices(1)[0]] * 6, IDS, 100).overall["mean_iou"]
    assert interval.low == pytest.approx(interval.high)


def test_one_scene_has_no_interval_and_says_why() -> None:
    found = bootstrap(matrices(1), IDS, 1000)
    assert found.overall == {}
    assert found.why is not None
    assert "1 scene" in found.why


def test_a_class_in_no_scene_has_null_and_resamples_without_a_class_are_told() -> None:
    parts = matrices(3)
    for number, part in enumerate(parts):
        part[2], part[:, 2] = 0, 0
        if number:
            part[1], part[:, 1] = 0, 0
    found = bootstrap(parts, IDS, 300)
    assert (found.classes[2].iou.value, found.classes[2].iou.resamples) == (None, 0)
    assert 0 < found.classes[1].iou.resamples < 300


def test_draws_that_lack_a_class_are_counted_since_their_means_are_over_the_others() -> None:
    easy = np.diag([900, 900, 0])
    hard = np.array([[900, 0, 0], [0, 900, 0], [500, 400, 1]])
    found = bootstrap([easy, easy, hard], IDS, 4000)
    assert found.incomplete == pytest.approx(4000 * (2 / 3) ** 3, rel=0.1)
    assert found.classes[2].iou.resamples == 4000 - found.incomplete
    assert found.overall["mean_iou"].high == 1
    assert bootstrap([hard, hard], IDS, 200).incomplete == 0


def test_two_scenes_have_the_three_draws_that_there_are() -> None:
    one, two = matrices(2)
    found = bootstrap([one, two], IDS, 2000).overall["pixel_accuracy"]
    alone = sorted(m.trace() / m.sum() for m in (one, two))
    assert (found.low, found.high) == pytest.approx(alone)
    assert alone[0] < found.value < alone[1]
