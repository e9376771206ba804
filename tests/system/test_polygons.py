"""Polygons in programs of Debian's: a real PostGIS, and GDAL's ogrinfo."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import yaml

from pipelines import run
from segflow.errors import OutputError
from segflow.io.exports import Published
from segflow.io.exports.polygons import Polygons
from segflow.recipe import read_recipe
from tests.making import make_model, write_raster
from tests.segflow.io.vectors.scenes import labels, publish
from tests.system.database import PASSWORD, QUOTED, Database, postgis

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with postgis() as found:
        yield found


def write(published: Published, *to: str, **options: Any) -> None:
    exporter = Polygons(to, **options)
    exporter.require(published)
    exporter.write(published)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_a_table_is_made_with_srid_and_indexes_and_holds_what_files_hold(
    tmp_path: Path, database: Database, connectivity: int
) -> None:
    place = f"maps.polygons_{connectivity}"
    published = publish(tmp_path, labels())
    write(published, f"{database.url()}#{place}", "parquet", connectivity=connectivity)
    frame = geopandas.read_parquet(tmp_path / "scene.parquet").sort_values(["class_id", "area_m2"])
    rows = database.ask(
        "SELECT class_id, class_name, area_m2, confidence, ST_SRID(geom), ST_IsValid(geom), ST_Area(geom) "
        f"FROM {place} WHERE scene = 'scene' ORDER BY class_id, area_m2, ST_Area(geom)"
    )
    assert [row[0] for row in rows] == frame["class_id"].tolist()
    assert sorted(row[1] for row in rows) == sorted(frame["class_name"])
    assert {row[3:6] for row in rows} == {(None, 32633, True)}
    assert sorted(row[6] for row in rows) == pytest.approx(sorted(frame.area))
    kinds = {row[0] for row in database.ask("SELECT indexdef FROM pg_indexes WHERE schemaname = 'maps'")}
    assert any("USING gist (geom)" in kind for kind in kinds)
    assert database.ask("SELECT type, srid FROM geometry_columns WHERE f_table_schema = 'maps'")[0] == (
        "MULTIPOLYGON",
        32633,
    )


def test_a_scene_replaces_its_own_rows_and_no_others(tmp_path: Path, database: Database) -> None:
    target = f"{database.url()}#again"
    first, second = labels(), labels(seed=9)
    write(publish(tmp_path / "a", first, scene="a"), target)
    write(publish(tmp_path / "b", first, scene="b"), target)
    before = database.ask("SELECT count(*) FROM again WHERE scene = 'b'")
    write(publish(tmp_path / "a", second, scene="a"), target, "fgb")
    assert database.ask("SELECT count(*) FROM again WHERE scene = 'b'") == before
    written = len(geopandas.read_file(tmp_path / "a" / "a.fgb"))
    assert database.ask("SELECT count(*) FROM again WHERE scene = 'a'") == [(written,)]


def test_a_write_that_fails_leaves_the_rows_that_were_there(tmp_path: Path, database: Database) -> None:
    target = f"{database.url()}#kept"
    write(publish(tmp_path, labels()), target)
    before = database.ask("SELECT count(*), min(id) FROM kept")
    database.ask("ALTER TABLE kept ADD CHECK (class_id < 3) NOT VALID")
    with pytest.raises(OutputError, match="cannot be written"):
        write(publish(tmp_path, labels(seed=9)), target)
    assert database.ask("SELECT count(*), min(id) FROM kept") == before


def test_a_look_at_a_part_leaves_the_rows_of_the_whole(tmp_path: Path, database: Database) -> None:
    target = f"{database.url()}#maps.looked"
    write(publish(tmp_path, labels()), target)
    before = database.ask("SELECT * FROM maps.looked ORDER BY 1")
    look = replace(publish(tmp_path / "look", labels()[:9, :9]), preview=True)
    write(look, target, "fgb")
    assert database.ask("SELECT * FROM maps.looked ORDER BY 1") == before
    assert (tmp_path / "look" / "scene.fgb").is_file()


def test_names_are_quoted(tmp_path: Path, database: Database) -> None:
    write(publish(tmp_path, labels()), f"{database.url()}#Odd%20%22Schema%22.drop%20table;--'x")
    assert database.ask('SELECT count(*) > 0 FROM "Odd ""Schema"""."drop table;--\'x"') == [(True,)]


def test_another_srid_is_refused(tmp_path: Path, database: Database) -> None:
    target = f"{database.url()}#zoned"
    write(publish(tmp_path, labels()), target)
    with pytest.raises(OutputError, match="SRID 32633") as refused:
        write(publish(tmp_path, labels(), crs="EPSG:32634"), target)
    assert "another table" in refused.value.remedy


def test_a_database_without_postgis_is_refused(tmp_path: Path, database: Database) -> None:
    with pytest.raises(OutputError, match="no PostGIS") as refused:
        write(publish(tmp_path, labels()), f"{database.url(database='plain')}#t")
    assert "CREATE EXTENSION" in refused.value.remedy


@pytest.mark.parametrize("password", ["wr0ng%3Apw", QUOTED], ids=["a wrong one", "the right one"])
def test_no_password_is_told(
    tmp_path: Path, database: Database, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = "gis" if password != QUOTED else "no_such_database"
    with caplog.at_level(logging.DEBUG), pytest.raises(OutputError, match="cannot be written") as refused:
        write(publish(tmp_path, labels()), f"{database.url(password, name)}#t")
    exporter = Polygons((f"{database.url(password, name)}#t",))
    told = str(refused.value) + caplog.text + repr(exporter) + repr(exporter.databases) + repr(exporter.settings)
    for secret in (PASSWORD, QUOTED, "wr0ng"):
        assert secret not in told
    assert "127.0.0.1" in told


def test_a_run_takes_the_password_from_the_environment_and_leaves_no_trace_of_it(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAP_PASSWORD", QUOTED)
    raster, model = write_raster(tmp_path / "scene.tif", shape=(90, 80)), make_model(tmp_path / "model")
    target = database.url("${MAP_PASSWORD}") + "#runs.polygons"
    recipe = tmp_path / "run.yaml"
    data = {"kind": "raster", "inputs": str(raster), "model": {"weights": str(model)}}
    recipe.write_text(yaml.safe_dump({**data, "outputs": {"folder": "out", "confidence": True, "polygons": target}}))
    outcome = run(read_recipe(recipe))
    assert outcome.exit_code == 0
    (count, least) = database.ask("SELECT count(*), min(confidence) FROM runs.polygons")[0]
    assert count > 0
    assert least > 0
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert PASSWORD.encode() not in content
            assert QUOTED.encode() not in content


@pytest.mark.parametrize("form", ["gpkg", "fgb", "geojson"])
def test_ogrinfo_opens_the_files(tmp_path: Path, form: str) -> None:
    published = publish(tmp_path, labels(), confidence=np.full((180, 140), 200, np.uint8))
    write(published, form)
    command = ["ogrinfo", "-al", "-so", str(tmp_path / f"scene.{form}")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Warning" not in done.stderr
    assert "Geometry: Polygon" in done.stdout
    assert f"Feature Count: {len(geopandas.read_file(tmp_path / f'scene.{form}'))}" in done.stdout
    for column in ("class_id: Integer", "class_name: String", "area_m2: Real", "confidence: Real"):
        assert column in done.stdout
