"""`segflow plan` says what `segflow run` would do: the same network, the same refusals, each scene by itself."""

from __future__ import annotations

from typing import Any

import pytest


def test_plan_names_the_backend_and_the_fingerprint_of_results_that_are_there(making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    making.raster("b.tif")
    first = segflow("run", making.recipe(compute={"backend": "onnxruntime"}), "--json", "--limit", "1").json
    path = making.recipe(inputs=["a.tif", "b.tif"], compute={"backend": "auto"})
    rows = segflow("plan", path, "--json").json
    assert {row["backend"] for row in rows} == {"onnxruntime"}
    assert rows[0]["fingerprint"] == first["scenes"][0]["report"]["run"]["fingerprint"]
    scenes = segflow("run", path, "--json").json["scenes"]
    assert [item["state"] for item in scenes] == ["unchanged", "done"]
    assert scenes[1]["report"]["run"]["fingerprint"] == rows[1]["fingerprint"]


@pytest.mark.parametrize(
    "parts",
    [
        {"compute": {"cluster": {"class": "os.system"}}},
        {"compute": {"cluster": "tcp://127.0.0.1:9", "staging": "nowhere://bucket/prefix"}},
        {"outputs": {"folder": "."}, "references": "a_labels.tif"},
    ],
    ids=["class", "staging", "overwritten"],
)
def test_plan_refuses_what_run_refuses_in_the_same_words(parts: dict[str, Any], making: Any, segflow: Any) -> None:
    making.model()
    making.raster()
    making.labels("a_labels.tif")
    path = making.recipe(**parts)
    planned, run = segflow("plan", path), segflow("run", path)
    assert (planned.code, run.code) == (2, 2)
    assert planned.err == run.err


def test_a_scene_that_is_refused_does_not_hide_the_plans_of_the_others(making: Any, segflow: Any) -> None:
    making.model()
    for number in range(12):
        making.raster(f"s{number}.tif")
    (making.folder / "s7.tif").write_bytes(b"no raster")
    path = making.recipe(inputs="s*.tif")
    found = segflow("plan", path, "--json")
    assert found.code == 1
    assert [row["scene"] for row in found.json if "refused" in row] == ["s7"]
    assert sum("forwards" in row for row in found.json) == 11
    text = segflow("plan", path)
    assert len(text.out.splitlines()) == 11 + 2
    assert "11 scenes" in text.out
    assert "s7" in text.err
