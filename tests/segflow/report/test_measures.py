"""The sections of what a second pass found: told where it is there, escaped, and with the reason where it is not."""

from __future__ import annotations

import pytest

from segflow.metrics import results
from segflow.report import SceneReport
from segflow.report.page import scene_page

from .conftest import HOSTILE
from .test_page import Page


@pytest.fixture
def details(report: SceneReport) -> results.Details:
    volume = results.VolumeScores(
        reference=10.0,
        prediction=8.0,
        similarity=0.889,
        difference=-2.0,
        absolute_difference=2.0,
        relative_difference=-0.2,
    )
    surface = results.SurfaceScores(
        state="measured",
        surface_cells_reference=10,
        surface_cells_prediction=9,
        hd=7.5,
        hd95_max=4.25,
        hd95_pooled=3.75,
        assd=1.125,
        masd=1.25,
        nsd=0.875,
    )
    missed = results.SurfaceScores(state="missed", surface_cells_reference=10, surface_cells_prediction=0, nsd=0.0)
    classes = [
        results.ClassDetails(id=item.id, name=item.name, volume=volume, surface=surface if place else missed)
        for place, item in enumerate(report.classes)
    ]
    bins = tuple(
        results.ReliabilityBin(
            low=k / 4,
            high=(k + 1) / 4,
            cells=k * 100,
            confidence=(k + 0.5) / 4 if k else None,
            accuracy=k / 4 if k else None,
        )
        for k in range(4)
    )
    return results.Details(
        settings="00",
        extent_unit="m2",
        classes=tuple(classes),
        surface=results.SurfaceSummary(
            unit="m",
            tolerance=2.0,
            classes_measured=3,
            classes_missed=1,
            classes_invented=0,
            classes_absent=0,
            mean_hd=7.5,
            mean_hd95_max=4.25,
            mean_hd95_pooled=3.75,
            mean_assd=1.125,
            mean_nsd=0.656,
            worst_case=50.0,
            mean_hd95_max_worst=15.7,
            mean_assd_worst=13.3,
            denominators="distances over 3 of 4 classes",
        ),
        calibration=results.Calibration(cells=600, ece=0.125, mce=0.25, mean_confidence=0.7, accuracy=0.6, bins=bins),
        seam=results.Seam(
            score=1.02,
            reference_score=1.01,
            spread=0.03,
            sigmas=0.7,
            visible=False,
            accuracy_near=0.71,
            accuracy_far=0.72,
            borders=(2, 3),
            bins=(
                results.SeamBin(
                    distance=0,
                    cells=9,
                    accuracy=0.5,
                    pairs=4,
                    changes=1,
                    reference_changes=0,
                    change_rate=0.25,
                    reference_change_rate=0.0,
                ),
            ),
        ),
        regions=(
            results.RegionScores(name=HOSTILE, cells=5, pixel_accuracy=1.0, mean_iou=1.0, mean_dice=1.0, classes=()),
        ),
        tiles=results.TileMap(
            tile=256, rows=1, columns=2, cells=((5, 0),), pixel_accuracy=((0.75, None),), mean_iou=((0.5, None),)
        ),
        left_out={"objects": f"too many {HOSTILE}"},
    )


def test_all_parts_are_told_and_none_is_markup(report, details):
    page = scene_page(report.model_copy(update={"details": details}))
    parsed = Page(page)
    text = parsed.text.replace("\N{NO-BREAK SPACE}", " ")
    for part in ("0.125", "Distances over 3 of 4 classes", "missed", "4.25", "3.75", "cannot be told", "0.750"):
        assert part in text
    assert text.count(HOSTILE) >= 3
    assert len(parsed.all("script")) == 1
    drawings = [item for item in parsed.all("svg") if item.get("role") == "img"]
    assert drawings
    assert all(item["aria-label"] for item in drawings)


def test_parts_that_are_not_there_have_no_section(report, details):
    bare = details.model_copy(
        update={"surface": None, "calibration": None, "seam": None, "regions": None, "tiles": None, "left_out": {}}
    )
    text = Page(scene_page(report.model_copy(update={"details": bare}))).text
    assert "Area similarity" in text
    for part in ("Calibration", "Seams", "HD95", "by region", "by place", "Not measured"):
        assert part not in text


def test_a_runs_page_tells_intervals_and_means_over_scenes(report):
    from segflow.report import SceneState, run_report
    from segflow.report.page import run_page

    interval = results.Interval(value=0.5, low=0.25, high=0.75, resamples=1000)
    bootstrap = results.Bootstrap(
        scenes=9,
        resamples=1000,
        seed=0,
        overall={"mean_iou": interval},
        incomplete=7,
        classes=(results.ClassIntervals(id=report.classes[0].id, iou=interval, dice=interval),),
    )
    case = results.CaseClass(
        id=report.classes[0].id,
        name=HOSTILE,
        scenes=9,
        missed=1,
        invented=2,
        mean_dice=0.875,
        mean_volume_similarity=None,
        mean_nsd=None,
        mean_hd95_max=1234.5,
        mean_hd95_max_worst=None,
        mean_assd=None,
        measured=6,
        objects_detected=None,
        objects_missed=None,
        objects_false=None,
        objects_f1=None,
    )
    run = run_report("r", [SceneState(scene="a", state="done", report=report)])
    cases = results.Cases(unit="mm", classes=(case,))
    pooled = run.pooled.model_copy(update={"bootstrap": bootstrap, "cases": cases})
    text = Page(run_page(run.model_copy(update={"pooled": pooled}))).text
    for part in (
        "95 of 100 draws of 9 scenes",
        "In 7 draws a class",
        "Mean IoU",
        "0.250",
        "0.750",
        "IoU of land",
        "1,23",
        "0.875",
    ):
        assert part in text
    why = bootstrap.model_copy(update={"why": f"one scene {HOSTILE}"})
    pooled = pooled.model_copy(update={"bootstrap": why})
    assert f"No intervals: one scene {HOSTILE}" in Page(run_page(run.model_copy(update={"pooled": pooled}))).text
