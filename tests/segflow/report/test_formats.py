"""JSON, CSV, Markdown and the page tell the same numbers: all four are read back and compared."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segflow.grid import Grid
from segflow.metrics import Counts, count_confusion, scores
from segflow.metrics.details import ObjectRules, Wanted, measure
from segflow.metrics.windows import pair_of
from segflow.models.card import LabelClass
from segflow.report import (
    SceneReport,
    SceneState,
    from_json,
    run_from_json,
    scene_page,
    scene_report,
    to_json,
    write_run_report,
)
from segflow.report.page import run_page
from segflow.report.text import summary

CLASSES = tuple(
    LabelClass(id=i, name=name, colour="#336699") for i, name in ((1, "land"), (2, "sea"), (5, "ice"), (9, "rock"))
)
IDS = tuple(item.id for item in CLASSES)
SCORES = {"IoU": "iou", "Dice": "dice", "Precision": "precision", "Recall": "recall", "Specificity": "specificity"}
OVERALL = {"Mean IoU": "mean_iou", "Mean Dice": "mean_dice", "Pixel accuracy": "pixel_accuracy", "Kappa": "kappa"}


def scene(seed: int, kinds: tuple[tuple[int, ...], tuple[int, ...]], name: str = "s") -> SceneReport:
    """A measured scene whose reference and prediction hold the given classes."""
    random = np.random.default_rng(seed)
    truth, found = (random.choice(ids, (12, 14)).repeat(3, 0).astype(np.uint8) for ids in kinds)
    grid = Grid("raster", truth.shape, (0.5, 0, 0, 0, -0.5, 0), None, (0.5, 0.5))
    counts = count_confusion(truth, found, IDS)
    pair = pair_of(
        truth.shape,
        lambda box: (found[box.slices], np.ones(box.shape, bool)),
        lambda box: (truth[box.slices], np.ones(box.shape, bool)),
        IDS,
    )
    wanted = Wanted("", tuple(range(len(IDS))), tolerance=0.5, boundary_width=2, objects=ObjectRules(), tile=16)
    details = measure(pair, grid, CLASSES, counts, wanted)
    return scene_report(name, grid, scores(counts, CLASSES, cell_area_m2=0.25), details=details)


class Tables(HTMLParser):
    """The tables of a page by their names, as rows of texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if told.get("class") == "scroll":
            self._rows = self.found.setdefault(str(told["aria-label"]).removesuffix(", table"), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self._rows[-1][-1] += data

    def table(self, name: str) -> dict[str, dict[str, str]]:
        """Cells by the row's heading and the column's."""
        return by_heads(self.found[name])


def by_heads(rows: list[list[str]]) -> dict[str, dict[str, str]]:
    heads, *rest = [[" ".join(cell.split()) for cell in row] for row in rows]
    return {row[0]: dict(zip(heads, row, strict=True)) for row in rest}


def markdown_tables(text: str) -> list[dict[str, dict[str, str]]]:
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    rows = [[[cell.strip() for cell in line.strip("|").split("|")] for line in block] for block in blocks]
    return [by_heads([block[0], *block[2:]]) for block in rows]


def require_same(shown: str, value: float | None, at: str) -> None:
    """The text is the number, rounded to as many digits as it shows; never 0 or 1 where the number is not."""
    if value is None:
        assert shown == "–", at
        return
    if shown.startswith("<"):
        assert 0 < value < float(shown[1:].strip(" %")), at
        return
    told = float(re.sub(r"[^\d.+-]", "", shown.replace("−", "-")))
    digits = len(shown.split(".")[1].strip(" %")) if "." in shown else 0
    clamped = 0.4995 if told == 0.999 else 0.0
    assert abs(told - value) <= (0.5 + 1e-6 + clamped) * 10**-digits, (at, shown, value)
    assert (told == 0) == (value == 0) or (abs(value) >= 0 and digits < 3), at
    assert told != 1 or value == 1 or digits < 3, at


def require_four_alike(reports: list[SceneReport], folder: Path) -> None:
    states = [SceneState(scene=report.scene, state="done", report=report) for report in reports]
    made = write_run_report(folder, "run", states, resamples=20)
    data = json.loads((folder / "report.json").read_text())
    rows = list(csv.DictReader(io.StringIO((folder / "metrics.csv").read_text())))
    states_table, pooled, *tables = markdown_tables((folder / "report.md").read_text())
    index = Tables((folder / "report.html").read_text())
    for place, told in enumerate(data["scenes"]):
        report = told["report"]
        page = Tables(scene_page(reports[place])).found
        shown, measured, objects = (by_heads(page[key]) for key in ("Classes", "Extents and surfaces", "Objects"))
        listed, detailed = tables[2 * place : 2 * place + 2]
        for number, item in enumerate(report["classes"]):
            row, at = rows[place * len(CLASSES) + number], f"{told['scene']} {item['name']}"
            head = f"{item['name']} {item['id']}"
            for column, key in SCORES.items():
                assert row[key] == ("" if item[key] is None else repr(item[key])), at
                require_same(shown[head]["Dice (F1)" if key == "dice" else column], item[key], at)
                require_same(listed[item["name"]][column], item[key], at)
            for column, key in (("Pixels", "pixels"), ("Support", "support")):
                assert int(row[key]) == item[key] == int(shown[head][column].replace(",", "")), at
                assert item[key] == int(listed[item["name"]][column].replace(",", "")), at
            require_details(report["details"]["classes"][number], row, measured, objects, detailed, at)
        for column, key in OVERALL.items():
            require_same(states_table[told["scene"]][column], report["overall"][key], column)
            require_same(index.table("Scenes")[told["scene"]][column], report["overall"][key], column)
    for item in data["pooled"]["classes"]:
        for column, key in SCORES.items():
            head = "Dice (F1)" if key == "dice" else column
            require_same(index.table("Classes")[f"{item['name']} {item['id']}"][head], item[key], column)
            require_same(pooled[item["name"]][column], item[key], column)
    assert run_from_json((folder / "report.json").read_text()) == made


def require_details(item: dict[str, Any], row: dict[str, str], *tables: Any) -> None:
    measured, objects, detailed, at = tables
    name, surface, met = item["name"], item["surface"], item["objects"]
    there = name in detailed
    pairs = [("HD95, larger (m)", "HD95 m", "hd95_max"), ("HD95, pooled (m)", "HD95 pooled", "hd95_pooled")]
    for column, brief, key in [*pairs, ("Mean distance (m)", "ASSD", "assd")]:
        shown = [measured[name][column], *[detailed[name][brief]] * there]
        assert row[f"surface_{key}"] == ("" if surface[key] is None else repr(surface[key])), at
        if surface["state"] != "measured":
            assert set(shown) <= {surface["state"], "–"}, at
        else:
            for text in shown:
                require_same(text, surface[key], at)
    require_same(measured[name]["Surface Dice, 0.5 m"], surface["nsd"], at)
    require_same(measured[name]["Boundary IoU, 2 cells"], item["boundary"]["iou"], at)
    for column, key in (("Found", "detected"), ("Missed", "missed"), ("Invented", "false")):
        assert int(objects[name][column]) == met[key] == int(row[f"objects_{key}"]), at
    require_same(objects[name]["F1"], met["f1"], at)


HELD = st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True).map(tuple)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 99), HELD, HELD), min_size=1, max_size=3))
def test_all_four_tell_the_same_numbers(tmp_path_factory: pytest.TempPathFactory, drawn: list[Any]) -> None:
    reports = [scene(seed, (one, two), f"s{number}") for number, (seed, one, two) in enumerate(drawn)]
    require_four_alike(reports, tmp_path_factory.mktemp("formats"))


def test_a_score_that_is_nearly_nothing_is_not_told_as_nothing() -> None:
    counts = Counts((1, 2), np.array([[10**9, 10**5], [10**5, 1]]), 0, np.array([10**9, 10**5]))
    report = scene_report("s", Grid("raster", (3, 3)), scores(counts, CLASSES[:2]))
    page, text = scene_page(report), summary(report)
    assert "&lt;\N{NO-BREAK SPACE}0.001" in page
    assert "<\N{NO-BREAK SPACE}" not in page
    assert "< 0.001" in text
    assert "1.000" not in text


def test_counts_near_the_end_of_64_bits_are_told_to_the_last_cell() -> None:
    most = 2**61
    counts = Counts((1, 2), np.array([[most, 3], [1, most]]), 0, np.array([most + 1, most + 3]))
    told = from_json(to_json(scene_report("s", Grid("raster", (3, 3)), scores(counts, CLASSES[:2]))))
    assert told.overall.pixels_scored == 2 * most + 4
    assert 0 < told.overall.kappa < 1 or math.isclose(told.overall.kappa, 1)
    assert f"{2 * most + 4:,}" in scene_page(told)


def test_scenes_that_could_not_be_measured_are_told_beside_the_means_over_scenes(tmp_path: Path) -> None:
    measured = scene(1, ((1, 2), (1, 2)), "a")
    lost = scene(2, ((1, 2), (1, 2)), "b").model_copy(update={"details": None})
    states = [SceneState(scene=report.scene, state="done", report=report) for report in (measured, lost)]
    report = write_run_report(tmp_path, "run", states)
    assert report.pooled.cases.scenes == 1
    assert "Only 1 of the 2 scenes with a reference could be measured." in run_page(report)


def test_a_scene_in_which_nothing_counts_says_so_and_has_no_score() -> None:
    counts = count_confusion(np.full((9, 9), 3, np.uint8), np.ones((9, 9), np.uint8), IDS, ignore=(3,))
    report = scene_report("s", Grid("raster", (9, 9)), scores(counts, CLASSES))
    assert report.overall.mean_iou is report.overall.kappa is None
    page = scene_page(report)
    assert page.index("Nothing could be scored") < page.index("Mean IoU")
    assert "Nothing could be scored" not in scene_page(scene(1, ((1,), (1,))))


def test_a_run_of_scenes_with_different_classes_says_why_it_has_no_common_scores(tmp_path: Path) -> None:
    one = scene(1, ((1,), (1,)))
    counts = count_confusion(None, np.full((9, 9), 2, np.uint8), (2,))
    other = scene_report("t", Grid("raster", (9, 9)), scores(counts, CLASSES[1:2]))
    states = [SceneState(scene=report.scene, state="done", report=report) for report in (one, other)]
    assert "their classes differ" in run_page(write_run_report(tmp_path, "run", states))
    assert "their classes differ" not in run_page(write_run_report(tmp_path, "run", states[:1]))
    assert "their classes differ" not in run_page(write_run_report(tmp_path, "run", []))


def test_a_run_s_report_of_an_older_version_is_read_and_shown() -> None:
    path = Path(__file__).with_name("run-report-of-an-older-version.json")
    report = run_from_json(path.read_text())
    assert report.scenes[0].report.exports == ()
    page = run_page(report)
    assert "1 scene failed" in page
    assert "Mean IoU" in scene_page(report.scenes[0].report)
