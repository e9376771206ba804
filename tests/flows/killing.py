"""A harness that kills runs at random moments, starts the same command until it is done, and looks at what is left.

Moments are drawn from what an undisturbed run does: at a step that changes its output folder, each stage as likely as
any other, or at a share of its processor time, wherever that falls: start-up, inside of GDAL, the network, SQLite.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import product
from math import ceil, prod
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Literal

import psutil

from pipelines.journal import ChunkRecord
from pipelines.planning.plan import ScenePlan, read_plan

WATCHING = Path(__file__).with_name("watching")
GONE_SECONDS = 10.0
"""How long processes of a run may outlive its driver; they need well under a second, but not of a busy machine."""

STAGES = {
    "chunk": re.compile(r"/staging/[a-z]+/c/|/staging/notes/"),
    "staging": re.compile(r"/staging(\.part)?(/|$)"),
    "plan": re.compile(r"plan\.json$"),
    "journal": re.compile(r"/journal\.sqlite"),
    "report": re.compile(r"_report\.(json|html)$"),
    "run report": re.compile(r"/(\.segflow-part-)?(report|metrics)\.[a-z]+$"),
    "export": re.compile(r"\.segflow-part-|\.(tif|gz|xml)$"),
}
_CHUNK_FILE = re.compile(r"/staging/labels/(c/[0-9/]+)\.[0-9a-f]+\.partial$")


@dataclass(frozen=True)
class Step:
    """What a process did in the output folder."""

    process: int
    number: int
    event: str
    path: str

    @property
    def stage(self) -> str:
        """The stage of a run that it belongs to."""
        if self.event in ("os.remove", "os.rmdir") and "/.segflow/" in self.path:
            return "clearing"
        return next((name for name, pattern in STAGES.items() if pattern.search(self.path)), "start")


@dataclass(frozen=True)
class Moment:
    """When whom to kill: at a step, at a share of the undisturbed run's processor time, or once so much is stored.

    How many steps a process takes differs from run to run, and so does the share of the work that a worker gets; what
    all workers store together does not.

    Attributes:
        who: the driver, or the worker that comes to the step first.
        stage: for the tally.
        step: number of the process's step; 0: by time.
        seconds: processor time of the driver.
        stored: chunk files that all processes together have begun to store.
    """

    who: Literal["driver", "worker"]
    stage: str
    step: int = 0
    seconds: float = 0.0
    stored: int = 0


@dataclass(frozen=True)
class Ended:
    """A run that has ended, one way or the other."""

    code: int
    err: str
    steps: list[Step]
    driver: int
    seconds: float
    plan: ScenePlan | None


@dataclass(frozen=True)
class Whole:
    """What an undisturbed run does and gives.

    Attributes:
        files: names and content of what it publishes; of files that tell times, the name.
        report: the run's.
        driver: its steps.
        worker: those of one worker.
        stored: chunk files, by whatever process.
        seconds: processor time of the driver.
        seam: patches that can reach over a seam where a sweep goes on, and are run again.
    """

    files: dict[str, bytes | None]
    report: Any
    driver: list[Step]
    worker: list[Step]
    stored: int
    seconds: float
    seam: int


@dataclass
class Tally:
    """What has been killed, and what it cost."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    runs: int = 0
    chains: int = 0
    forwards: int = 0
    least: int = 0
    lingered: float = 0.0

    def __str__(self) -> str:
        kills = ", ".join(f"{who} in {stage}: {n}" for (who, stage), n in sorted(self.kills.items()))
        return (
            f"{sum(self.kills.values())} kills ({kills}) in {self.chains} scenes and {self.runs} runs; "
            f"{self.forwards} patches run where {self.least} were needed; "
            f"no process outlived its driver by more than {self.lingered:.1f} s"
        )


class Harness:
    """Runs one recipe again and again.

    Args:
        executable: `segflow`.
        recipe: its outputs go to `out` beside it.
        env: the environment.
        workers: as the recipe says.
    """

    def __init__(self, executable: Path, recipe: Path, env: dict[str, str], workers: int = 1) -> None:
        self._command = [str(executable), "run", str(recipe)]
        self._folder = recipe.parent / "out"
        self._logs = recipe.parent / "logs"
        self._temporary = recipe.parent / "temporary"
        for folder in (self._logs, self._temporary):
            folder.mkdir(exist_ok=True)
        path = os.pathsep.join(filter(None, (str(WATCHING), env.get("PYTHONPATH"))))
        self._env = env | {"PYTHONPATH": path, "TMPDIR": str(self._temporary), "KILLING_FOLDER": str(self._folder)}
        self._workers = workers
        self._runs = 0
        self.tally = Tally()
        self.whole = self._undisturbed()

    def moments(self, seed: int) -> Iterator[Moment]:
        """Draw moments without end."""
        chance = random.Random(seed)
        while True:
            if chance.random() < 0.25:
                yield Moment("driver", "by time", seconds=chance.random() * self.whole.seconds)
                continue
            who: Literal["driver", "worker"] = "worker" if self._workers > 1 and chance.random() < 0.5 else "driver"
            steps = self.whole.worker if who == "worker" else self.whole.driver
            stage = chance.choice(sorted({step.stage for step in steps}))
            yield Moment(who, stage, chance.choice([step.number for step in steps if step.stage == stage]))

    def chain(self, moments: Iterator[Moment], kills: int) -> None:
        """Make the scene from nothing, with so many kills at most, and look at all that is left on the way."""
        self._clear()
        killed, sealed = 0, set[str]()
        self.tally.chains += 1
        while True:
            moment = next(moments) if killed < kills else None
            ended = self._run(moment)
            rewritten = sealed & set(chunks_written(ended.steps))
            assert not rewritten, f"sealed chunks were swept again: {rewritten}"
            if moment is not None and (self._claim().exists() or ended.code == -signal.SIGKILL):
                killed += 1
                self.tally.kills[moment.who, moment.stage] += 1
            twice = [chunk for chunk, n in Counter(chunks_written(ended.steps)).items() if n > 1]
            assert len(twice) <= (moment is not None and moment.who == "worker") * self._files_a_chunk(), twice
            if ended.code == 0:
                break
            assert ended.code == -signal.SIGKILL, (moment, ended.code, ended.err)
            sealed |= self._sealed()
        self._require_whole(killed)

    def _require_whole(self, killed: int) -> None:
        assert self._files() == self.whole.files
        found, wanted = self._report(), self.whole.report
        assert steady(found) == steady(wanted)
        forwards, least = (found["scenes"][0]["report"]["run"][name] for name in ("forwards", "forwards_minimum"))
        usual = wanted["scenes"][0]["report"]["run"]["forwards"]
        self.tally.forwards += forwards
        self.tally.least += least
        assert forwards <= usual + killed * self._workers * self.whole.seam, (forwards, usual, killed, self.whole.seam)
        assert not list(self._temporary.rglob("*.part"))

    def _undisturbed(self) -> Whole:
        self._clear()
        ended = self._run(None)
        assert ended.code == 0, ended.err
        driver = [step for step in ended.steps if step.process == ended.driver]
        others = [step for step in ended.steps if step.process != ended.driver]
        first = others[0].process if others else 0
        worker = [step for step in others if step.process == first]
        assert ended.plan is not None
        stored = len(chunks_written(ended.steps))
        return Whole(self._files(), self._report(), driver, worker, stored, ended.seconds, seam_of(ended.plan))

    def _run(self, moment: Moment | None) -> Ended:
        """Start the command, kill it as the moment says, and wait until all its processes are gone."""
        self._runs += 1
        self.tally.runs += 1
        env = self._env | {"KILLING_LOG": str(self._log())}
        if moment is not None and moment.step:
            env[f"KILLING_{moment.who.upper()}"] = str(moment.step)
        pipe = subprocess.PIPE
        with subprocess.Popen(
            self._command, stdout=pipe, stderr=pipe, text=True, env=env, start_new_session=True
        ) as run:
            seconds, plan = 0.0, None
            leader = psutil.Process(run.pid)
            while run.poll() is None:
                with_time = leader.cpu_times()
                seconds = max(seconds, with_time.user + with_time.system)
                if moment is not None and self._come(moment, seconds):
                    run.kill()
                plan = plan or self._plan()
                sleep(0.005)
            lingered = self._gone()
            _, err = run.communicate(timeout=60)
        self.tally.lingered = max(self.tally.lingered, lingered)
        return Ended(run.returncode, err, steps_of(self._log()), run.pid, seconds, plan)

    def _come(self, moment: Moment, seconds: float) -> bool:
        """Tell whether it is time to kill the driver from outside."""
        if moment.stored:
            return len(chunks_written(steps_of(self._log()))) >= moment.stored
        return bool(moment.seconds) and seconds >= moment.seconds

    def _gone(self) -> float:
        """Wait until no process of the run is left, and return how long that took."""
        began = monotonic()
        while left := [process for process in psutil.process_iter() if self._ours(process)]:
            assert monotonic() - began < GONE_SECONDS, [process.cmdline() for process in left]
            sleep(0.02)
        return monotonic() - began

    def _ours(self, process: psutil.Process) -> bool:
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and process.environ().get("KILLING_LOG") == str(self._log())
        except psutil.Error:
            return False

    def _log(self) -> Path:
        return self._logs / f"{self._runs}"

    def _claim(self) -> Path:
        return self._logs / f"{self._runs}.claimed"

    def _clear(self) -> None:
        for path in sorted(self._folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()

    def _files(self) -> dict[str, bytes | None]:
        """Return all that lies in the output folder; of what tells times, the name alone."""
        found = sorted(path for path in self._folder.rglob("*"))
        timed = ("report.json", "report.html", "report.md")
        return {str(p.relative_to(self._folder)): None if p.name.endswith(timed) else p.read_bytes() for p in found}

    def _report(self) -> Any:
        return json.loads((self._folder / "report.json").read_text())

    def _workshop(self) -> Path | None:
        return next((path.parent for path in self._folder.glob(".segflow/scenes/*/*/journal.sqlite")), None)

    def _sealed(self) -> set[str]:
        """Return the files of all chunks that the journal knows, while no run is alive."""
        folder = self._workshop()
        if folder is None:
            return set()
        with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
            if not journal.execute("select 1 from sqlite_master where name = 'chunk'").fetchone():
                return set()
            rows = [ChunkRecord.from_text(text) for (text,) in journal.execute("select record from chunk")]
        plan = read_plan(folder / "plan.json")
        return {file for row in rows for file in files_of(folder, plan, row.block, row.number)}

    def _files_a_chunk(self) -> int:
        return max(len(set(chunks_written(self.whole.worker))), 1)

    def _plan(self) -> ScenePlan | None:
        """Return the plan of the run that is under way, as soon as it is there."""
        with suppress(OSError):
            return next((read_plan(path) for path in self._folder.glob(".segflow/scenes/*/*/plan.json")), None)
        return None


def seam_of(plan: ScenePlan) -> int:
    """Return how many patches can reach over a seam."""
    lattice, sweep = plan.task.layout.lattice, plan.task.layout.sweep
    axis = lattice.axes[sweep]
    step = axis.starts[1] - axis.starts[0]
    return ceil(axis.patch / step) * prod(len(a.starts) for k, a in enumerate(lattice.axes) if k != sweep)


def steps_of(log: Path) -> list[Step]:
    """Read what was noted of a run's steps."""
    noted = log.read_text().rpartition("\n")[0] if log.exists() else ""  # of a line that is being written, nothing
    lines = (line.split(" ", 3) for line in noted.splitlines())
    return [Step(int(process), int(number), event, path) for process, number, event, path in lines]


def chunks_written(steps: list[Step]) -> list[str]:
    """Return the staged label files that were written, as often as they were."""
    found = (_CHUNK_FILE.search(step.path) for step in steps if step.event == "open")
    return [match[1] for match in found if match]


def files_of(folder: Path, plan: ScenePlan, block: tuple[int, ...], number: int) -> Iterator[str]:
    """Yield the staged files of a chunk."""
    header = json.loads((folder / "staging" / "labels" / "zarr.json").read_text())
    sides = header["chunk_grid"]["configuration"]["chunk_shape"]
    at = plan.task.layout.chunks(block)[number].within(plan.region)
    for index in product(*(range(a.start // n, ceil(a.stop / n)) for a, n in zip(at, sides, strict=True))):
        yield "c/" + "/".join(map(str, index))


def steady(report: Any) -> Any:
    """Return a run's report without what a resume may change, and what asks for workers: the recipe as written."""
    changing = ("forwards", "seconds", "peak_rss_bytes", "recipe")
    scenes = []
    for scene in report["scenes"]:
        run = {k: v for k, v in scene["report"]["run"].items() if k not in changing}
        assert scene["state"] in ("done", "unchanged")
        scenes.append({**scene, "state": "done", "report": {**scene["report"], "run": run}})
    return {**report, "scenes": scenes}
