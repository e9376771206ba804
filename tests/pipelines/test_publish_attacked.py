"""Publishing under attack: cut off, refused, spoiled, done twice at once; and what a reader finds in the place."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Any
from urllib.parse import unquote, urlsplit

import pydicom
import pystac
import pytest
import rasterio
from fsspec.core import url_to_fs

from pipelines import run
from pipelines.publishing.publish import publish
from segflow.errors import OutputError
from segflow.io.depot import Depot
from segflow.io.manifest import Manifest, StoredFile
from segflow.report import run_report
from tests.flows.clusters import object_store
from tests.making import write_raster
from tests.pipelines.listing import UPLOADING, listed
from tests.pipelines.relay import relay
from tests.pipelines.test_mosaic import cut, recipe_of
from tests.pipelines.test_publish import dicom_file

NOW = datetime(2026, 11, 22, 2, 0, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


# --- what a reader finds


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """A place to which two nights were published, each with a scene of its own; the second knows of both."""
    folder = tmp_path_factory.mktemp("nights")
    sheets = cut(write_raster(folder / "scene.tif", (100, 180)), folder / "in", (0, 100), (0, 90, 180))
    outputs = {"stac": True, "vrt": True, "qml": True, "taken": "2026-11-22"}
    for known in (sheets[:1], sheets):
        parts = {"name": "town", "outputs": outputs, "publish": str(folder / "shared")}
        assert run(recipe_of(folder / "out", known, model, False, **parts)).exit_code == 0
    return folder / "shared"


def test_what_a_published_collection_links_to_is_there(nights: Path) -> None:
    runs = Depot(str(nights)).runs()
    assert [set(item.scenes) for item in runs] == [{"r0_c0"}, {"r0_c90"}]
    for manifest in runs:
        place = nights / manifest.run
        collection = pystac.Collection.from_file(str(place / "collection.json"))
        items = list(collection.get_items(recursive=True))
        assert {item.id for item in items} == set(manifest.scenes)
        for item in items:
            assert item.get_collection() is collection
            hrefs = {asset.get_absolute_href() or "" for asset in item.assets.values()}
            hrefs |= {link.get_absolute_href() or "" for link in item.links}
            for href in hrefs:
                assert Path(unquote(urlsplit(href).path)).is_file(), href
        for href in (link["href"] for link in json.loads((place / "collection.json").read_text())["links"]):
            assert href.startswith("./")


def test_a_published_vrt_has_its_label_maps_beside_it(nights: Path) -> None:
    for manifest in Depot(str(nights)).runs():
        place = nights / manifest.run
        assert (place / "town.qml").is_file()
        (name,) = manifest.scenes
        with rasterio.open(place / "town.vrt") as whole, rasterio.open(place / f"{name}_labels.tif") as one:
            assert {Path(file).name for file in whole.files} == {"town.vrt", f"{name}_labels.tif"}
            assert (whole.read(1) == one.read(1)).all()


def test_manifests_tell_of_the_very_bytes_that_are_there(nights: Path) -> None:
    for manifest in Depot(str(nights)).runs():
        there = {path.name for path in (nights / manifest.run).iterdir()}
        assert there == {item.name for item in manifest.files} | {"manifest.json"}
        for item in manifest.files:
            data = (nights / manifest.run / item.name).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (item.bytes, item.sha256)


# --- retention


def put(depot: Depot, folder: Path, night: int, *scenes: str, good: bool = True) -> str:
    """Put a run that holds scenes; return its name."""
    folder.mkdir(exist_ok=True)
    (folder / "file").write_text(f"night {night}")
    data = (folder / "file").read_bytes()
    item = StoredFile("file", hashlib.sha256(data).hexdigest(), len(data))
    made = Manifest("", good, dict.fromkeys(scenes, f"print {night}"), (item,))
    return depot.put(f"{night:08d}", {"file": folder / "file"}, made, NOW + timedelta(night)).run


@pytest.mark.parametrize(("keep", "days"), [(1, None), (None, 0.5), (1, 0.5)])
def test_a_run_with_the_only_copy_of_a_scene_stays_where_scenes_are_spared(
    tmp_path: Path, keep: int | None, days: float | None
) -> None:
    depot = Depot(str(tmp_path / "shared"))
    scenes = [("old", "again"), ("again",), ("again", "b"), ("b",), ("c",)]
    names = [put(depot, tmp_path / "files", night, *held) for night, held in enumerate(scenes)]
    removed = depot.prune(keep, days, NOW + timedelta(10), spare_scenes=True)
    assert removed == (names[1],)
    held = {scene for item in depot.runs() for scene in item.scenes}
    assert held == {"old", "again", "b", "c"}
    assert depot.prune(keep, days, NOW + timedelta(10), spare_scenes=True) == ()
    assert depot.prune(keep, days, NOW + timedelta(10)) == (names[0], *names[2:4])


def test_a_place_that_cannot_be_pruned_has_what_was_sent_and_is_not_sent_it_again(tmp_path: Path, model: Path) -> None:
    raster = write_raster(tmp_path / "a.tif", (70, 66))
    recipe = recipe_of(tmp_path / "out", [raster], model, False, publish={"to": str(tmp_path / "shared"), "keep": 1})
    broken = tmp_path / "shared" / f"{NOW:%Y%m%dT%H%M%SZ}-00000000"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{")
    outcome = run(recipe)
    assert outcome.exit_code == 1
    assert "remove that folder" in outcome.unpublished[0]
    sent = json.loads((tmp_path / "out" / "published.json").read_text())
    assert set(sent[str(tmp_path / "shared")]) == {"a"}


# --- two at once


def test_a_reader_of_a_file_that_is_sent_again_reads_it_to_its_end(tmp_path: Path) -> None:
    source, target = tmp_path / "files", tmp_path / "shared"
    source.mkdir()
    (source / "a").write_bytes(os.urandom(3_000_000))
    begun = target / f"{NOW:%Y%m%dT%H%M%SZ}-c0ffee00"
    begun.mkdir(parents=True)
    before = os.urandom(3_000_000)
    (begun / "a").write_bytes(before)
    with (begun / "a").open("rb") as reader:
        first = reader.read(1000)
        Depot(str(target)).put("c0ffee00", *listed(source), NOW)
        assert first + reader.read() == before
    assert (begun / "a").read_bytes() == (source / "a").read_bytes()


def test_latest_is_the_last_of_many_that_publish_at_once(tmp_path: Path) -> None:
    target = str(tmp_path / "shared")
    for turn in range(5):
        many = [
            Thread(target=put, args=(Depot(target), tmp_path / f"files-{number}", 10 * turn + number, f"s{number}"))
            for number in range(6)
        ]
        for one in many:
            one.start()
        for one in many:
            one.join()
        runs = Depot(target).runs()
        assert len(runs) == 6 * (turn + 1)
        latest = json.loads((tmp_path / "shared" / "latest.json").read_text())
        assert latest == {"run": runs[-1].run, "good": runs[-1].run}


# --- cut off and refused, by a real server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server that speaks S3."""

    def wait(holds: Any, what: str, seconds: float = 60) -> None:
        end = monotonic() + seconds
        while not holds():
            assert monotonic() < end, f"{what} did not come"
            sleep(0.05)

    with object_store(tmp_path_factory.mktemp("s3"), wait) as url:
        yield url


@pytest.fixture
def store(server: str, request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of its own for a test; its URL."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    forget()
    bucket = hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    system, _ = url_to_fs(f"s3://{bucket}", use_listings_cache=False, skip_instance_cache=True)
    system.mkdir(bucket)
    yield f"s3://{bucket}/nightly"
    forget()


def forget() -> None:
    """Forget stores: fsspec keeps one for each address, not for each environment."""
    url_to_fs("s3://x")[0].clear_instance_cache()


def read_latest(where: str) -> dict[str, bytes] | None:
    """Read what `latest.json` points to as a reader does; None where there is no such thing."""
    system, root = url_to_fs(where, use_listings_cache=False)
    try:
        name = json.loads(system.cat_file(f"{root}/latest.json"))["run"]
    except FileNotFoundError:
        return None
    manifest = json.loads(system.cat_file(f"{root}/{name}/manifest.json"))
    found = {item["name"]: system.cat_file(f"{root}/{name}/{item['name']}") for item in manifest["files"]}
    for item in manifest["files"]:
        assert hashlib.sha256(found[item["name"]]).hexdigest() == item["sha256"]
    return found


def test_killed_between_any_two_objects_a_reader_never_sees_a_half(tmp_path: Path, server: str, store: str) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        for file in "ab":
            (tmp_path / name / file).write_text(f"{file} of {name}")
    Depot(store).put("01d01d01", *listed(tmp_path / "old"), NOW)
    old, new = ({file: f"{file} of {name}".encode() for file in "ab"} for name in ("old", "new"))
    assert read_latest(store) == old
    puts, dead, seen = 4, 0, []  # two files, manifest, pointer
    for deadly in range(puts + 1):
        running: list[subprocess.Popen[bytes]] = []

        def verdict(number: int, _: str, deadly: int = deadly, running: Any = running) -> str:
            if number == deadly:
                running[0].kill()
                return "lose"
            return "pass"

        with relay(server, verdict) as url:
            env = {**os.environ, "AWS_ENDPOINT_URL": url}
            command = [sys.executable, "-c", UPLOADING, str(tmp_path / "new"), store, "0e30e30e"]
            running.append(subprocess.Popen(command, cwd=ROOT, env=env))
            dead += running[0].wait() != 0
        seen.append(read_latest(store))
        if deadly < puts - 1:  # no manifest yet
            assert [item.run[-8:] for item in Depot(store).runs()] == ["01d01d01"]
    assert dead == puts
    assert seen == [old] * puts + [new]
    assert [item.run[-8:] for item in Depot(store).runs()] == ["01d01d01", "0e30e30e"]


@pytest.mark.parametrize(
    ("how", "what"),
    [
        *(("refuse", name) for name in ("/b", "/manifest.json", "/latest.json")),
        *(("lose", name) for name in ("/b", "/latest.json")),
        ("spoil", "/b"),
    ],
)
def test_what_is_refused_lost_or_spoiled_leaves_the_latest_and_is_told_and_comes_with_the_next_try(
    tmp_path: Path, server: str, store: str, monkeypatch: pytest.MonkeyPatch, how: str, what: str
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        for file in "ab":
            (tmp_path / name / file).write_text(f"{file} of {name}")
    Depot(store).put("01d01d01", *listed(tmp_path / "old"), NOW)
    before = read_latest(store)
    with relay(server, lambda _, path: how if path.endswith(what) else "pass") as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        forget()
        with pytest.raises(OutputError, match="next run") as caught:
            Depot(store).put("0e30e30e", *listed(tmp_path / "new"), NOW + timedelta(1))
    assert store in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    forget()
    assert read_latest(store) == before
    Depot(store).put("0e30e30e", *listed(tmp_path / "new"), NOW + timedelta(2))
    assert read_latest(store) == {file: f"{file} of new".encode() for file in "ab"}


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
"""


def test_a_full_disk_leaves_the_latest_and_no_half_file(tmp_path: Path) -> None:
    source, target = tmp_path / "files", tmp_path / "shared"
    source.mkdir()
    (source / "a").write_text("small")
    Depot(str(target)).put("01d01d01", *listed(source), NOW)
    (source / "b").write_bytes(os.urandom(100_000))
    command = [sys.executable, "-c", LIMITED + UPLOADING, str(source), str(target), "0e30e30e"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 1
    assert "File too large" in found.stderr
    assert "the next run publishes what is missing" in found.stderr
    assert [path.name for path in target.rglob("*b*") if path.is_file()] == []
    assert read_latest(str(target)) == {"a": b"small"}
    subprocess.run([*command[:2], UPLOADING, *command[3:]], cwd=ROOT, check=True)
    assert set(read_latest(str(target)) or ()) == {"a", "b"}


def test_an_archive_that_takes_no_such_kind_keeps_none_behind_it_and_is_told(tmp_path: Path, model: Path) -> None:
    from pynetdicom import AE, evt

    write_raster(tmp_path / "a.tif", (70, 66))
    one = run(recipe_of(tmp_path / "out", [tmp_path / "a.tif"], model, False)).report.scenes[0]
    assert one.report is not None
    states, arrived = [], []
    for name, kind in (("b", pydicom.uid.CTImageStorage), ("c", pydicom.uid.RawDataStorage)):
        facts = dicom_file(tmp_path / "out" / f"{name}.dcm", kind)
        found = one.report.model_copy(update={"scene": name, "outputs": (facts,), "exports": ()})
        states.append(one.model_copy(update={"scene": name, "report": found}))

    def keep(event: Any) -> int:
        arrived.append(str(event.dataset.PatientID))
        return 0

    entity = AE("ARCHIVE")
    entity.add_supported_context(pydicom.uid.RawDataStorage)
    archive = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    try:
        port = archive.socket.getsockname()[1]
        to = f"dicom://ARCHIVE@127.0.0.1:{port}"
        recipe = recipe_of(tmp_path / "out", [tmp_path / "a.tif"], model, False, publish=to)
        (error,) = publish(recipe, run_report("night", states), tmp_path / "out")
    finally:
        archive.shutdown()
    assert arrived == ["c"]
    assert "b.dcm" in error
    assert "does not take" in error
