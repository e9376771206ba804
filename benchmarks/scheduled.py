"""How long a flow run takes that has nothing to do, on a real, warm Prefect server of this machine.

    python -m benchmarks.scheduled [--rounds 5] [--against FOLDER]

Runs take turns: through `segflow serve` and through a process worker; with --against also with the code of another
folder, such as a git worktree of an earlier version. Each run is triggered from outside, and told in seconds: from the
trigger to Completed, from the start of its process to Completed, and of processor. A schedule's runs do not wait for a
poll: their processes are started up to ten seconds before they are due.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep

import httpx
import psutil

from benchmarks.case import Case, make, recipe_of
from benchmarks.turns import spread
from tests.flows.servers import process, server

HERE = Path(__file__).resolve().parents[1]
POOL = "idle"
_CASE = {"kind": "raster", "side": 256, "patch": 64, "width": 4, "depth": 2, "classes": 4}


@dataclass(frozen=True)
class Spent:
    """Seconds of one run.

    Attributes:
        trigger: from the trigger to Completed.
        process: from the start of its process to Completed.
        processor: of its process, the last time that it was looked at.
    """

    trigger: float
    process: float
    processor: float


def once(api: str, name: str) -> Spent:
    """Trigger a deployment's run, wait for its end, and return what it took."""
    deployment = _wait_for(api, name)
    made = httpx.post(f"{api}/deployments/{deployment}/create_flow_run", json={}, timeout=60).json()
    born: dict[int, float] = {}
    processor: dict[int, float] = {}
    end = monotonic() + 300
    while True:
        _watch(made["id"], born, processor)
        run = httpx.get(f"{api}/flow_runs/{made['id']}", timeout=60).json()
        if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED"):
            break
        if monotonic() > end:
            raise RuntimeError(f"the run of {name} does not end")
        sleep(0.05)
    if run["state_type"] != "COMPLETED" or "nothing new" not in run["state"]["message"]:
        raise RuntimeError(f"the run of {name} ended as {run['state']}")
    ended, created = (datetime.fromisoformat(text).timestamp() for text in (run["end_time"], run["created"]))
    return Spent(ended - created, ended - min(born.values()), sum(processor.values()))


def _wait_for(api: str, name: str) -> str:
    """Return a deployment's id, as soon as it has one."""
    end = monotonic() + 300
    while monotonic() < end:
        found = httpx.get(f"{api}/deployments/name/segflow-new/{name}", timeout=60).json()
        if "id" in found:
            return str(found["id"])
        sleep(1)
    raise RuntimeError(f"nobody serves {name}")


def _watch(run: str, born: dict[int, float], processor: dict[int, float]) -> None:
    """Note since when processes of a flow run are there, and what they took of the processor."""
    for found in psutil.process_iter():
        try:
            if found.pid in born or found.environ().get("PREFECT__FLOW_RUN_ID") == run:
                born[found.pid] = found.create_time()
                spent = found.cpu_times()
                processor[found.pid] = spent.user + spent.system
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue


def measure(rounds: int, against: Path | None) -> dict[str, list[Spent]]:
    """Return what runs took, by how they were started and by whose code, in turns."""
    trees = {"": HERE} | ({"before, ": against.resolve()} if against else {})
    with tempfile.TemporaryDirectory(prefix="segflow-scheduled-") as place, ExitStack() as stack:
        folder = Path(place)
        case = Case(**_CASE, folder=place)
        make(case)
        api = stack.enter_context(server(folder))
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        env = {**kept, "PREFECT_HOME": str(folder / "home"), "DO_NOT_TRACK": "1"}
        env |= {"PREFECT_API_URL": api}
        names = {}
        for number, (label, tree) in enumerate(trees.items()):
            own = env | {"PYTHONPATH": str(tree)}
            for way in ("serve", "worker"):
                recipe = _recipe(case, folder, f"{way}-{number}")
                _do(own, folder, "run", str(recipe), "--new", "-q")
                names[f"{label}{way}"] = f"{way}-{number}"
                if way == "serve":
                    command = [sys.executable, "-m", "flows.cli", "serve", str(recipe)]
                    stack.enter_context(process(command, folder / "serve.log", own))
                else:
                    pool = f"{POOL}-{number}"
                    _do(own, folder, "prefect", "setup", "--pool", pool)
                    _do(own, folder, "deploy", str(recipe), "--pool", pool)
                    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool]
                    stack.enter_context(process(worker, folder / "worker.log", own))
        for name in names.values():
            _wait_for(api, name)
        spent: dict[str, list[Spent]] = {label: [] for label in names}
        for turn in range(rounds + 1):
            for label, name in names.items():
                found = once(api, name)
                if turn:
                    spent[label].append(found)
        return spent


def _recipe(case: Case, folder: Path, name: str) -> Path:
    settings = {"name": name, "service.settle_seconds": 0.0}
    recipe = recipe_of(case, folder / name, settings)
    path = folder / f"{name}.yaml"
    path.write_text(recipe.model_dump_json(exclude_defaults=True, exclude={"base"}))
    return path


def _do(env: dict[str, str], folder: Path, *arguments: str) -> None:
    without = {key: value for key, value in env.items() if key != "PREFECT_API_URL" or arguments[0] != "run"}
    subprocess.run([sys.executable, "-m", "flows.cli", *arguments], env=without, cwd=folder, check=True)


def main() -> None:
    """Measure, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduled", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="the folder of another version, which takes turns with this one")
    asked = parser.parse_args()
    found = measure(asked.rounds, asked.against)
    sys.stdout.write(
        "| run by | trigger to Completed, s | process to Completed, s | processor, s |\n|---|---|---|---|\n"
    )
    for label, all_spent in found.items():
        columns = [spread(getattr(spent, key) for spent in all_spent) for key in ("trigger", "process", "processor")]
        sys.stdout.write(f"| {label} | {' | '.join(columns)} |\n")


if __name__ == "__main__":
    main()
