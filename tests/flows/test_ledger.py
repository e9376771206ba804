"""The ledger: each scene is one run's at a time, whatever happens to runs; the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import sleep
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.ledger import Ledger, open_ledger
from segflow.errors import OutputError, RecipeError
from tests.flows import ledgers

BOTH = ledgers.BOTH


def claim(ledger: Ledger, identity: str, weights: str = "w", backfill: bool = False) -> bool:
    return ledger.claim(identity, f"scene-{identity}", "recipe", weights, backfill)


def test_a_scene_is_one_runs_at_a_time(make: Any) -> None:
    with make() as one, make() as two:
        assert claim(one, "a")
        assert not claim(two, "a")
        assert not claim(one, "a")
        assert not two.done("a")
        assert one.done("a")
        assert not claim(two, "a")
        assert one.tally() == {"pending": 0, "running": 0, "failed": 0, "quarantined": 0, "done": 1}


def test_after_so_many_failures_a_scene_is_in_quarantine_with_error_and_log_until_it_is_let_out(make: Any) -> None:
    with make(retries=3) as ledger:
        for count in range(3):
            assert claim(ledger, "a")
            assert ledger.failed("a", f"error {count}", f"log {count}") == ("quarantined" if count == 2 else "failed")
        assert not claim(ledger, "a")
        assert not claim(ledger, "a", weights="other", backfill=True)
        (row,) = ledger.rows()
        assert (row.name, row.state, row.failures, row.error) == ("scene-a", "quarantined", 3, "error 2")
        assert ledger.log("a") == "log 2"
        assert ledger.retry(None) == ["scene-a"]
        assert claim(ledger, "a")
        assert ledger.failed("a", "again") == "failed"


def test_a_success_between_failures_begins_their_count_anew(make: Any) -> None:
    with make(retries=2) as ledger:
        assert claim(ledger, "a")
        assert ledger.failed("a", "once") == "failed"
        assert claim(ledger, "a")
        assert ledger.done("a")
        assert ledger.retry(["scene-a"]) == ["scene-a"]
        assert claim(ledger, "a")
        assert ledger.failed("a", "once") == "failed"


def test_other_weights_do_only_new_scenes_again_unless_backfill(make: Any) -> None:
    with make() as ledger:
        assert claim(ledger, "a")
        assert ledger.done("a")
        assert not claim(ledger, "a", weights="other")
        assert not claim(ledger, "a", backfill=True)
        assert claim(ledger, "a", weights="other", backfill=True)
        assert ledger.done("a")
        row = ledger.row("a")
        assert row is not None
        assert row.weights == "other"


def test_what_a_stopped_run_gives_back_was_not_tried(make: Any) -> None:
    with make() as one, make() as two:
        assert claim(one, "a")
        assert claim(two, "b")
        assert one.release() == 1
        row = two.row("a")
        assert row is not None
        assert (row.state, row.failures, row.losses) == ("pending", 0, 0)
        assert not claim(one, "b")
        assert claim(two, "a")


def test_a_run_that_is_not_heard_of_loses_its_scenes_and_what_it_says_later_does_not_count(make: Any) -> None:
    with make(lease_seconds=1) as one, make(lease_seconds=1) as two:
        assert claim(one, "a")
        for _ in range(4):  # as long as it is heard of, it has the scene
            sleep(0.5)
            assert one.beat() == 1
            assert not claim(two, "a")
        sleep(1.1)
        assert claim(two, "a")
        assert one.beat() == 0
        assert not one.done("a")
        assert one.failed("a", "late") is None
        row = two.row("a")
        assert row is not None
        assert (row.state, row.losses) == ("running", 1)


def test_forgetting_drops_a_scene_that_does_not_run(make: Any) -> None:
    with make() as ledger:
        assert claim(ledger, "a")
        assert ledger.forget(["scene-a"]) == []
        ledger.files.saw({"/in/a.tif": "[]"}, "a")
        assert ledger.done("a")
        assert ledger.forget(["scene-a"]) == ["scene-a"]
        assert ledger.files.sightings(["/in/a.tif"]) == {}
        assert sum(ledger.tally().values()) == 0
        assert claim(ledger, "a")


def test_recipes_of_other_names_share_a_ledger_and_nothing_else(make: Any) -> None:
    with make() as one, make("another") as two:
        assert claim(one, "a")
        assert one.done("a")
        assert claim(two, "a")
        assert two.forget(["scene-a"]) == []
        assert two.done("a")
        assert two.forget(["scene-a"]) == ["scene-a"]
        assert one.tally()["done"] == 1


def test_runs_are_remembered_the_last_first(make: Any) -> None:
    with make() as ledger:
        for number in range(12):
            ledger.history.add(f"night-{number}", ledger.now(), "done", number, 0, {"mean_iou": 0.5})
        runs = ledger.history.latest()
        assert [run.name for run in runs] == [f"night-{number}" for number in range(11, 1, -1)]
        assert runs[0].facts == {"mean_iou": 0.5}
        assert runs[0].began <= runs[0].ended


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["claim", "done", "failed", "release", "retry", "forget"]), st.integers(0, 3)),
        max_size=25,
    )
)
def test_the_tally_is_the_count_of_rows_whatever_was_done(make: Any, steps: list[tuple[str, int]]) -> None:
    with make() as ledger:
        for verb, which in steps:
            act = {
                "claim": lambda name: claim(ledger, name),
                "done": ledger.done,
                "failed": lambda name: ledger.failed(name, "error"),
                "release": lambda _: ledger.release(),
                "retry": lambda name: ledger.retry([f"scene-{name}"]),
                "forget": lambda name: ledger.forget([f"scene-{name}"]),
            }[verb]
            act(str(which))
        counted = Counter(row.state for number in range(4) for row in [ledger.row(str(number))] if row is not None)
        assert {state: n for state, n in ledger.tally().items() if n} == counted
        ledger.release()
        for number in range(4):
            ledger.forget([f"scene-{number}"])


WORKER = """
import importlib.util, json, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("ledgers", sys.argv[1])
ledgers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ledgers)
from flows.ledger import open_ledger
recipe = ledgers.recipe_with(sys.argv[2] or None, Path(sys.argv[3]))
with open_ledger(recipe.model_copy(update={"name": Path(sys.argv[3]).name})) as ledger:
    for number in range(int(sys.argv[4])):
        if ledger.claim(str(number), f"scene-{number}", "recipe", "w"):
            print(json.dumps(["claimed", number]), flush=True)
            if "hang" in sys.argv:
                sys.stdin.read()
            ledger.done(str(number))
            print(json.dumps(["done", number]), flush=True)
"""


@pytest.mark.parametrize("where", BOTH)
def test_processes_at_once_do_no_scene_twice_and_what_a_killed_one_had_comes_back_at_once(
    where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = "" if where == "sqlite" else request.getfixturevalue("postgres")
    scenes = 60

    def start(*more: str) -> subprocess.Popen[str]:
        arguments = [str(Path(__file__).with_name("ledgers.py")), url, str(tmp_path), str(scenes), *more]
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    victim = start("hang")
    assert victim.stdout is not None
    assert json.loads(victim.stdout.readline()) == ["claimed", 0]
    others = [start() for _ in range(3)]
    said = [json.loads(line) for other in others for line in other.communicate(timeout=120)[0].splitlines()]
    assert sorted(number for verb, number in said if verb == "done") == list(range(1, scenes))
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    last = start()
    said = [json.loads(line) for line in last.communicate(timeout=120)[0].splitlines()]
    assert said == [["claimed", 0], ["done", 0]]


def test_a_scene_whose_process_is_killed_again_and_again_comes_to_quarantine(tmp_path: Path) -> None:
    for _ in range(2):
        arguments = [str(Path(__file__).with_name("ledgers.py")), "", str(tmp_path), "1", "hang"]
        victim = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert victim.stdout is not None
        victim.stdout.readline()
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
    recipe = ledgers.recipe_with(None, tmp_path, losses=2).model_copy(update={"name": tmp_path.name})
    with open_ledger(recipe) as ledger:
        assert not ledger.claim("0", "scene-0", "recipe", "w")
        (row,) = ledger.rows()
        assert (row.state, row.losses) == ("quarantined", 2)
        assert "ended without a word" in (row.error or "")


def test_a_ledger_that_cannot_be_used_is_told_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "broken.sqlite"
    path.write_bytes(b"no database, but long enough to be taken for one by who does not look" * 30)
    with (
        pytest.raises(OutputError, match=r"the ledger .*broken\.sqlite cannot be used"),
        open_ledger(ledgers.recipe_with(str(path), tmp_path)),
    ):
        pass
    gone = f"postgresql://nobody@127.0.0.1:{ledgers.free_port()}/none"
    with pytest.raises(OutputError, match="cannot be used"), open_ledger(ledgers.recipe_with(gone, tmp_path)):
        pass


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@host/db", "postgresql://host/db?password=secret", "mysql://host/db"]
)
def test_a_ledgers_url_with_a_password_or_of_another_database_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"service\.ledger"):
        ledgers.recipe_with(url, tmp_path)


def test_a_shared_ledger_wants_a_recipe_with_a_name(tmp_path: Path) -> None:
    from segflow.recipe import parse_recipe

    recipe = parse_recipe({"kind": "raster", "inputs": "in", "service": {"ledger": "postgresql://host/db"}}, tmp_path)
    with pytest.raises(RecipeError, match="no name"), open_ledger(recipe):
        pass


@pytest.mark.slow
def test_a_ledger_of_a_million_scenes_answers_in_fifty_milliseconds(make: Any, tmp_path: Path) -> None:
    from benchmarks.ledger import FILES, fill, questions, seconds

    with make() as ledger:
        fill(ledger, tmp_path.name, 1_000_000)
        spent = {what: min(seconds(ask)) for what, ask in questions(ledger).items()}
        assert max(spent.values()) < 0.05, spent
        known = [f"/in/s{number}.tif" for number in range(FILES)]
        assert len(ledger.files.sightings(known)) == FILES
        assert min(seconds(lambda: ledger.files.sightings(known))) < 2
        assert ledger.forget(["s*"]) == []
