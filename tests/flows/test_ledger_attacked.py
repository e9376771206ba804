"""The ledger under attack: many runs at once, slow holders, disks that fail; and against a plain model."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from flows.ledger import Ledger, open_ledger
from flows.ledger.holder import is_gone, this_process
from flows.ledger.tables import MARK, SCENE, VERSION
from segflow.errors import OutputError
from tests.flows import ledgers

IDENTITIES, NAMES = st.sampled_from("abc"), st.sampled_from(["x", "y"])
RUNS, WEIGHTS = st.integers(0, 2), st.sampled_from(["w", "v"])


@dataclass
class Known:
    """What the model knows of a scene."""

    name: str
    weights: str
    state: str = "pending"
    failures: int = 0
    losses: int = 0
    run: int | None = None
    late: bool = False


class Against(RuleBasedStateMachine):
    """Three runs and an operator at one ledger, and a dictionary that is told the same."""

    make: Any
    count = 0

    def __init__(self) -> None:
        super().__init__()
        Against.count += 1
        self.stack = ExitStack()
        opened = [self.make(f"model-{Against.count}", retries=2, losses=2) for _ in range(3)]
        self.runs: list[Ledger] = [self.stack.enter_context(ledger) for ledger in opened]
        self.known: dict[str, Known] = {}

    def teardown(self) -> None:
        self.stack.close()

    def changed(self, identity: str) -> float:
        row = self.runs[0].row(identity)
        assert row is not None
        return row.changed

    def holds(self, run: int, identity: str) -> bool:
        found = self.known.get(identity)
        return found is not None and found.state == "running" and found.run == run

    @rule(run=RUNS, identity=IDENTITIES, name=NAMES, weights=WEIGHTS, backfill=st.booleans())
    def claim(self, run: int, identity: str, name: str, weights: str, backfill: bool) -> None:
        found = self.known.get(identity) or Known(name, weights)
        if found.state == "running" and found.late:
            found.losses += 1
            found.state, found.run, found.late = "quarantined" if found.losses >= 2 else "pending", None, False
        replaced = found.state == "done" and any(
            other.name == found.name and other.state == "done" and self.changed(key) > self.changed(identity)
            for key, other in self.known.items()
            if key != identity
        )
        other_weights = backfill and found.state == "done" and found.weights != weights
        free = found.state in ("pending", "failed") or replaced or other_weights
        assert self.runs[run].claim(identity, name, "recipe", weights, backfill) == free
        self.known[identity] = found
        if free:
            found.name, found.weights, found.state, found.run = name, weights, "running", run

    @rule(run=RUNS, identity=IDENTITIES)
    def done(self, run: int, identity: str) -> None:
        mine = self.holds(run, identity)
        assert self.runs[run].done(identity) == mine
        if mine:
            self.known[identity] = Known(self.known[identity].name, self.known[identity].weights, "done")

    @rule(run=RUNS, identity=IDENTITIES)
    def failed(self, run: int, identity: str) -> None:
        said = self.runs[run].failed(identity, "error", "log")
        if not self.holds(run, identity):
            assert said is None
            return
        found = self.known[identity]
        found.failures += 1
        found.state, found.run, found.late = "quarantined" if found.failures >= 2 else "failed", None, False
        assert said == found.state

    @rule(run=RUNS)
    def release(self, run: int) -> None:
        mine = [found for key, found in self.known.items() if self.holds(run, key)]
        assert self.runs[run].release() == len(mine)
        for found in mine:
            found.state, found.run, found.late = "pending", None, False

    @rule(run=RUNS)
    def beat(self, run: int) -> None:
        mine = [found for key, found in self.known.items() if self.holds(run, key)]
        assert self.runs[run].beat() == len(mine)
        for found in mine:
            found.late = False

    @rule(run=RUNS)
    def fall_silent(self, run: int) -> None:
        """Let a run be slow: its lease runs out."""
        with self.runs[0]._engine.begin() as db:
            db.execute(SCENE.update().where(SCENE.c.owner == self.runs[run].owner).values(lease=1.0))
        for key, found in self.known.items():
            found.late = found.late or self.holds(run, key)

    @rule(names=st.none() | st.lists(NAMES, unique=True))
    def retry(self, names: list[str] | None) -> None:
        again = [
            found
            for found in self.known.values()
            if (found.state in ("failed", "quarantined") if names is None else found.state != "running")
            and (names is None or found.name in names)
        ]
        assert self.runs[0].retry(names) == sorted(found.name for found in again)
        for found in again:
            found.state, found.failures, found.losses = "pending", 0, 0

    @precondition(lambda self: self.known)
    @rule(name=NAMES)
    def forget(self, name: str) -> None:
        gone = [key for key, found in self.known.items() if found.name == name and found.state != "running"]
        assert self.runs[0].forget([name]) == [name] * len(gone)
        for key in gone:
            del self.known[key]

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        for identity in "abc":
            row, found = self.runs[0].row(identity), self.known.get(identity)
            told = None if row is None else (row.name, row.weights, row.state, row.failures, row.losses, row.owner)
            owner = None if found is None or found.run is None else self.runs[found.run].owner
            assert told == (
                None if found is None else (found.name, found.weights, found.state, found.failures, found.losses, owner)
            )
        counted = Counter(found.state for found in self.known.values())
        assert {state: n for state, n in self.runs[0].tally().items() if n} == counted


def test_the_ledger_is_a_plain_dictionary_to_three_runs_and_an_operator(make: Any) -> None:
    class Here(Against):
        pass

    Here.make = staticmethod(make)
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Here, settings=settings(deadline=None, max_examples=25, stateful_step_count=25, suppress_health_check=checks)
    )


def test_threads_at_once_do_no_scene_twice_while_an_operator_lets_them_be_tried_again(make: Any) -> None:
    scenes, runs = [f"{number}" for number in range(24)], 4
    together = Barrier(runs + 1)

    def work(number: int) -> list[str]:
        done = []
        with make(retries=50) as ledger:
            together.wait()
            for turn in range(3):
                for scene in scenes if number % 2 else reversed(scenes):
                    if ledger.claim(scene, scene, "recipe", "w"):
                        if turn < 2 and int(scene) % 3 == 0:
                            assert ledger.failed(scene, "error") == "failed"
                        else:
                            assert ledger.done(scene)
                            done.append(scene)
        return done

    def operate() -> None:
        with make(retries=50) as ledger:
            together.wait()
            for _ in range(40):
                ledger.retry(None)

    with ThreadPoolExecutor(runs + 1) as pool:
        told = [pool.submit(work, number) for number in range(runs)]
        pool.submit(operate).result()
        done = [scene for some in told for scene in some.result()]
    assert sorted(done) == sorted(scenes)
    with make() as ledger:
        assert ledger.tally()["done"] == len(scenes)


@pytest.mark.slow
def test_an_operator_who_means_many_scenes_does_not_lock_up_with_runs(make: Any) -> None:
    """More than a statement holds: PostgreSQL ends one of two that wait for each other, which was the run."""
    scenes = [f"s{number:04}" for number in range(600)]
    start = Barrier(4)
    with make() as first:
        for scene in scenes:
            first.saw({scene: "[]"}, scene)

    def run(ledger: Ledger, mine: list[str]) -> None:
        start.wait(60)
        for scene in mine * 3:
            ledger.claim(scene, scene, "recipe", "w")
            ledger.done(scene)

    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        ledgers_here = [stack.enter_context(make()) for _ in range(4)]
        told = [
            pool.submit(run, ledger, sorted(scenes, key=lambda scene: scene[::-1])[n::3])
            for n, ledger in enumerate(ledgers_here[:3])
        ]
        start.wait(60)
        while not all(some.done() for some in told):
            ledgers_here[3].retry(scenes)
        for some in told:
            some.result()


def test_a_content_that_comes_back_under_a_name_that_another_had_meanwhile_is_done_again(make: Any) -> None:
    with make() as ledger:
        for identity in ("first", "second"):
            assert ledger.claim(identity, "a", "recipe", "w")
            assert ledger.done(identity)
        assert not ledger.claim("second", "a", "recipe", "w")
        assert ledger.claim("first", "a", "recipe", "w")
        assert ledger.done("first")
        assert not ledger.claim("first", "a", "recipe", "w")
        assert ledger.claim("other", "b", "recipe", "w")
        assert ledger.done("other")
        assert not ledger.claim("first", "a", "recipe", "w")


def test_a_content_whose_outputs_were_replaced_is_done_again_under_whatever_name_it_comes_back(make: Any) -> None:
    with make() as ledger:
        ledger.files.saw({"copy": "[]"}, "first")
        for identity in ("first", "second"):
            assert ledger.files.sightings(["copy"])["copy"].state in (None, "done")
            assert ledger.claim(identity, "a", "recipe", "w")
            assert ledger.done(identity)
        assert ledger.files.sightings(["copy"])["copy"].state == "pending"
        assert ledger.claim("first", "b", "recipe", "w")
        assert ledger.done("first")
        assert ledger.files.sightings(["copy"])["copy"].state == "done"
        assert not ledger.claim("first", "a", "recipe", "w")
        assert not ledger.claim("first", "b", "recipe", "w")


def test_a_scene_that_is_whole_when_its_run_is_lost_is_free_and_that_is_no_loss(make: Any) -> None:
    with make(lease_seconds=1, losses=1) as lost, make(losses=1) as next_run:
        for identity in ("made", "begun"):
            assert lost.claim(identity, identity, "recipe", "w")
        assert lost.made("made")
        assert not next_run.claim("made", "made", "recipe", "w")
        assert not next_run.made("made")
        sleep(1.2)
        assert next_run.claim("made", "made", "recipe", "w")
        assert not next_run.claim("begun", "begun", "recipe", "w")
        row, other = next_run.row("made"), next_run.row("begun")
        assert row is not None
        assert other is not None
        assert (row.state, row.losses, row.error) == ("running", 0, None)
        assert (other.state, other.losses) == ("quarantined", 1)
        assert (lost.made("made"), lost.settle()) == (False, 0)
        assert next_run.made("made")
        assert (next_run.settle(), next_run.settle()) == (1, 0)
        assert next_run.tally()["done"] == 1


def test_a_process_elsewhere_is_never_taken_for_gone() -> None:
    where, process, began = this_process().rsplit(" ", 2)
    assert not is_gone(this_process())
    assert is_gone(f"{where} {process} {began}1")  # its number has another process now
    assert not is_gone(f"a container of the same name {process} {began}1")
    assert not is_gone(f"{where.split()[0]} another-boot pid:[1] {process} {began}1")
    assert not is_gone(None)


def test_a_process_that_is_gone_is_known_whatever_the_clock_says() -> None:
    code = "from flows.ledger.holder import this_process; print(this_process(), flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    holder = process.stdout.readline().strip()
    assert not is_gone(holder)
    process.send_signal(signal.SIGKILL)
    while process.poll() is None and not is_gone(holder):
        pass
    assert is_gone(holder)  # not reaped yet, or reaped
    process.communicate()
    assert is_gone(holder)


def test_patterns_mean_names_as_in_a_shell_and_a_name_means_itself(making: Any, segflow: Any) -> None:
    making.model()
    recipe = making.recipe(name="patterns", inputs="in")
    from segflow.recipe import read_recipe

    with open_ledger(read_recipe(recipe)) as ledger:
        for name in ("s1", "s2", "t1", "s[1]"):
            assert ledger.claim(name, name, "recipe", "w")
            assert ledger.done(name)
    assert segflow("retry", recipe, "s[1]", "--json").json == {"scenes": ["s[1]"]}
    assert segflow("retry", recipe, "s?", "t*", "--json").json == {"scenes": ["s1", "s2", "t1"]}
    assert segflow("forget", recipe, "s*", "--json").json == {"scenes": ["s1", "s2", "s[1]"]}
    assert segflow("forget", recipe, "s*").code == 2


def test_a_ledger_of_the_version_before_is_brought_up_to_date_and_a_later_one_is_refused(make: Any) -> None:
    with make() as ledger, ledger._engine.begin() as db:
        db.execute(text(f"drop table {MARK.name}"))
    with make() as ledger:
        assert ledger.claim("a", "a", "recipe", "w")
        assert ledger.tally()["running"] == 1
        with ledger._engine.begin() as db:
            assert db.execute(MARK.select()).scalar_one() == VERSION
            db.execute(MARK.insert().values(version=VERSION + 1))
    with pytest.raises(OutputError, match="newer segflow"), make():
        pass
    with ledger._engine.begin() as db:
        db.execute(MARK.delete().where(MARK.c.version > VERSION))
    ledger._engine.dispose()


FULL = """
import resource, signal, sys
from pathlib import Path
from flows.ledger import open_ledger
from segflow.errors import OutputError
from segflow.recipe import parse_recipe
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
recipe = parse_recipe({"kind": "raster", "inputs": "in", "outputs": {"folder": "out"}}, Path(sys.argv[1]))
with open_ledger(recipe) as ledger:
    assert ledger.claim("a", "a", "recipe", "w")
    assert ledger.done("a")
size = max(file.stat().st_size for file in Path(sys.argv[1], "out").iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    with open_ledger(recipe) as ledger:
        for number in range(10_000):
            ledger.claim(f"b{number}", "b" * 1000, "recipe", "w")
except OutputError as error:
    print(error)
"""


def test_a_disk_that_is_full_is_told_and_what_was_done_stays_done(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "ledger.sqlite cannot be used" in told.stdout
    assert "check service.ledger and its disk" in told.stdout
    with open_ledger(ledgers.recipe_with(str(tmp_path / "out" / "ledger.sqlite"), tmp_path)) as ledger:
        row = next(ledger.rows(SCENE.c.state == "done"), None) or ledger.row("a")
        assert row is None or row.state == "done"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_ledger_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    recipe = ledgers.recipe_with(str(tmp_path / "led"), tmp_path)
    with open_ledger(recipe) as ledger:
        assert ledger.claim("a", "a", "recipe", "w")
    damaged = bytearray((tmp_path / "led").read_bytes())
    damaged[100:] = b"\xff" * (len(damaged) - 100)
    (tmp_path / "led").write_bytes(damaged)
    with pytest.raises(OutputError, match="cannot be used"), open_ledger(recipe) as ledger:
        ledger.claim("b", "b", "recipe", "w")
    with pytest.raises(OutputError, match="cannot"), open_ledger(ledgers.recipe_with("/proc/none/led", tmp_path)):
        pass
