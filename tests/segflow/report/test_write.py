"""Reports as files."""

from __future__ import annotations

import json

import pytest

from segflow.report import Pictures, SceneState, from_json, write_run_report, write_scene_report

from .conftest import HOSTILE


def test_scene_report_is_two_files_and_nothing_else(tmp_path, report, preview):
    data, page = write_scene_report(tmp_path / "new", "scene", report, Pictures([preview]))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["scene_report.html", "scene_report.json"]
    assert from_json(data.read_text(encoding="utf-8")) == report
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_equal_reports_are_equal_files(tmp_path, report, preview):
    first = [path.read_bytes() for path in write_scene_report(tmp_path, "a", report, Pictures([preview]))]
    second = [path.read_bytes() for path in write_scene_report(tmp_path, "b", report, Pictures([preview]))]
    assert first == second


def test_a_name_that_is_a_path_is_refused(tmp_path, report):
    with pytest.raises(ValueError, match="no file name"):
        write_scene_report(tmp_path, HOSTILE, report)
    assert list(tmp_path.iterdir()) == []


def test_run_report_is_json_html_markdown_and_csv(tmp_path, report):
    states = [
        SceneState(scene="s", state="done", report=report),
        SceneState(scene="x", state="failed", error="broken"),
    ]
    run = write_run_report(tmp_path, "r", states)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("metrics.csv", "report.html", "report.json", "report.md"),
    ]
    data = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [(item["scene"], item["state"], item["error"]) for item in data["scenes"]] == [
        ("s", "done", None),
        ("x", "failed", "broken"),
    ]
    assert data["scenes"][0]["report"]["overall"]["mean_iou"] == run.pooled.overall.mean_iou
    assert data["pooled"]["scenes"] == 1
