"""report.json: the contract's keys, one order, finite numbers, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import ValidationError

from segflow.grid import Grid
from segflow.metrics import Counts, count_confusion, scores
from segflow.models.card import LabelClass
from segflow.report import RunFacts, SceneState, from_json, report_schema, run_report, scene_report, to_json

from .conftest import CLASSES, IDS, label_maps, run_facts


def test_keys_are_the_contracts_in_one_order(report):
    data = json.loads(to_json(report))
    assert list(data)[:6] == ["scene", "grid", "classes", "overall", "confusion_matrix", "excluded"]
    assert {"run", "model", "inputs", "outputs", "notices"} < set(data)
    assert list(data["classes"][0]) == [
        *("id", "name", "colour", "pixels", "area_m2"),
        *("iou", "dice", "precision", "recall", "specificity", "support"),
    ]
    assert list(data["overall"])[:6] == [
        *("pixel_accuracy", "mean_class_accuracy", "mean_iou"),
        *("mean_dice", "frequency_weighted_iou", "kappa"),
    ]
    assert list(data["confusion_matrix"]) == ["labels", "counts"]
    assert {"forwards", "forwards_minimum", "seconds", "peak_rss_bytes", "backend", "device"} < set(data["run"])
    assert {"fingerprint", "versions"} < set(data["run"])
    assert {"read", "forward", "blend", "write", "total"} <= set(data["run"]["seconds"])


def test_json_is_read_back_equal_and_equal_reports_are_equal_bytes(report, bare):
    for each in (report, bare):
        again = from_json(to_json(each))
        assert again == each
        assert to_json(again) == to_json(each)
        assert json.loads(to_json(each)) == each.model_dump(mode="json")


def test_counts_and_scores_can_be_had_back_from_a_report(report):
    reference, prediction, valid = label_maps()
    counts = count_confusion(reference, prediction, IDS, valid=valid)
    assert report.counts == counts
    assert report.scores == scores(counts, CLASSES, cell_area_m2=0.25)
    assert report.counts.matrix.sum() + report.excluded == reference.size


def test_an_absent_class_is_null_and_without_a_reference_scores_are_left_out(report, bare):
    absent = json.loads(to_json(report))["classes"][3]
    assert (absent["pixels"], absent["support"], absent["iou"]) == (0, 0, None)
    data = json.loads(to_json(bare))
    assert data["overall"] is None
    assert data["confusion_matrix"] is None
    assert list(data["classes"][0]) == ["id", "name", "colour", "pixels", "area_m2"]


def test_volumes_have_volume_and_no_area():
    counts = count_confusion(None, np.zeros((2, 3, 4), np.uint8), (0,))
    classes = (LabelClass(id=0, name="rest", colour="#000000"),)
    report = scene_report("case", Grid("volume", (2, 3, 4)), scores(counts, classes, cell_volume_ml=0.001))
    row = json.loads(to_json(report))["classes"][0]
    assert row["volume_ml"] == pytest.approx(0.024)
    assert "area_m2" not in row


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused_at_birth(number):
    with pytest.raises(ValidationError):
        RunFacts.model_validate({**run_facts().model_dump(), "seconds": {"total": number}})


def test_pooled_scores_are_those_of_the_summed_counts(report, bare):
    run = run_report("r", [SceneState(scene="a", state="done", report=report)] * 3)
    assert run.pooled.scenes == run.pooled.scenes_with_reference == 3
    tripled = report.counts + report.counts + report.counts
    assert run.pooled.overall.mean_iou == scores(tripled, CLASSES)["overall"]["mean_iou"]
    assert run.pooled.excluded == 3 * report.excluded
    assert run.pooled.classes[0].area_m2 == pytest.approx(3 * report.classes[0].area_m2)
    mixed = run_report("r", [SceneState(scene=x.scene, state="done", report=x) for x in (report, bare)])
    assert (mixed.pooled.scenes, mixed.pooled.scenes_with_reference) == (2, 1)
    assert mixed.pooled.overall.mean_iou == report.overall.mean_iou


def test_scenes_of_other_classes_and_failed_ones_are_not_pooled(report):
    other = report.model_copy(update={"classes": report.classes[:2]})
    failed = SceneState(scene="x", state="failed", error="broken")
    states = [SceneState(scene="a", state="done", report=report), failed]
    assert run_report("r", states).pooled.scenes == 1
    assert run_report("r", [*states, SceneState(scene="b", state="done", report=other)]).pooled is None
    assert run_report("r", [failed]).pooled is None
    assert run_report("r", []).pooled is None


def test_the_schema_describes_the_scene_too():
    assert "SceneReport" in report_schema()["$defs"]


def test_counts_without_cells_make_a_report():
    empty = scene_report("x", Grid("raster", (1, 1)), scores(Counts.zero(IDS), CLASSES))
    assert empty.overall.mean_iou is None
    assert json.loads(to_json(empty))["overall"]["pixel_accuracy"] is None
