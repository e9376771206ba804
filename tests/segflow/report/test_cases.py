"""Means over scenes: a scene in which an organ was missed is in every denominator that it can be in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segflow.grid import Grid
from segflow.metrics import count_confusion, scores
from segflow.metrics.details import ObjectRules, Wanted, measure
from segflow.models.card import LabelClass
from segflow.report import SceneReport, SceneState, from_json, run_report, scene_report, to_json
from tests.segflow.metrics.pairs import pair_of

GRID = Grid("volume", (10, 10, 10), spacing=(1.0, 1.0, 2.0))
CLASSES = [LabelClass(id=i, name=name, colour="#808080") for i, name in enumerate(("rest", "liver"))]


def report(name: str, prediction: NDArray[Any], reference: NDArray[Any]) -> SceneReport:
    counts = count_confusion(reference, prediction, (0, 1))
    wanted = Wanted("", (1,), tolerance=1.0, objects=ObjectRules())
    details = measure(pair_of(prediction, reference, 2), GRID, CLASSES, counts, wanted)
    return scene_report(name, GRID, scores(counts, CLASSES, cell_volume_ml=GRID.cell_volume_ml), details=details)


def cube(start: int = 2, stop: int = 7) -> NDArray[np.uint8]:
    found = np.zeros(GRID.shape, np.uint8)
    found[start:stop, 2:7, 2:7] = 1
    return found


def pooled(*reports: SceneReport) -> Any:
    told = run_report("cases", [SceneState(scene=item.scene, state="done", report=item) for item in reports])
    assert told.pooled is not None
    return told.pooled


def test_a_missed_organ_is_in_the_denominators_and_at_its_worst_in_the_mean() -> None:
    good, missed = report("a", cube(2, 8), cube()), report("b", np.zeros(GRID.shape, np.uint8), cube())
    liver = pooled(good, missed).cases.classes[1]
    diagonal = float(np.sqrt(10**2 + 10**2 + 20**2))
    assert (liver.scenes, liver.missed, liver.invented, liver.measured) == (2, 1, 0, 1)
    assert liver.mean_hd95_max == 1
    assert liver.mean_hd95_max_worst == pytest.approx((1 + diagonal) / 2)
    assert liver.mean_nsd == pytest.approx(0.5)
    assert liver.mean_dice == pytest.approx((2 * 125 / (125 + 150)) / 2)
    assert (liver.objects_detected, liver.objects_missed, liver.objects_false) == (1, 1, 0)
    assert liver.objects_f1 == pytest.approx(2 / 3)


def test_an_organ_that_is_in_no_scene_has_no_mean() -> None:
    empty = np.zeros(GRID.shape, np.uint8)
    liver = pooled(report("a", empty, empty)).cases.classes[1]
    assert (liver.scenes, liver.mean_dice, liver.mean_hd95_max_worst, liver.objects_f1) == (0, None, None, None)


def test_an_invented_organ_counts_as_one() -> None:
    liver = pooled(report("a", cube(), np.zeros(GRID.shape, np.uint8))).cases.classes[1]
    assert (liver.scenes, liver.invented, liver.mean_dice, liver.mean_nsd) == (1, 1, 0, 0)


def test_one_scene_has_no_intervals_and_two_have() -> None:
    one, two = report("a", cube(2, 8), cube()), report("b", cube(3, 7), cube())
    assert "1 scene" in pooled(one).bootstrap.why
    interval = pooled(one, two).bootstrap.overall["mean_dice"]
    assert interval.low <= interval.value <= interval.high


def test_details_survive_the_report_s_json() -> None:
    made = report("a", cube(2, 8), cube())
    assert from_json(to_json(made)) == made
