"""`run --new`: what is new, exactly once; what is broken blocks nobody; what is killed comes back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from time import process_time
from typing import Any

import pytest

SERVICE = {"settle_seconds": 0.2, "retries": 2, "lease_seconds": 8}


@pytest.fixture
def nightly(making: Any) -> Callable[..., Path]:
    """Make a model, scenes and a recipe that is run every night."""

    def made(scenes: int = 2, shape: tuple[int, int] = (80, 90), **parts: Any) -> Path:
        making.model()
        for number in range(scenes):
            making.raster(f"in/s{number}.tif", seed=number, shape=shape)
        (making.folder / "in").mkdir(exist_ok=True)
        service = SERVICE | parts.pop("service", {})
        return Path(making.recipe(**({"name": "nights", "inputs": "in", "service": service} | parts)))

    return made


def new(segflow: Any, recipe: Path, *more: str) -> Any:
    found = segflow("run", recipe, "--new", "--json", "-q", *more)
    assert found.code in (0, 1), found.err
    return found.json


def grow(path: Path, over: Event) -> None:
    """Write to a file as a slow copy does."""
    with path.open("wb") as file:
        while not over.wait(0.02):
            file.write(b"II*\0")
            file.flush()


def tried(night: Any) -> dict[str, str]:
    return {item["scene"]: item["state"] for item in night["scenes"]}


def counts(segflow: Any, recipe: Path) -> dict[str, int]:
    found = segflow("status", recipe, "--json").json["counts"]
    return {state: n for state, n in found.items() if n}


def test_each_night_does_what_is_new_and_nothing_else(making: Any, segflow: Any, nightly: Any) -> None:
    recipe = nightly()
    assert counts(segflow, recipe) == {"waiting": 2}
    assert tried(new(segflow, recipe)) == {"s0": "done", "s1": "done"}
    assert counts(segflow, recipe) == {"done": 2}
    night = new(segflow, recipe)
    assert (night["scenes"], night["known"], night["state"]) == ([], 2, "done")
    making.raster("in/s2.tif", seed=2, shape=(80, 90))
    assert tried(new(segflow, recipe)) == {"s2": "done"}
    making.raster("in/s0.tif", seed=9, shape=(80, 90))  # the same name, delivered anew
    assert tried(new(segflow, recipe)) == {"s0": "done"}
    os.utime(making.folder / "in" / "s1.tif")  # another time, the same content
    shutil.copy(making.folder / "in" / "s1.tif", making.folder / "in" / "copy.tif")
    assert new(segflow, recipe)["scenes"] == []
    assert segflow("run", recipe, "--set", f"outputs.folder={making.folder / 'direct'}", "--limit", "3").code == 0
    direct = making.digests("direct")
    assert {name: making.digests("out").get(name, digest) for name, digest in direct.items()} == direct
    assert (making.folder / "out" / "ledger.sqlite").exists()
    assert not (making.folder / "out" / ".segflow").exists()


def test_an_empty_folder_is_no_error(segflow: Any, nightly: Any) -> None:
    recipe = nightly(scenes=0)
    assert new(segflow, recipe)["state"] == "done"
    assert segflow("run", recipe).code == 2


def test_other_weights_or_settings_touch_only_what_is_new_unless_backfill(
    making: Any, segflow: Any, nightly: Any
) -> None:
    recipe = nightly(scenes=1)
    new(segflow, recipe)
    other = ("--set", f"model.weights={making.model(name='other', seed=4)}")
    assert new(segflow, recipe, *other)["scenes"] == []
    before = making.digests()
    assert tried(new(segflow, recipe, *other, "--backfill")) == {"s0": "done"}
    assert making.digests() != before
    assert new(segflow, recipe, *other, "--backfill")["scenes"] == []
    assert new(segflow, recipe, *other, "--backfill", "--set", "tiling.block=32")["scenes"] == []
    assert tried(new(segflow, recipe, *other, "--backfill", "--set", "tiling.overlap=0.5")) == {"s0": "done"}


def test_a_recipe_that_was_renamed_finds_its_scenes_whole(segflow: Any, nightly: Any) -> None:
    recipe = nightly(scenes=1)
    assert tried(new(segflow, recipe)) == {"s0": "done"}
    for state in ("unchanged", None):
        assert tried(new(segflow, recipe, "--set", "name=another")).get("s0") == state


def test_a_broken_scene_comes_to_quarantine_and_blocks_nobody(making: Any, segflow: Any, nightly: Any) -> None:
    recipe = nightly(service={"max_failed": "50 %"})
    broken = making.folder / "in" / "broken.tif"
    broken.write_bytes(b"II*\0 no more")
    night = new(segflow, recipe)
    assert tried(night) == {"broken": "refused", "s0": "done", "s1": "done"}
    assert (night["state"], night["quarantined"]) == ("degraded", [])
    night = new(segflow, recipe)
    assert tried(night) == {"broken": "refused"}
    assert (night["state"], night["quarantined"]) == ("failed", ["broken"])
    assert new(segflow, recipe)["scenes"] == []
    shown = segflow("status", recipe, "--log", "broken").out
    assert "broken: quarantined" in shown
    assert "cannot be opened" in shown
    assert segflow("retry", recipe, "--failed").code == 0
    assert tried(new(segflow, recipe)) == {"broken": "refused"}
    broken.unlink()
    making.raster("in/broken.tif", shape=(80, 90), seed=5)  # delivered again, whole
    assert tried(new(segflow, recipe)) == {"broken": "done"}


@pytest.mark.slow
def test_retry_and_forget_let_a_scene_be_done_again(making: Any, segflow: Any, nightly: Any) -> None:
    recipe = nightly()
    new(segflow, recipe)
    assert segflow("retry", recipe, "s0", "--json").json == {"scenes": ["s0"]}
    assert tried(new(segflow, recipe)) == {"s0": "unchanged"}
    (making.folder / "out" / "s1_labels.tif").unlink()
    assert segflow("forget", recipe, "s1").code == 0
    assert tried(new(segflow, recipe)) == {"s1": "done"}
    for command in (("retry", recipe, "nobody"), ("forget", recipe, "nobody"), ("status", recipe, "--log", "nobody")):
        assert segflow(*command).code == 2
    assert segflow("retry", recipe).code == 2


def test_a_file_that_is_being_copied_waits(making: Any, segflow: Any, nightly: Any) -> None:
    recipe = nightly(scenes=1)
    growing = making.folder / "in" / "growing.tif"
    over = Event()
    Thread(target=lambda: grow(growing, over)).start()
    shutil.copy(making.folder / "in" / "s0.tif", making.folder / "in" / "part.tif.part")
    shutil.copy(making.raster("other.tif", seed=7), making.folder / "in" / "half.tif")
    (making.folder / "in" / "half.tif.filepart").touch()
    recipe.write_text(recipe.read_text().replace("inputs: in", "inputs: in/*.*"))
    night = new(segflow, recipe)
    over.set()
    assert tried(night) == {"s0": "done"}
    assert sorted(night["waiting"]) == ["growing", "half"]
    growing.unlink()
    making.raster("in/growing.tif", seed=8, shape=(80, 90))
    (making.folder / "in" / "half.tif.filepart").unlink()
    assert tried(new(segflow, recipe)) == {"growing": "done", "half": "done"}


def test_inputs_do_not_escape_their_folder(making: Any, segflow: Any, nightly: Any) -> None:
    recipe = nightly(scenes=1)
    secret = making.raster("secret/x.tif", seed=5)
    (making.folder / "in" / "link.tif").symlink_to(secret)
    (making.folder / "in" / "inner.tif").symlink_to(making.folder / "in" / "s0.tif")
    (making.folder / "in" / "folder").symlink_to(secret.parent)
    size = 'rasterXSize="170" rasterYSize="150"'
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource><SourceFilename relativeToVRT="1">../secret/x.tif'
        f"</SourceFilename><SourceBand>{n}</SourceBand></SimpleSource></VRTRasterBand>"
        for n in (1, 2, 3)
    )
    (making.folder / "in" / "reads.vrt").write_text(f"<VRTDataset {size}>{bands}</VRTDataset>")
    night = new(segflow, recipe)
    assert tried(night) == {"s0": "done", "reads": "refused"} or tried(night) == {"inner": "done", "reads": "refused"}
    assert night["outside"] == ["link"]
    (error,) = [item["error"] for item in night["scenes"] if item["error"]]
    assert "leads out of" in error
    assert "remedy" in error
    assert not list((making.folder / "out").glob("x*"))
    recipe.write_text(recipe.read_text().replace("inputs: in", "inputs: in/folder/*.tif"))
    assert segflow("run", recipe, "--new", "-q").code == 0  # the recipe itself names that folder


def test_two_runs_at_once_do_no_scene_twice(making: Any, start: Any, nightly: Any) -> None:
    recipe = nightly(scenes=6, service={"ledger": "shared.sqlite"})
    folders = [making.folder / "one", making.folder / "two"]
    runs = [start("run", recipe, "--new", "--json", "-q", "--set", f"outputs.folder={out}") for out in folders]
    nights = [json.loads(run.communicate(timeout=240)[0]) for run in runs]
    done = [scene for night in nights for scene, state in tried(night).items() if state == "done"]
    assert sorted(done) == [f"s{number}" for number in range(6)]
    labels = [path.name for out in folders for path in out.glob("*_labels.tif")]
    assert sorted(labels) == [f"s{number}_labels.tif" for number in range(6)]


@pytest.mark.slow
def test_two_runs_in_one_folder_do_not_disturb_each_other(making: Any, start: Any, nightly: Any) -> None:
    recipe = nightly(scenes=4)
    runs = [start("run", recipe, "--new", "--json", "-q") for _ in range(2)]
    nights = [json.loads(run.communicate(timeout=240)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    done = [scene for night in nights for scene, state in tried(night).items() if state == "done"]
    assert sorted(done) == ["s0", "s1", "s2", "s3"]


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_is_taken_up_where_it_was(
    how: signal.Signals, making: Any, segflow: Any, start: Any, wait_for: Any, nightly: Any
) -> None:
    recipe = nightly(scenes=1)
    making.model(width=16)
    making.raster("in/s1.tif", shape=(1200, 320), seed=1)
    more = ("--set", "tiling.overlap=0.5")
    assert segflow("run", recipe, *more, "--set", f"outputs.folder={making.folder / 'whole'}").code == 0
    run = start("run", recipe, "--new", "-q", *more)
    wait_for(lambda: run.poll() is not None or making.stored("s1") >= 2, "two chunks")
    stored = making.stored("s1")
    run.send_signal(how)
    run.communicate(timeout=60)
    assert run.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 3)
    found = counts(segflow, recipe)
    assert found == ({"running": 1, "done": 1, "new": 1} if how == signal.SIGKILL else {"done": 1, "new": 1})
    again = start("run", recipe, "--new", "-q", *more)
    wait_for(lambda: again.poll() is not None or making.stored("s1") >= stored, "the chunks of before")
    again.communicate(timeout=240)
    assert again.returncode == 0
    assert making.digests("out") == making.digests("whole")
    with closing(sqlite3.connect(making.folder / "out" / "ledger.sqlite")) as ledger:
        rows = ledger.execute("select name, state, losses from segflow_scene order by name").fetchall()
    assert rows == [("s0", "done", 0), ("s1", "done", 0)]
    forwards = [scene["report"]["run"] for scene in making.report()["scenes"] if scene["scene"] == "s1"]
    assert forwards[0]["forwards"] < 2 * forwards[0]["forwards_minimum"]


def test_new_is_for_whole_scenes(segflow: Any, nightly: Any) -> None:
    recipe = nightly(scenes=1)
    assert segflow("run", recipe, "--new", "--limit", "1").code == 2
    assert segflow("run", recipe, "--new", "--force").code == 2


def test_passwords_come_to_no_ledger(making: Any, segflow: Any, nightly: Any) -> None:
    recipe = nightly(scenes=0)
    (making.folder / "in" / "x.vrt").write_text("https://me:planted-secret@host/x.tif?token=planted-secret")
    new(segflow, recipe)
    found = (making.folder / "out").rglob("*")
    assert not [path for path in found if path.is_file() and b"planted-secret" in path.read_bytes()]


@pytest.mark.slow
def test_looking_at_ten_thousand_known_scenes_takes_less_than_two_seconds(making: Any, nightly: Any) -> None:
    from flows.ledger import open_ledger
    from flows.ledger.intake import Intake
    from pipelines.network.engine import model_of
    from segflow.recipe import read_recipe

    recipe = read_recipe(nightly(scenes=1, service={"settle_seconds": 0}))
    first = making.folder / "in" / "s0.tif"
    for number in range(1, 10_000):
        (making.folder / "in" / f"s{number}.tif").write_bytes(first.read_bytes()[:100] + str(number).encode())
    with open_ledger(recipe) as ledger:
        looker = Intake(recipe, model_of(recipe), ledger)
        looker.look()
        for item in looker.look().fresh:
            identity = looker.identify_broken(item)
            assert ledger.claim(identity, item.name, "recipe", "weights")
            assert ledger.done(identity)
        began = process_time()
        look = looker.look()
        spent = process_time() - began
    assert look.known == 10_000
    assert spent < 2
    sys.stderr.write(f"looking at 10,000 known scenes: {spent:.2f} s\n")


def test_what_could_not_be_sent_is_sent_by_the_next_run(making: Any, segflow: Any, nightly: Any) -> None:
    place = making.folder / "archive"
    recipe = nightly(scenes=1, publish=f"file://{place}/scenes")
    place.write_text("no folder")
    night = new(segflow, recipe)
    assert tried(night) == {"s0": "done"}
    assert (night["state"], len(night["unsent"])) == ("degraded", 1)
    place.unlink()
    night = new(segflow, recipe)
    assert tried(night) == {"s0": "unchanged"}
    assert (night["state"], night["unsent"]) == ("done", [])
    assert list(place.rglob("s0_labels.tif"))
    assert new(segflow, recipe)["scenes"] == []


KILLED_AFTER_THE_FIRST = """
import os, signal, sys
from pathlib import Path
from flows.incremental.run import run_increment
from pipelines.events import SceneEnded
from segflow.recipe import read_recipe

def end(event):
    if isinstance(event, SceneEnded):
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))

run_increment(read_recipe(Path(sys.argv[1])), listener=end)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_scene_that_was_whole_and_not_yet_sent_when_its_run_was_killed_is_sent_by_the_next(
    how: str, making: Any, segflow: Any, nightly: Any
) -> None:
    recipe = nightly(scenes=2, publish="archive", service={"settle_seconds": 0})
    ended = subprocess.run([sys.executable, "-c", KILLED_AFTER_THE_FIRST, str(recipe), how], capture_output=True)
    assert ended.returncode == -getattr(signal, how), ended.stderr
    assert not (making.folder / "archive").exists()
    assert counts(segflow, recipe).get("done") is None
    night = new(segflow, recipe)
    assert tried(night) == {"s0": "unchanged", "s1": "done"}
    assert sorted(path.name for path in (making.folder / "archive").rglob("*_labels.tif")) == [
        "s0_labels.tif", "s1_labels.tif",
    ]  # fmt: skip
    with closing(sqlite3.connect(making.folder / "out" / "ledger.sqlite")) as ledger:
        rows = ledger.execute("select name, state, owner, losses, error from segflow_scene order by name").fetchall()
    assert rows == [("s0", "done", None, 0, None), ("s1", "done", None, 0, None)]
    assert new(segflow, recipe)["scenes"] == []
