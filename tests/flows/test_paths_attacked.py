"""A scheduled folder into which strangers put things: links, strange names, archives that lead elsewhere."""

from __future__ import annotations

import ast
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.dicoms import write_series

ROOT = Path(__file__).parents[2]
QUICK = {"settle_seconds": 0.2, "retries": 1}
STRANGE = [
    "line\nbreak",
    "quote'\"",
    "$(touch pwned)",
    "`touch pwned`",
    "-rf",
    "; touch pwned",
    "sp ace",
    "%s%d%n",
    "{stem}",
    "<img src=x onerror=alert(1)>",
    "emoji😀",
]


def test_strange_names_are_segmented_or_refused_and_reach_no_shell(making: Any, segflow: Any) -> None:
    making.model()
    source = making.raster("a.tif", shape=(40, 40))
    (making.folder / "in").mkdir()
    for number, name in enumerate(STRANGE):
        data = bytearray(source.read_bytes())
        data += bytes([number])  # other content, the same picture
        (making.folder / "in" / f"{name}.tif").write_bytes(data)
    raw = os.fsencode(making.folder / "in") + b"/latin-\xe9\xff.tif"
    with open(raw, "wb") as file:  # noqa: PTH123 - a name that is no text
        file.write(source.read_bytes() + b"raw")
    recipe = making.recipe(inputs="in", name="night", service=QUICK, outputs={"folder": "out", "stac": True})
    before = set(making.folder.rglob("*"))
    result = segflow("run", recipe, "--new", "--json")
    assert result.code in (0, 1), result.err
    assert "Traceback" not in result.err
    states = {item["scene"]: item["state"] for item in result.json["scenes"]}
    assert states == dict.fromkeys(STRANGE, "done")
    assert r"latin-\udce9\udcff.tif is left out" in result.err
    made = {path for path in set(making.folder.rglob("*")) - before if making.folder / "out" not in path.parents}
    assert made <= {making.folder / "out"}
    assert not list(making.folder.rglob("pwned"))
    assert segflow("status", recipe).code == 0
    page = (making.folder / "out" / "report.html").read_text()
    assert "<img src=x onerror" not in page


def test_links_of_all_kinds_lead_nowhere_else(making: Any, segflow: Any) -> None:
    making.model()
    elsewhere = making.raster("elsewhere/secret.tif", shape=(40, 40), seed=5)
    making.raster("in/own.tif", shape=(40, 40))
    inside = making.folder / "in"
    (inside / "file.tif").symlink_to(elsewhere)
    (inside / "chain.tif").symlink_to("file.tif")
    (inside / "up.tif").symlink_to("../elsewhere/secret.tif")
    (inside / "dangling.tif").symlink_to("nowhere.tif")
    (inside / "loop.tif").symlink_to("loop.tif")
    (inside / "folder").symlink_to(elsewhere.parent)
    (inside / "round").symlink_to(inside)
    (inside / "pipe.tif").symlink_to("/dev/zero")
    os.mkfifo(inside / "fifo.tif")
    recipe = making.recipe(inputs="in/**/*.tif", name="night", service=QUICK)
    result = segflow("run", recipe, "--new", "--json")
    assert "Traceback" not in result.err
    assert [item["scene"] for item in result.json["scenes"] if item["state"] == "done"] == ["own"]
    assert set(making.digests()) == {"own_labels.tif"}
    status = segflow("status", recipe, "--json")
    assert "Traceback" not in status.err


def test_a_dicom_folder_with_a_link_to_elsewhere_is_not_read(making: Any, segflow: Any) -> None:
    making.model("volume")
    rng = np.random.default_rng(1)
    values, affine = rng.integers(0, 255, (20, 22, 18)).astype(np.int16), np.diag([1.0, 1.0, 1.0, 1.0])
    write_series(making.folder / "elsewhere", values, affine, series="s0")
    write_series(making.folder / "in" / "own", values + 1, affine, series="s1")
    (making.folder / "in" / "linked").mkdir()
    for path in (making.folder / "elsewhere").iterdir():
        (making.folder / "in" / "linked" / path.name).symlink_to(path)
    (making.folder / "in" / "whole").symlink_to(making.folder / "elsewhere")
    recipe = making.recipe(kind="volume", inputs="in/*", name="night", service=QUICK, compute={"backend": "torch"})
    result = segflow("run", recipe, "--new", "--json")
    assert "Traceback" not in result.err
    done = [item for item in result.json["scenes"] if item["state"] == "done"]
    assert len(done) == 1
    assert len(making.digests()) == 1


@pytest.mark.parametrize(
    "name", ["../escape.dcm", "/etc/escape.dcm", "a/../../escape.dcm", "..\\escape.dcm", "C:\\escape.dcm"]
)
def test_a_zip_that_leads_out_of_itself_is_refused_and_writes_nothing(making: Any, segflow: Any, name: str) -> None:
    making.model("volume")
    rng = np.random.default_rng(1)
    values, affine = rng.integers(0, 255, (20, 22, 18)).astype(np.int16), np.diag([1.0, 1.0, 1.0, 1.0])
    write_series(making.folder / "series", values, affine)
    (making.folder / "in").mkdir()
    with zipfile.ZipFile(making.folder / "in" / "bad.zip", "w") as archive:
        for path in sorted((making.folder / "series").iterdir()):
            archive.write(path, path.name)
        archive.writestr(name, b"boo")
    with zipfile.ZipFile(making.folder / "in" / "good.zip", "w") as archive:
        for path in sorted((making.folder / "series").iterdir()):
            archive.write(path, path.name)
    (making.folder / "in" / "cut.zip").write_bytes((making.folder / "in" / "good.zip").read_bytes()[:5000])
    for broken in ("bad.zip", "cut.zip"):  # nobody writes to them any more
        os.utime(making.folder / "in" / broken, (1e9, 1e9))
    recipe = making.recipe(kind="volume", inputs="in/*.zip", name="night", service=QUICK, compute={"backend": "torch"})
    result = segflow("run", recipe, "--new", "--json")
    assert result.code == 1, result.err
    assert any("leads out of the archive" in text for text in result.json["unreadable"])
    assert len(result.json["unreadable"]) == 2
    assert [item["state"] for item in result.json["scenes"]] == ["done"]
    assert not list(making.folder.rglob("escape*"))
    assert not list(making.folder.parent.glob("escape*"))


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_no_source_line_reads_yaml_unsafely_or_starts_a_shell() -> None:
    files = [path for top in ("tiling", "segflow", "pipelines", "flows") for path in (ROOT / top).rglob("*.py")]
    assert len(files) > 200
    for path in files:
        for name, call in calls(ast.parse(path.read_text())):
            assert not re.fullmatch(
                r"yaml\.(load|load_all|unsafe_load|full_load)|os\.(system|popen)|eval|exec", name
            ), path
            assert not any(
                word.arg == "shell" and getattr(word.value, "value", None) is not False for word in call.keywords
            ), path
