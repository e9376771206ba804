"""Results that are sent elsewhere: complete or not at all, each once, old ones removed, and the last good one never."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pydicom
import pytest

from pipelines import run
from pipelines.planning.scenes import Selection
from pipelines.publishing.outputs import file_facts
from pipelines.publishing.publish import publish
from segflow.errors import OutputError, RecipeError
from segflow.io.depot import Depot
from segflow.io.manifest import Manifest, StoredFile
from segflow.recipe import Recipe, parse_recipe
from segflow.report import FileFacts, run_report
from tests.flows.clusters import object_store
from tests.making import make_model, write_raster
from tests.pipelines.listing import UPLOADING

NOW = datetime(2026, 11, 22, 2, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("scenes")
    for number, name in enumerate("ab"):
        write_raster(folder / f"{name}.tif", shape=(70, 66), seed=number)
    model = make_model(folder / "model")
    return {"kind": "raster", "inputs": str(folder / "?.tif"), "model": {"weights": str(model)}}


def recipe_of(folder: Path, scenes: dict[str, Any], to: Any, **more: Any) -> Recipe:
    outputs = {"folder": str(folder / "out"), "qml": True}
    return parse_recipe({**scenes, "outputs": outputs, "publish": to, **more}, folder)


def require_whole(where: str, names: set[str]) -> Manifest:
    """Require the newest run to be there as its manifest tells, and return that."""
    from fsspec.core import url_to_fs

    system, root = url_to_fs(where, use_listings_cache=False)
    latest = json.loads(system.cat_file(f"{root}/latest.json"))["run"]
    manifest = Depot(where).runs()[-1]
    assert manifest.run == latest
    assert set(manifest.scenes) == names
    for item in manifest.files:
        data = system.cat_file(f"{root}/{latest}/{item.name}")
        assert (len(data), hashlib.sha256(data).hexdigest()) == (item.bytes, item.sha256)
    kinds = ("_labels.tif", "_labels.tif.aux.xml", "_labels.qml", "_report.json", "_report.html")
    assert {f"{name}{kind}" for name in names for kind in kinds} <= {item.name for item in manifest.files}
    return manifest


def test_a_run_is_published_to_a_folder_once(tmp_path: Path, scenes: dict[str, Any]) -> None:
    recipe = recipe_of(tmp_path, scenes, "shared")
    assert run(recipe).exit_code == 0
    first = require_whole(str(tmp_path / "shared"), {"a", "b"})
    assert first.good
    assert run(recipe).exit_code == 0
    assert [item.run for item in Depot(str(tmp_path / "shared")).runs()] == [first.run]


def test_the_next_run_publishes_what_is_new_only(tmp_path: Path, scenes: dict[str, Any]) -> None:
    inputs = [str(Path(scenes["inputs"]).with_name(f"{name}.tif")) for name in "ab"]
    run(recipe_of(tmp_path, scenes | {"inputs": inputs[:1]}, "shared"))
    run(recipe_of(tmp_path, scenes | {"inputs": inputs}, "shared"))
    assert [set(item.scenes) for item in Depot(str(tmp_path / "shared")).runs()] == [{"a"}, {"b"}]


@pytest.fixture
def bucket(tmp_path: Path, wait_for: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket in a real server that speaks S3."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with object_store(tmp_path, wait_for) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        import s3fs

        s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True).mkdir("results")
        yield "s3://results/nightly"


@pytest.fixture
def wait_for() -> Any:
    """Waits until something holds."""

    def wait(holds: Any, what: str, seconds: float = 60) -> None:
        end = monotonic() + seconds
        while not holds():
            assert monotonic() < end, f"{what} did not come"
            sleep(0.05)

    return wait


def test_a_run_is_published_to_an_object_store(tmp_path: Path, scenes: dict[str, Any], bucket: str) -> None:
    recipe = recipe_of(tmp_path, scenes, [bucket, "beside"])
    assert run(recipe).exit_code == 0
    assert require_whole(bucket, {"a", "b"}).files == require_whole(str(tmp_path / "beside"), {"a", "b"}).files


def test_a_destination_that_cannot_be_reached_costs_no_result_and_is_tried_by_the_next_run(
    tmp_path: Path, scenes: dict[str, Any]
) -> None:
    (tmp_path / "shared").write_text("a file in the way")
    recipe = recipe_of(tmp_path, scenes, ["shared", "other"])
    outcome = run(recipe)
    assert outcome.exit_code == 1
    assert "shared cannot be used" in outcome.unpublished[0]
    assert (tmp_path / "out" / "a_labels.tif").is_file()
    require_whole(str(tmp_path / "other"), {"a", "b"})
    (tmp_path / "shared").unlink()
    assert run(recipe).exit_code == 0
    require_whole(str(tmp_path / "shared"), {"a", "b"})
    assert len(Depot(str(tmp_path / "other")).runs()) == 1


def test_a_file_that_was_changed_since_its_report_is_not_published(tmp_path: Path, scenes: dict[str, Any]) -> None:
    report = run(recipe_of(tmp_path, scenes, None)).report
    (tmp_path / "out" / "b_labels.tif").write_bytes(b"something else")
    (error,) = publish(recipe_of(tmp_path, scenes, "shared"), report, tmp_path / "out")
    assert "b_labels.tif is not as it was written" in error
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize("look", [{"window": (0, 0, 40, 40)}, {"bbox": (0.0, 0.0, 1e7, 1e7)}])
def test_a_look_at_a_part_is_not_published(tmp_path: Path, scenes: dict[str, Any], look: dict[str, Any]) -> None:
    assert run(recipe_of(tmp_path, scenes, "shared"), Selection(**look)).exit_code == 0
    assert not (tmp_path / "shared").exists()


def dicom_file(path: Path, kind: str = pydicom.uid.RawDataStorage) -> FileFacts:
    """Write a DICOM file of no pixels."""
    found = pydicom.Dataset()
    found.SOPClassUID, found.SOPInstanceUID = kind, pydicom.uid.generate_uid(None, [path.name])
    found.PatientID, found.file_meta = path.stem, pydicom.dataset.FileMetaDataset()
    found.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    found.save_as(path, enforce_file_format=True)
    return file_facts(path, path.parent)


def test_a_scene_that_an_archive_refuses_keeps_none_behind_it(tmp_path: Path, scenes: dict[str, Any]) -> None:
    from pynetdicom import AE, evt

    refused, arrived = {"b"}, []

    def store(event: Any) -> int:
        name = str(event.dataset.PatientID)
        arrived.append(name)
        return 0xA700 if name in refused else 0

    one = run(recipe_of(tmp_path, scenes, None)).report.scenes[0]
    states = []
    for name in "abecd":
        files = () if name == "a" else (dicom_file(tmp_path / "out" / f"{name}.dcm"),)
        found = one.report.model_copy(update={"scene": name, "outputs": files, "exports": ()})
        states.append(one.model_copy(update={"scene": name, "report": found}))
    (tmp_path / "out" / "d.dcm").write_text("damaged")
    odd = pydicom.dcmread(tmp_path / "out" / "e.dcm")
    del odd.SOPClassUID
    odd.save_as(tmp_path / "out" / "e.dcm")
    report = run_report("night", states)
    entity = AE("ARCHIVE")
    entity.add_supported_context(pydicom.uid.RawDataStorage)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        port = server.socket.getsockname()[1]
        recipe = recipe_of(tmp_path, scenes, f"dicom://ARCHIVE@127.0.0.1:{port}")
        errors = publish(recipe, report, tmp_path / "out")
        assert arrived == ["b", "c"]
        for error, told in zip(
            errors,
            ("a has no DICOM file", "did not store b.dcm", "e: AttributeError", "d.dcm cannot be read"),
            strict=True,
        ):
            assert told in error
        refused.clear()
        assert len(publish(recipe, report, tmp_path / "out")) == 3
        assert arrived == ["b", "c", "b"]
    finally:
        server.shutdown()
    gone = publish(recipe_of(tmp_path, scenes, f"dicom://OTHER@127.0.0.1:{port}"), report, tmp_path / "out")
    assert len(gone) == 2
    assert "cannot be reached" in gone[1]


def test_an_upload_that_is_killed_is_no_run_and_is_finished_by_the_next(tmp_path: Path) -> None:
    source, target = tmp_path / "files", tmp_path / "shared"
    source.mkdir()
    for number in range(300):
        (source / f"{number}").write_bytes(os.urandom(20_000))
    command = [sys.executable, "-c", UPLOADING, str(source), str(target), "c0ffee00"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        while not list(target.glob("*/1*")):
            assert process.poll() is None
            sleep(0.001)
        process.send_signal(signal.SIGKILL)
    if not list(target.glob("*/manifest.json")):  # the machine may have been faster than the kill
        assert Depot(str(target)).runs() == []
        assert not (target / "latest.json").exists()
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
    (manifest,) = Depot(str(target)).runs()
    assert len(list(target.glob("*/"))) == 1
    assert all((target / manifest.run / item.name).stat().st_size == item.bytes for item in manifest.files)


@pytest.mark.parametrize(
    ("good", "keep", "days", "left"),
    [
        ([True, True, True, True], 2, None, [2, 3]),
        ([True, False, False, False], 1, None, [0, 3]),
        ([True, True, True, True], None, 1.5, [2, 3]),
        ([True, False, False, False], 1, 0.5, [0, 3]),
        ([False, False, False, False], 1, 0.5, [3]),
        ([True, True, True, True], 10, 100, [0, 1, 2, 3]),
    ],
)
def test_old_runs_go_by_number_and_age_and_the_last_good_one_never(
    tmp_path: Path, good: list[bool], keep: int | None, days: float | None, left: list[int]
) -> None:
    depot = Depot(str(tmp_path / "shared"))
    (tmp_path / "file").write_text("x")
    item = StoredFile("file", hashlib.sha256(b"x").hexdigest(), 1)
    for night, whole in enumerate(good):
        depot.put(f"{night:08d}", {"file": tmp_path / "file"}, Manifest("", whole, {}, (item,)), NOW + timedelta(night))
    broken = tmp_path / "shared" / f"{NOW - timedelta(3):%Y%m%dT%H%M%SZ}-deadbeef"
    broken.mkdir()
    depot.prune(keep, days, NOW + timedelta(3, hours=1))
    nights = sorted(path.name for path in (tmp_path / "shared").glob("*/"))
    assert nights == [f"{NOW + timedelta(night):%Y%m%dT%H%M%SZ}-{night:08d}" for night in left]
    latest = json.loads((tmp_path / "shared" / "latest.json").read_text())
    assert latest["run"] == nights[-1]
    assert latest["good"] in (*nights, None)


def put_one(depot: Depot, folder: Path, content: str, now: datetime) -> str:
    """Put a run of one file; return its name."""
    (folder / "file").write_text("x")
    item = StoredFile("file", hashlib.sha256(b"x").hexdigest(), 1)
    return depot.put(content, {"file": folder / "file"}, Manifest("", True, {}, (item,)), now).run


def test_latest_is_what_was_put_last_also_where_it_was_there_before(tmp_path: Path) -> None:
    depot = Depot(str(tmp_path / "shared"))
    for night, content in enumerate(("aaaaaaaa", "bbbbbbbb", "aaaaaaaa")):
        put = put_one(depot, tmp_path, content, NOW + timedelta(night))
        assert json.loads((tmp_path / "shared" / "latest.json").read_text()) == {"run": put, "good": put}
    assert put_one(depot, tmp_path, "aaaaaaaa", NOW + timedelta(9)) == put


@pytest.mark.parametrize("later", [timedelta(-30), timedelta(0)])
def test_a_clock_that_goes_back_or_stands_makes_no_old_run_the_latest(tmp_path: Path, later: timedelta) -> None:
    depot = Depot(str(tmp_path / "shared"))
    put_one(depot, tmp_path, "ffffffff", NOW)
    put = put_one(depot, tmp_path, "00000000", NOW + later)
    assert json.loads((tmp_path / "shared" / "latest.json").read_text())["run"] == put
    depot.prune(1, None, NOW + later)
    assert [item.run for item in depot.runs()] == [put]


@pytest.mark.parametrize("name", ["20250101T000000Z", "20250101T000000Z-survey", "20250101T000000Z-c0ffee00-old"])
def test_a_folder_of_somebody_else_is_never_pruned(tmp_path: Path, name: str) -> None:
    depot = Depot(str(tmp_path / "shared"))
    put_one(depot, tmp_path, "aaaaaaaa", NOW)
    (tmp_path / "shared" / name).mkdir()
    (tmp_path / "shared" / name / "precious").write_text("x")
    assert depot.prune(1, 1, NOW + timedelta(400)) == ()
    assert (tmp_path / "shared" / name / "precious").is_file()


@pytest.mark.parametrize(
    "to",
    [
        "s3://me:secret@bucket/x",
        "https://host/x?k=secret",
        "dicom://host:104",
        "dicom://A@host:70000",
        [],
        {"to": "x", "keep": 0},
    ],
)
def test_what_cannot_be_meant_is_refused_and_no_password_is_repeated(
    tmp_path: Path, scenes: dict[str, Any], to: Any
) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(tmp_path, scenes, to)
    assert "secret" not in str(caught.value)


def test_a_damaged_manifest_is_told_by_name(tmp_path: Path) -> None:
    run_folder = tmp_path / f"{NOW:%Y%m%dT%H%M%SZ}-00000000"
    run_folder.mkdir()
    (run_folder / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match=r"00000000/manifest\.json cannot be read"):
        Depot(str(tmp_path)).runs()
