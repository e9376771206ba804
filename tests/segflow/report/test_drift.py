"""A run beside the one before: what moved, and by how much."""

from __future__ import annotations

import pytest

from segflow.report import (
    Results,
    SceneState,
    drift_of,
    median_of,
    results_of,
    run_from_json,
    run_page,
    run_report,
    to_json,
)

from .conftest import HOSTILE

BEFORE = Results(run="monday", shares={"water": 0.5, "wood": 0.5}, mean_iou=0.8)
NOW = Results(run="tuesday", shares={"water": 0.45, "wood": 0.5, "town": 0.05}, mean_iou=0.7)


@pytest.mark.parametrize(
    ("allowed", "told"),
    [
        (None, ()),
        (0.2, ()),
        (0.06, ("mean IoU 0.700, 0.800 before",)),
        (
            0.04,
            (
                "water covers 45.0%, 50.0% before",
                "town covers 5.0%, 0.0% before",
                "mean IoU 0.700, 0.800 before",
            ),
        ),
    ],
)
def test_a_share_or_a_score_that_moved_by_more_than_is_allowed_is_told(allowed, told):
    assert drift_of(BEFORE, NOW, allowed).told == told


def test_a_class_that_the_model_no_longer_has_is_told():
    assert drift_of(NOW, BEFORE, 0.04).told[-1] == "town covers 0.0%, 5.0% before"


def test_a_score_that_rose_or_is_not_known_is_not_told():
    assert drift_of(NOW, BEFORE, 0.06).told == ()
    assert drift_of(BEFORE, NOW.model_copy(update={"mean_iou": None}), 0.06).told == ()


def test_the_median_of_runs_before_is_not_moved_by_an_odd_one():
    odd = Results(run="odd", shares={"town": 1.0}, mean_iou=0.1)
    several = [BEFORE, odd, BEFORE.model_copy(update={"mean_iou": None})]
    found = median_of(several, "the median of 3 runs before")
    assert found == Results(
        run="the median of 3 runs before", shares={"water": 0.5, "wood": 0.5, "town": 0.0}, mean_iou=0.45
    )
    assert drift_of(found, BEFORE, 0.01).told == ()
    assert drift_of(found, odd, 0.01).before == "the median of 3 runs before"
    assert median_of([BEFORE], "monday") == BEFORE
    assert median_of([], "none") is None


def test_without_two_runs_with_results_there_is_nothing_to_compare():
    assert drift_of(None, NOW, 0.01) is None
    assert drift_of(NOW, results_of(run_report("r", [])), 0.01) is None


def test_the_page_shows_the_change_and_its_json_comes_back(report):
    run = run_report("r", [SceneState(scene="s", state="done", report=report)], 0)
    before = Results(run=HOSTILE, shares={HOSTILE: 1.0}, mean_iou=0.9)
    run = run.model_copy(update={"drift": drift_of(before, results_of(run), 0.01)})
    assert run_from_json(to_json(run)) == run
    page = run_page(run)
    assert HOSTILE not in page
    assert "-100.0 points" in page
    assert f"{run.pooled.overall.mean_iou - 0.9:+.3f}" in page
