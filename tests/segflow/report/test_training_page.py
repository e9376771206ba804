"""The page of a training: whole with every piece missing, true to spikes and gaps, self-contained, small."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from segflow.metrics import count_confusion, scores
from segflow.models.card import Card, LabelClass
from segflow.report.series import axis_of, smooth, thin
from segflow.report.training import Point, Scored, TrainingReport, Worst
from segflow.report.training_page import training_page
from segflow.report.training_write import write_curve_csv, write_training_report
from tiling import Box

from .conftest import CLASSES, HOSTILE, IDS, label_maps
from .test_page import Page

NAN = float("nan")


def card(classes: tuple[LabelClass, ...] = CLASSES, name: str = HOSTILE) -> Card:
    return Card(
        name=name,
        kind="raster",
        architecture="u<net>",
        arguments={"width": 8},
        classes=classes,
        channels=(HOSTILE, "green"),
        patch=(64, 64),
        training={"scenes": ["a", "b"], "batch": 4},
    )


def curve(count: int) -> list[Point]:
    loss = 0.3 + 2 * np.exp(-np.arange(count) / 300) * np.random.default_rng(1).uniform(0.8, 1.2, count)
    return [Point(k + 1, float(value), 1e-3 * (1 - k / count), 0.5 * (k + 1)) for k, value in enumerate(loss)]


def validation(count: int) -> list[Scored]:
    iou = {item.name: (None if item.id == 7 else 0.5) for item in CLASSES}
    return [
        Scored(50 * k, {"mean_iou": 0.1 * k / count, "mean_dice": NAN, "kappa": None}, iou) for k in range(1, count)
    ]


def patches(count: int, side: int = 40) -> list[Worst]:
    rng = np.random.default_rng(2)
    return [
        Worst(
            f"{HOSTILE} {k}",
            Box((1000, 20), (1000 + side, 20 + side)),
            0.25,
            rng.integers(0, 255, (side, side, 3), np.uint8),
            rng.choice([*IDS, 0], (side, side)),
            rng.choice(IDS, (side, side)),
        )
        for k in range(count)
    ]


@pytest.fixture
def whole() -> TrainingReport:
    reference, prediction, _ = label_maps()
    return TrainingReport(
        card(),
        curve(400),
        validation(8),
        scores(count_confusion(reference, prediction, IDS), CLASSES),
        patches(3),
        f"kind: raster # {HOSTILE}",
        [f"mind {HOSTILE}"],
        {"machine": HOSTILE, "cores": 2, "versions": {"torch": "2.15"}, "parameters": 1_629_509, "seed": 0},
        kept=300,
    )


def text_of(report: TrainingReport) -> str:
    return Page(training_page(report)).text.replace("\N{NO-BREAK SPACE}", " ")


def paths(page: str, kind: str) -> list[dict[str, str]]:
    return [a for a in Page(page).all("path") if a["class"] == f"line {kind}"]


def test_first_screen_tells_what_was_trained_on_what_and_how_well(whole):
    text = text_of(whole)
    parts = ["1,629,509 parameters", "2 scenes", "400 steps", "3 min 20 s", "Notices", "Mean IoU", "Support", "Loss"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    for part in ("Confusion matrix", "25.0 % right", "x 20–59, y 1,000–1,039", "torch 2.15", "Recipe as it ran"):
        assert part in text


def test_text_from_outside_is_never_markup_and_the_page_needs_no_network(whole):
    page = training_page(whole)
    parsed = Page(page)
    assert len(parsed.all("script")) == 1
    assert "alert(1)" not in page.split("<script>")[-1]
    assert parsed.text.count(HOSTILE) >= 6
    assert not parsed.all("link")
    assert all(image["src"].startswith("data:image/") for image in parsed.all("img"))
    assert not re.search(r"url\(|@import|https?:", page)
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]


def test_charts_speak_to_a_screen_reader_and_to_the_keyboard(whole):
    parsed = Page(training_page(whole))
    charts = [drawing for drawing in parsed.all("svg") if drawing.get("class") == "plot"]
    assert len(charts) == 4
    assert all(drawing["role"] == "img" for drawing in charts)
    assert "at step 400" in charts[0]["aria-label"]
    assert "lowest" in charts[0]["aria-label"]
    assert {"type": "range", "id": "step"}.items() <= parsed.all("input")[0].items()
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert all(image["alt"] for image in parsed.all("img"))


@pytest.mark.parametrize(
    "lacking",
    [
        {"scored": (), "final": None, "worst": ()},
        {"points": ()},
        {"points": (), "scored": (), "final": None, "worst": (), "facts": {}, "recipe_text": "", "notices": ()},
        {"points": [Point(1, 0.5, 1e-3, 2.0)], "scored": (), "kept": None},
        {"points": [Point(1, NAN, 0.0, 0.0)], "scored": [Scored(1, {})], "final": None},
        {"points": [Point(k, 0.0, 0.0, 0.0) for k in (1, 2, 3)]},
        {"points": [Point(k, -1.0 / k, 1e-9, 1.0) for k in range(5000, 5100)], "scored": (), "kept": 5050},
    ],
    ids=["no validation", "no curve", "nothing", "one point", "one broken point", "all zero", "late and negative"],
)
def test_page_stands_with_pieces_missing(whole, lacking):
    page = training_page(replace(whole, **lacking))
    Page(page)
    drawn = [value for path in re.findall(r' d="([^"]*)"', page) for value in re.split(r"[ML ]", path) if value]
    assert all(math.isfinite(float(value)) for value in drawn)
    assert not re.search(r' (?!data)[\w-]+="(nan|inf|-inf)%?"', page)


def test_without_validation_the_page_says_that_nothing_is_known_of_how_good_it_is(whole):
    text = text_of(replace(whole, scored=(), final=None, worst=()))
    assert "Nothing was held back" in text
    for word in ("IoU", "Confusion", "Worst"):
        assert word not in text


def test_scores_that_are_no_numbers_are_dashes(whole):
    reference, prediction, _ = label_maps()
    final = scores(count_confusion(reference, prediction, IDS), CLASSES)
    final["overall"]["mean_iou"] = NAN
    final["classes"][0]["iou"] = NAN
    page = training_page(replace(whole, final=final))
    assert "nan" not in Page(page).text.lower()


def test_a_loss_that_is_not_a_number_is_a_gap_a_mark_and_a_notice(whole):
    points = curve(400)
    points[99] = replace(points[99], loss=NAN)
    points[100] = replace(points[100], loss=float("inf"))
    page = training_page(replace(whole, points=points))
    assert paths(page, "raw")[0]["d"].count("M") == 2
    text = Page(page).text
    assert "step 100: not a number" in text
    assert "not a number at 2 steps, first at step 100" in text


def test_hundred_thousand_steps_are_thinned_and_no_spike_is_lost(whole):
    points = curve(100_000)
    points[54_321] = replace(points[54_321], loss=1.9)
    points[777] = replace(points[777], loss=0.001)
    page = training_page(replace(whole, points=points, scored=validation(3000), worst=patches(40, 256)))
    for kind in ("raw", "first", "third"):
        assert all(len(path["data-x"].split()) <= 1000 for path in paths(page, kind))
    drawn = paths(page, "raw")[0]["data-y"].split()
    assert {"1.9", "0.001"} <= set(drawn)
    assert len(page.encode()) < 5_000_000


def test_many_classes_show_the_largest_confusions_instead_of_a_matrix(whole):
    many = tuple(LabelClass(id=k, name=f"class {k}", colour="#123456") for k in range(150))
    rng = np.random.default_rng(3)
    reference = rng.integers(0, 150, (200, 200))
    prediction = np.where(rng.random((200, 200)) < 0.5, reference, (reference + 1) % 150)
    final = scores(count_confusion(reference, prediction, tuple(range(150))), many)
    scored = [Scored(k, {"mean_iou": 0.2}, {item.name: item.id / 150 for item in many}) for k in (1, 2)]
    page = training_page(replace(whole, card=card(many), final=final, scored=scored))
    assert "Largest confusions" in Page(page).text
    assert len(paths(page, "own")) == 12
    assert len(page.encode()) < 1_000_000


@given(st.integers(4, 40), st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(NAN)), min_size=1, max_size=300))
def test_thinning_keeps_the_ends_the_extremes_and_the_order(most, found):
    steps, values = np.arange(len(found), dtype=float), np.array(found)
    kept, thinned = thin(steps, values, most)
    assert len(kept) <= most
    assert (np.diff(kept) > 0).all()
    assert (kept[0], kept[-1]) == (0, len(found) - 1)
    assert_allclose(thinned, values[kept.astype(int)])
    if np.isfinite(values).any():
        assert np.nanmin(thinned) == np.nanmin(values)
        assert np.nanmax(thinned) == np.nanmax(values)


@given(st.lists(st.one_of(st.floats(-1e3, 1e3), st.just(NAN)), min_size=1, max_size=400))
def test_smoothing_is_the_mean_of_what_is_finite_in_the_window(found):
    values = np.array(found)
    mean, window = smooth(values)
    reach = window // 2
    for k in range(len(values)):
        part = values[max(k - reach, 0) : k + reach + 1]
        part = part[np.isfinite(part)]
        assert_allclose(mean[k], part.mean() if part.size else NAN, atol=1e-6)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_an_axis_holds_all_values_and_has_round_ticks_inside(found):
    axis = axis_of(np.array(found), may_log=True)
    places = axis.place(np.array(found))
    assert (places >= 0).all()
    assert (places <= 1).all()
    assert len(axis.ticks) <= 7
    assert all(axis.low <= tick * (1 + 1e-9) and tick <= axis.high * (1 + 1e-9) for tick in axis.ticks if tick > 0)


def test_loss_over_two_decades_is_drawn_on_a_logarithmic_axis_and_a_flat_one_is_not():
    assert axis_of(np.geomspace(0.01, 1, 50), may_log=True).log
    assert not axis_of(np.linspace(0.5, 1, 50), may_log=True).log
    assert not axis_of(np.linspace(-1, 100, 50), may_log=True).log


def test_curve_as_csv_reads_back_equal(tmp_path: Path):
    points = [*curve(3), Point(4, NAN, 0.0, 2.0)]
    path = tmp_path / "curve.csv"
    write_curve_csv(points, [Scored(2, {"mean_iou": 0.25, "kappa": None}, {'road "A|B"': 0.5})], path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    assert [float(row["loss"]) for row in rows[:3]] == [point.loss for point in points[:3]]
    assert rows[3]["loss"] == "nan"
    assert (rows[1]["mean_iou"], rows[1]["kappa"], rows[1]['iou: road "A|B"']) == ("0.25", "", "0.5")
    assert rows[0]["mean_iou"] == ""


def test_page_is_written_whole(whole, tmp_path: Path):
    path = tmp_path / "deep" / "report.html"
    write_training_report(whole, path)
    assert path.read_text(encoding="utf-8").endswith("</html>\n")


def test_a_slice_of_a_volume_is_named_by_its_axes(whole):
    one = replace(patches(1)[0], box=Box((10, 20, 30), (50, 60, 31)))
    volume = card().model_dump() | {"kind": "volume", "patch": (64, 64, 64)}
    text = text_of(replace(whole, card=Card.model_validate(volume), worst=[one]))
    assert "x 10–49, y 20–59, z 30" in text
    assert "Voxels" in text


def test_a_patch_whose_parts_differ_in_shape_is_refused():
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="predicted"):
        Worst("a", Box((0, 0), (4, 5)), 1.0, image, np.zeros((4, 5), int), np.zeros((5, 4), int))
