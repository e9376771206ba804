"""CSV, Markdown, terminal text, and the numbers in them."""

from __future__ import annotations

import csv
import re
from io import StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segflow.report import SceneState, numbers, run_report, run_summary, summary
from segflow.report.tables import CSV_COLUMNS, metrics_csv, run_markdown

from .conftest import HOSTILE

LAWS = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture
def run(report, bare):
    return run_report(
        "my run",
        [
            SceneState(scene='a,"b"\nc', state="done", report=report),
            SceneState(scene="bare", state="unchanged", report=bare),
            SceneState(scene="x", state="failed", error="broken\n  expected: whole\n  remedy: mend | it"),
        ],
    )


def test_csv_has_a_row_for_each_scene_and_class_and_survives_odd_names(run, report):
    rows = list(csv.DictReader(StringIO(metrics_csv(run))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [row["scene"] for row in rows] == ['a,"b"\nc'] * 4 + ["bare"] * 4
    for row, item in zip(rows, report.classes, strict=False):
        assert (int(row["id"]), row["name"], int(row["pixels"])) == (item.id, item.name, item.pixels)
        assert (float(row["iou"]) if row["iou"] else None) == item.iou
    assert {row["iou"] for row in rows[4:]} == {""}


def test_markdown_tables_have_equal_columns_and_no_markup(run):
    text = run_markdown(run)
    assert "<" not in text
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        lines = block.strip().splitlines()
        widths = {len(line) for line in lines}
        cells = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == len(cells) == 1
    assert "failed: broken" in text
    assert "All 2 scenes together" in text


def test_summary_is_plain_text_with_aligned_columns(report):
    text = summary(report)
    assert text.startswith(f"{HOSTILE}: 80 × 60 px of 0.5 m\n12 forward passes in 1 min 16 s, openvino on cpu")
    lines = text.splitlines()
    table = lines[3:8]
    assert len({len(line) for line in table}) == 1
    assert "\x1b" not in text
    assert max(map(len, table)) <= 110
    assert "excluded: 600 cells" in text
    assert f"notice: mind {HOSTILE} & co" in text


def test_run_summary_names_every_scene_with_its_error(run):
    text = run_summary(run)
    for part in ("done", "unchanged", "failed", "broken", "remedy: mend | it", "all 2 scenes together"):
        assert part in text


@LAWS
@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_a_share_is_never_rounded_to_none_or_all(part, rest):
    text = numbers.percent(part, part + rest)
    assert (text == "0.0\N{NO-BREAK SPACE}%") == (part == 0)
    assert not text.startswith("100")
    assert numbers.percent(5, 5) == "100.0\N{NO-BREAK SPACE}%"
    assert numbers.percent(0, 0) == numbers.DASH


@LAWS
@given(st.floats(0, 1, exclude_max=True))
def test_a_score_is_one_only_when_it_is(value):
    assert numbers.score(value) != "1.000"
    assert numbers.score(1.0) == "1.000"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4216, "0.42 s"), (12.34, "12.3 s"), (59.97, "1 min 00 s"), (247, "4 min 07 s"), (7500, "2 h 05 min")],
)
def test_durations_are_written_as_people_say_them(value, text):
    assert numbers.seconds(value).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(("value", "text"), [(812, "812 B"), (2048, "2.00 KiB"), (1_500_000_000, "1.40 GiB")])
def test_sizes_are_in_binary_units(value, text):
    assert numbers.size(value).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("values", "unit", "texts"),
    [
        ([12.5, 3.0, None], "m²", ["12.50", "3.00", "–"]),
        ([250_000.0, 5_000.0], "ha", ["25.00", "0.50"]),
        ([3.5e9, 1e6], "km²", ["3,500", "1"]),
        ([None], "m²", ["–"]),
    ],
)
def test_areas_of_a_column_share_a_unit_and_decimals(values, unit, texts):
    found, write = numbers.area_column(values)
    assert (found, [write(value) for value in values]) == (unit, texts)
