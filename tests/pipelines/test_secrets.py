"""What only the one who runs may know: in no report, page, item or recipe that lies beside the results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import run
from pipelines.publishing.rebuild import rebuild
from segflow.recipe import open_text, parse_recipe
from tests.making import make_model, write_raster
from tests.segflow.io.test_raster import SERVER

SECRET = "planted7Secret"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A raster and its reference on a server, and a model for it."""
    folder = tmp_path_factory.mktemp("served")
    model = make_model(folder / "model")
    write_raster(folder / "a.tif", shape=(70, 66))
    with subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        yield f"127.0.0.1:{host.stdout.readline().strip()}", model
        host.kill()


@pytest.mark.parametrize(
    "url",
    ["http://{}/a.tif?X-Sign=1&key=${{PLANTED}}", "http://me:${{PLANTED}}@{}/a.tif", "http://${{PLANTED}}@{}/a.tif"],
)
def test_nothing_that_is_written_tells_what_gives_access_to_an_input(
    tmp_path: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("PLANTED", SECRET)
    outputs = {"folder": str(tmp_path / "out"), "stac": True, "taken": "2026-11-25"}
    recipe = parse_recipe(
        {"kind": "raster", "inputs": url.format(served[0]), "model": {"weights": str(served[1])}, "outputs": outputs},
        tmp_path,
    )
    assert run(recipe).exit_code == 0
    rebuild(tmp_path / "out")
    report = json.loads((tmp_path / "out" / "a_report.json").read_text())
    assert report["inputs"] == [f"http://{served[0]}/a.tif"]
    assert "***" in report["run"]["recipe"]
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(found) > 8
    assert not [path.name for path in found if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"at https://me:{SECRET}@h/x.tif, gone", "at https://me:***@h/x.tif, gone"),
        (f"postgresql://me:a@{SECRET}@h/db#s.t", "postgresql://me:***@h/db#s.t"),
        (f"https://{SECRET}@h/x", "https://***@h/x"),
        (f"'https://h/x?a=b&sv={SECRET}'", "'https://h/x?a=***&sv=***'"),
        (f"host=h password={SECRET} user=me", "host=h password=*** user=me"),
        ("s3://bucket/a?.tif dicom://AE@host:104", "s3://bucket/a?.tif dicom://AE@host:104"),
    ],
)
def test_a_text_is_opened_without_what_its_urls_hold(text: str, shown: str) -> None:
    assert open_text(text) == shown
