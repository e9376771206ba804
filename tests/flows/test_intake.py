"""What counts as new: what is still arriving waits, what is broken keeps nobody up, whatever clocks say."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.incremental.run import run_increment
from flows.ledger import open_ledger
from flows.ledger.intake import Intake
from flows.ledger.tables import SEEN
from pipelines.events import Event, SceneEnded
from pipelines.network.engine import model_of
from segflow.errors import InputError
from segflow.recipe import Recipe, read_recipe
from tests.dicoms import uid, write_series

SERVICE = {"settle_seconds": 0.0, "lease_seconds": 30}
OLD = 1_000_000_000


@contextmanager
def looker_of(recipe: Recipe) -> Iterator[Any]:
    """Look for a recipe's scenes twice, and give what the second look found, and the ledger."""
    with open_ledger(recipe) as ledger:
        looker = Intake(recipe, model_of(recipe), ledger)
        looker.look()
        yield looker.look(), ledger, looker


def series(folder: Path, slices: int = 4, **tags: Any) -> None:
    """Write a small series."""
    values = np.arange(12 * 12 * slices, dtype=np.int16).reshape(12, 12, slices)
    write_series(folder, values, np.diag([1.0, 1.0, 1.0, 1.0]), **tags)


def age(folder: Path) -> None:
    """Let all files in a folder be old."""
    for path in folder.rglob("*"):
        os.utime(path, (OLD, OLD))


def test_a_case_of_which_a_channel_has_not_arrived_waits_and_keeps_nobody_up(making: Any) -> None:
    making.model("volume")
    (making.folder / "in").mkdir()
    for name in ("a_t1", "b_t2"):
        making.volume(f"in/{name}.nii.gz", shape=(20, 20, 20))
    making.volume("in/c_t1.nii.gz", shape=(20, 20, 20))
    recipe = two_channels(making, "two")
    with looker_of(read_recipe(recipe)) as (look, *_):
        assert (look.fresh, sorted(look.waiting)) == ([], ["a", "b", "c"])
        making.volume("in/a_t2.nii.gz", shape=(20, 20, 20))
    with looker_of(read_recipe(recipe)) as (look, *_):
        assert ([item.name for item in look.fresh], sorted(look.waiting)) == (["a"], ["b", "c"])


def two_channels(making: Any, name: str) -> Path:
    """Write a model of two channels, and a recipe that names them."""
    import yaml

    weights = making.model("volume", name=name)
    card = weights.with_suffix(".yaml")
    said = yaml.safe_load(card.read_text())
    card.write_text(yaml.safe_dump(said | {"channels": ["t1", "t2"]}))
    channels = {"t1": "{case}_t1.nii.gz", "t2": "{case}_t2.nii.gz"}
    parts = {"inputs": {"path": "in", "channels": channels}, "model": {"weights": str(weights)}}
    return Path(making.recipe(kind="volume", name=name, service=SERVICE, file="recipe.yaml", **parts))


def test_a_folder_of_dicom_that_grows_or_holds_a_part_waits(making: Any) -> None:
    making.model("volume")
    folder = making.folder / "in" / "study"
    series(folder)
    age(making.folder / "in")
    recipe = read_recipe(making.recipe(kind="volume", inputs="in", service=SERVICE | {"settle_seconds": 0.0}))
    (folder / "9.dcm.part").write_bytes(b"half")
    with looker_of(recipe) as (look, _, looker):
        assert (len(look.fresh), len(look.waiting)) == (0, 1)
        (folder / "9.dcm.part").unlink()
        assert len(looker.look().waiting) == 1  # it has just changed
        assert len(looker.look().fresh) == 1
        some = next(folder.glob("*.dcm"))
        shutil.copy(some, folder / "copy.dcm.tmp")
        looker.look()
        assert looker.look().fresh == []


def test_a_folder_of_dicom_that_is_broken_is_told_and_keeps_nobody_up(making: Any, segflow: Any) -> None:
    making.model("volume")
    series(making.folder / "in" / "good")
    (making.folder / "in" / "empty").mkdir()
    for number in (1, 2):
        series(making.folder / "in" / "two" / str(number), 4 + number, StudyInstanceUID=uid("two"))
    age(making.folder / "in")
    path = making.recipe(kind="volume", inputs="in/*", service=SERVICE | {"settle_seconds": 5.0})
    recipe = read_recipe(path)
    with open_ledger(recipe) as ledger:
        look = Intake(recipe, model_of(recipe), ledger).look()
    told = segflow("status", path, "--json").json
    assert (told["counts"]["unreadable"], told["unreadable"]) == (1, look.unreadable)
    assert "  unreadable           1  gives no scene\n" in segflow("status", path).out
    assert len(look.waiting) == 2  # the good one, seen for the first time, and the empty one
    assert len(look.unreadable) == 1
    assert "series" in look.unreadable[0]
    assert "two" not in look.unreadable[0].split("remedy")[0].replace("two series", "")


def test_a_folder_that_is_empty_does_not_hide_what_lies_in_another(making: Any) -> None:
    making.model()
    making.raster("monday/a.tif", shape=(40, 40))
    (making.folder / "tuesday").mkdir()
    recipe = read_recipe(making.recipe(inputs=["monday", "tuesday"], service=SERVICE))
    with looker_of(recipe) as (look, *_):
        assert [item.name for item in look.fresh] == ["a"]


def test_a_clock_that_was_set_back_lets_no_file_wait_for_ever(making: Any) -> None:
    making.model()
    making.raster("in/a.tif", shape=(40, 40))
    recipe = read_recipe(making.recipe(inputs="in", service=SERVICE))
    with open_ledger(recipe) as ledger:
        looker = Intake(recipe, model_of(recipe), ledger)
        looker.look()
        with ledger._engine.begin() as db:
            db.execute(SEEN.update().values(since=ledger_now(ledger) + 1e6))  # a year of the wrong clock
        assert looker.look().waiting == ["a"]
        assert [item.name for item in looker.look().fresh] == ["a"]


def ledger_now(ledger: Any) -> float:
    return float(ledger.now())


def test_what_a_slow_run_says_late_does_not_count(making: Any) -> None:
    """Its lease runs out while it works, another run takes the scene and is done first."""
    making.model()
    making.raster("in/a.tif", shape=(60, 60))
    recipe = read_recipe(making.recipe(name="late", inputs="in", service=SERVICE))
    with open_ledger(recipe) as other:

        def slow(event: Event) -> None:
            if not isinstance(event, SceneEnded) and not other.tally()["done"]:
                with other._engine.begin() as db:
                    from flows.ledger.tables import SCENE

                    db.execute(SCENE.update().values(lease=1.0))
                    (identity,) = db.execute(SCENE.select().with_only_columns(SCENE.c.identity)).scalars()
                assert other.claim(identity, "a", "recipe", "w")
                assert other.done(identity)

        night = run_increment(recipe, listener=slow)
        assert (night.scenes, night.lost, night.state) == ([], ["a"], "done")
        assert "1 taken over by another run" in night.summary
        assert other.tally()["done"] == 1
        assert other.history.latest() == []


def test_a_run_that_finds_more_while_it_works_tells_of_all_in_its_report(making: Any) -> None:
    making.model()
    making.raster("in/a.tif", shape=(60, 60))
    recipe = read_recipe(making.recipe(name="more", inputs="in", service=SERVICE))

    def delivering(event: Event) -> None:
        if isinstance(event, SceneEnded) and event.state.scene == "a":
            making.raster("in/b.tif", shape=(60, 60), seed=1)

    night = run_increment(recipe, listener=delivering)
    assert [item.scene for item in night.scenes] == ["a", "b"]
    assert [item["scene"] for item in making.report()["scenes"]] == ["a", "b"]


def test_status_makes_no_ledger(making: Any, segflow: Any) -> None:
    making.model()
    making.raster("in/a.tif", shape=(60, 60))
    recipe = making.recipe(name="shown", inputs="in", service=SERVICE)
    found = segflow("status", recipe, "--json").json
    assert found["counts"]["waiting"] == 1
    assert (found["scenes"], found["runs"]) == ([], [])
    assert segflow("status", recipe, "--log", "a").code == 2
    assert segflow("retry", recipe, "a").code == 2
    assert not (making.folder / "out").exists()


@pytest.mark.parametrize(("tried", "failed", "share", "state"), [
    (0, 0, 0.0, "done"), (1, 0, 0.0, "done"), (1, 1, 0.05, "failed"), (1, 1, 1.0, "degraded"),
    (20, 1, 0.05, "degraded"), (19, 1, 0.05, "failed"), (2, 1, 0.0, "failed"), (2, 1, 0.5, "degraded"),
    (100, 29, 0.29, "degraded"), (100, 30, 0.29, "failed"),
])  # fmt: skip
def test_max_failed_is_a_share_of_what_was_tried(tried: int, failed: int, share: float, state: str) -> None:
    from flows.incremental.increment import Increment
    from segflow.report import SceneState

    states = [SceneState(scene=f"s{n}", state="failed" if n < failed else "done") for n in range(tried)]
    states = [item.model_copy(update={"error": "broken"}) if item.state == "failed" else item for item in states]
    assert Increment("night", share, states).state == state


def test_a_folder_that_is_not_there_is_no_empty_one(making: Any) -> None:
    """A share that is not mounted must not look like a quiet night."""
    making.model()
    for missing in ("in", "in/*.tif"):
        recipe = read_recipe(making.recipe(name="gone", inputs=missing, service=SERVICE))
        with pytest.raises(InputError, match=r"there is no .*/in"):
            run_increment(recipe)
    (making.folder / "in").mkdir()
    assert run_increment(recipe).state == "done"


def test_results_of_another_versions_runs_keep_nobody_up(making: Any) -> None:
    """Two machines need not be brought up to date at the same minute."""
    making.model()
    making.raster("in/a.tif", shape=(60, 60))
    recipe = read_recipe(making.recipe(name="versions", inputs="in", service=SERVICE))
    with open_ledger(recipe) as ledger:
        for facts in ({"shares": {"a": 1.0}, "later": 1}, {"earlier": {}}, ["list"]):
            ledger.history.add("other", ledger.now(), "done", 1, 0, facts)
    assert run_increment(recipe).state == "done"
