"""Recipes as deployments: what a server keeps of them, when they run, and what is told of a change."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows import PREFECT_SETTINGS
from segflow.errors import RecipeError
from segflow.recipe import Recipe

ROOT = Path(__file__).parents[2]


def test_what_a_server_keeps_of_a_recipe_holds_no_value_of_the_environment(
    making: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.prefect.deployments import parameters_of

    monkeypatch.setenv("PLANTED", "planted-secret")
    monkeypatch.setenv("COUNT", "2")
    url = "https://me:${PLANTED}@host/a.tif"
    path = making.recipe(name="kept", inputs=[url], model={"weights": "${PLANTED}"})
    kept = parameters_of(path, {"tiling.block": 64, "compute.workers": 3})
    assert "planted-secret" not in json.dumps(kept)
    assert kept["recipe"]["inputs"] == {"path": [url]}
    assert kept["recipe"]["tiling"] == {"block": 64}
    assert kept["recipe"]["compute"] == {"workers": 3}
    assert kept["recipe"]["base"] == str(making.folder)
    with pytest.raises(RecipeError, match=r"from the environment"):
        parameters_of(making.recipe(compute={"workers": "${COUNT}"}), {})


def test_what_a_server_is_told_of_a_run_that_is_started_here_holds_no_password(making: Any) -> None:
    from segflow.recipe import open_recipe, read_recipe

    url = "https://me:planted-secret@host/a.tif?token=planted-secret"
    recipe = read_recipe(making.recipe(name="told", inputs=[url]))
    assert "planted-secret" in recipe.model_dump_json()
    assert "planted-secret" not in json.dumps(open_recipe(recipe))
    assert Recipe.model_validate(open_recipe(recipe)).name == "told"


def test_the_form_of_a_run_has_every_key_of_a_recipe_with_its_description() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.prefect.flow import segment_new

    schema = parameter_schema(segment_new)
    recipe = schema.definitions["Recipe"]["properties"]
    assert set(recipe) == set(Recipe.model_fields)
    assert all("description" in value or "$ref" in value for value in recipe.values())
    assert "what runs on what" in schema.properties["recipe"]["description"]


@pytest.mark.parametrize(
    ("when", "shown"),
    [
        ({"cron": "0 2 * * *", "timezone": "Europe/Berlin"}, ("0 2 * * *", "Europe/Berlin")),
        ({"interval": 60}, None),
        ({"rrule": "FREQ=WEEKLY;BYDAY=SA"}, None),
    ],
)
def test_a_schedule_is_what_was_asked_for(when: dict[str, Any], shown: tuple[str, str] | None) -> None:
    from flows.prefect.deployments import When

    found = When(**when).schedule()
    if shown is not None:
        assert (found.cron, found.timezone) == shown
    assert When().schedule() is None


def test_a_night_at_half_past_two_runs_once_on_the_days_on_which_clocks_change() -> None:
    """In spring that time is none in Berlin, in autumn it is there twice."""
    from prefect.server.schemas.schedules import CronSchedule

    from flows.prefect.deployments import When

    wanted = When(cron="30 2 * * *", timezone="Europe/Berlin").schedule()
    schedule = CronSchedule(cron=wanted.cron, timezone=wanted.timezone, day_or=wanted.day_or)
    for day, utc in ((datetime(2027, 3, 28, tzinfo=UTC), "01:30"), (datetime(2027, 10, 31, tzinfo=UTC), "00:30")):
        start = day - timedelta(days=1)
        nights = [when.astimezone(UTC) for when in asyncio.run(schedule.get_dates(3, start=start))]
        assert [night.date() for night in nights] == [(start + timedelta(days=n)).date() for n in range(3)]
        assert f"{nights[1]:%H:%M}" == utc


def test_a_schedule_that_cannot_be_is_told_with_a_remedy() -> None:
    from flows.prefect.deployments import When

    with pytest.raises(RecipeError, match="schedule"):
        When(cron="every night").schedule()


def test_without_a_server_what_needs_one_is_refused(making: Any, spawn: Any) -> None:
    recipe = making.recipe()
    for command in (("serve", recipe), ("deploy", recipe, "--pool", "p"), ("prefect", "setup")):
        result = spawn(*command)
        assert result.code == 2
        assert "no Prefect API is configured" in result.err


def test_the_recipes_of_prefect_yaml_can_be_meant() -> None:
    for item in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        assert Recipe.model_validate(item["parameters"]["recipe"]).name == item["name"]
        file, name = item["entrypoint"].split(":")
        assert f"def {name}(" in (ROOT / file).read_text()
        assert item["tags"] == ["segflow"]
        assert item["work_pool"]["job_variables"]["env"] == {**PREFECT_SETTINGS, "DO_NOT_TRACK": "1"}


def test_a_run_that_drifts_from_the_one_before_says_so_in_its_message_and_its_report(making: Any, segflow: Any) -> None:
    making.model()
    making.raster("in/s0.tif", shape=(80, 90))
    service = {"settle_seconds": 0.1, "drift": "1 %"}
    recipe = making.recipe(name="drifts", inputs="in", service=service)
    assert segflow("run", recipe, "--new", "--json", "-q").json["drift"] == []
    out = making.folder / "out"
    first = json.loads((out / "report.json").read_text())
    assert first["drift"] is None
    assert "Compared with runs before" not in (out / "report.html").read_text()
    making.write("in/s2.tif", np.full((3, 80, 90), 7, np.uint8))
    told = segflow("run", recipe, "--new", "--json", "-q").json["drift"]
    assert told
    assert all(line.endswith(" before") for line in told)
    second = json.loads((out / "report.json").read_text())
    assert second["drift"]["told"] == told
    assert second["drift"]["allowed"] == 0.01
    for number, row in enumerate(second["drift"]["classes"]):
        for run, key in ((first, "share_before"), (second, "share")):
            cells = [item["pixels"] for item in run["pooled"]["classes"]]
            assert row[key] == cells[number] / sum(cells)
    page = (out / "report.html").read_text()
    assert 'id="drift"' in page
    assert told[0] in page
    assert told[0] in (out / "report.md").read_text()


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ({"cron": "0 2 * * *", "timezone": "Europe/Berlin"}, "cron 0 2 * * *, Europe/Berlin"),
        ({"interval": 3600}, "every 3,600 s"),
        ({"rrule": "FREQ=WEEKLY;BYDAY=SA"}, "rrule FREQ=WEEKLY;BYDAY=SA, UTC"),
        ({}, "no schedule; each run is started by hand"),
    ],
)
def test_a_schedule_is_told_in_words(when: dict[str, Any], told: str) -> None:
    from flows.prefect.deployments import When

    assert When(**when).told == told


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ({"cron": "0 2 * * *", "timezone": "Europe/Nowhere"}, "--timezone Europe/Nowhere"),
        ({"cron": "0 2 * * *", "timezone": "../etc"}, "--timezone ../etc"),
        ({"timezone": "Europe/Berlin"}, "--timezone Europe/Berlin without a schedule"),
        ({"cron": "99 99 * * *"}, "--cron"),
        ({"rrule": "FREQ=NEVER"}, "--rrule"),
    ],
)
def test_the_flag_that_cannot_be_meant_is_named(when: dict[str, Any], found: str) -> None:
    from flows.prefect.deployments import When

    with pytest.raises(RecipeError) as told:
        When(**when).schedule()
    assert told.value.found.startswith(found)


def test_a_recipe_that_lacks_what_its_flow_needs_is_not_deployed(making: Any) -> None:
    from flows.prefect.deployments import parameters_of

    recipe = making.recipe()
    assert parameters_of(recipe, {})
    with pytest.raises(RecipeError, match="no part `train`"):
        parameters_of(recipe, {}, train=True)


def test_the_form_begins_with_what_is_changed_most_and_shows_keys_as_they_are_written() -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.prefect.flow import segment_new

    schema = parameter_schema(segment_new)
    assert sorted(schema.properties, key=lambda name: schema.properties[name]["position"]) == ["backfill", "recipe"]
    for part in schema.definitions.values():
        for key, value in part.get("properties", {}).items():
            assert value.get("title", key) == key
            assert "<" not in value.get("description", "")  # a page takes it for HTML


@pytest.mark.parametrize("url", ["ftp://host/a", "https://me:word@host/a", "https://host/a?token=1", "host/a"])
def test_a_link_is_to_a_page_and_holds_no_password(url: str) -> None:
    from pydantic import ValidationError

    from segflow.recipe.service import Service

    assert Service(url="https://maps.example/landcover/").url == "https://maps.example/landcover"
    with pytest.raises(ValidationError, match="a URL such as"):
        Service(url=url)


def as_a_form_sends(schema: dict[str, Any], part: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """Return what was written with all defaults that a form made of the schema shows."""
    sent: dict[str, Any] = {}
    for key, field in part["properties"].items():
        if "$ref" in field:
            sent[key] = as_a_form_sends(schema, schema[field["$ref"].rsplit("/", 1)[-1]], written.get(key, {}))
        elif key in written or "default" in field:
            sent[key] = written.get(key, field.get("default"))
    return sent


@pytest.mark.parametrize("kind", ["raster", "volume"])
@pytest.mark.parametrize("tiling", [{}, {"overlap": "auto"}, {"patch": "auto", "overlap": "auto"}])
def test_a_run_that_is_started_from_the_form_is_of_the_recipe_as_it_is_written(kind: str, tiling: Any) -> None:
    from prefect.utilities.callables import parameter_schema

    from flows.ledger.intake import fingerprint_of
    from flows.prefect.flow import segment_new

    schema = parameter_schema(segment_new).definitions
    written = {"kind": kind, "inputs": {"path": "in"}, "model": {"weights": "builtin:landcover-rgb"}, "tiling": tiling}
    sent = as_a_form_sends(schema, schema["Recipe"], written)
    assert sent["outputs"]["nodata"] == 255
    plain, formed = Recipe.model_validate(written), Recipe.model_validate(sent)
    assert formed == plain
    assert fingerprint_of(formed) == fingerprint_of(plain)
    assert formed.tiling.model_fields_set & {"blend", "tolerance"} == set()
    assert "name" not in formed.outputs.model_fields_set  # a patient's folder must not name a scene again
