"""Whatever goes wrong on a worker comes to the driver, soon and in words: nothing is waited for without end."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from flows.dask.cluster import fleet
from flows.dask.executor import connected
from flows.dask.trouble import error_of, told
from pipelines.network.settle import settle
from pipelines.planning.prepare import plan_scene
from pipelines.planning.scenes import Selection, find_scenes
from pipelines.predict import Executor, Workshop, predict
from segflow.errors import ClusterError, InputError, SegflowError
from segflow.io.staging import DamagedStagingError
from segflow.recipe import Compute, read_recipe
from tests.flows.clusters import Processes, processes


class LockedError(RuntimeError):
    """Holds what cannot be pickled, and takes arguments that it does not hand on."""

    def __init__(self, first: str, *, second: int) -> None:
        super().__init__(first)
        self.second, self.lock = second, threading.Lock()


class WordlessError(Exception):
    """Cannot be written."""

    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


class UnreducedError(Exception):
    """Ends whoever pickles it."""

    def __reduce__(self) -> Any:
        raise SystemExit(3)


def linked_to_itself() -> Exception:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def deep() -> Exception:
    made = RuntimeError("0")
    for number in range(1, 3000):
        above = RuntimeError(str(number))
        above.__cause__, made = made, above
    return made


ODD: dict[str, tuple[Callable[[], BaseException], str]] = {
    "holds a lock": (lambda: LockedError("held", second=2), "LockedError: held"),
    "has no words": (WordlessError, "WordlessError: (its own text cannot be made: ValueError)"),
    "cannot be pickled": (lambda: UnreducedError("x"), "UnreducedError: x"),
    "is its own cause": (linked_to_itself, "RuntimeError: first"),
    "has 3,000 causes": (deep, "RuntimeError: 2999"),
    "ends the process": (lambda: SystemExit(3), "SystemExit: 3"),
    "is a cancellation": (lambda: asyncio.CancelledError("by itself"), "CancelledError: by itself"),
    "is a system's": (lambda: OSError(5, "Input/output error", "a.tif"), "OSError: [Errno 5]"),
    "is of many": (lambda: ExceptionGroup("many", [ValueError("one")]), "ExceptionGroup: many"),
}


@pytest.mark.parametrize("what", ODD)
def test_any_error_is_told_in_words_that_every_process_reads(what: str) -> None:
    make, text = ODD[what]
    came = pickle.loads(pickle.dumps(told(make(), "the worker w7")))
    assert came.__cause__ is came.__context__ is None
    assert len(came.args[0]) < 50_000
    found = error_of(came)
    assert type(found) is SegflowError
    assert found.found.startswith(f"the worker w7 failed: {text}")
    assert found.remedy


@pytest.mark.parametrize("kind", [InputError, DamagedStagingError, ClusterError, SegflowError])
def test_an_error_of_our_own_comes_as_it_was(kind: type[SegflowError]) -> None:
    found = error_of(pickle.loads(pickle.dumps(told(kind("a", "b", "c"), "w"))))
    assert type(found) is kind
    assert found.args == ("a", "b", "c")


def test_what_a_worker_lacks_and_memory_are_told_as_such() -> None:
    lacking = error_of(told(ModuleNotFoundError("No module named 'openvino'"), "the worker w7"))
    assert isinstance(lacking, ClusterError)
    assert "w7 cannot import what it needs: No module named 'openvino'" in lacking.found
    memory = error_of(told(MemoryError(), "the worker w7"))
    assert memory.found == "the worker w7 is out of memory: MemoryError"
    assert "compute.memory" in memory.remedy


def test_an_error_from_before_a_worker_came_to_its_work_is_told_as_well() -> None:
    """Dask's own: what it says where it cannot read the task, on a worker without segflow."""
    assert "No module named 'flows'" in error_of(ModuleNotFoundError("No module named 'flows'")).found
    assert error_of(Exception(b"\x80\x05")).found.startswith("a worker failed: Exception: ")


PRELOAD = """
import sys
from pathlib import Path

import flows.dask.worker as worker
from tests.flows.test_worker_trouble import ODD

opened = getattr(worker._open, "opened", worker._open)  # Dask may load this file twice


def breaking(*arguments):
    what = Path("what").read_text()
    if what in ODD:
        raise ODD[what][0]()
    sys.modules[what] = None
    return opened(*arguments)


breaking.opened = opened
worker._open = breaking
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Executor]]:
    """A real worker on which goes wrong what a file says, and the executor that uses it."""
    with processes(tmp_path_factory.mktemp("odd")) as made:
        (made.folder / "odd.py").write_text(PRELOAD)
        made.scheduler()
        made.worker("--preload", str(made.folder / "odd.py"), PYTHONPATH=str(Path(__file__).parents[2]))
        with fleet(Compute(cluster=made.address)) as one, connected(one) as executor:
            yield made.folder / "what", executor


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory, making_in: Any) -> tuple[Any, Workshop]:
    """A scene's plan of several blocks, and a workshop."""
    making = making_in(tmp_path_factory.mktemp("planned"))
    making.model()
    making.raster()
    recipe = read_recipe(making.recipe(tiling={"block": 64}, compute={"backend": "openvino"}))
    with closing(settle(recipe)) as engine:
        (item,) = find_scenes(recipe, engine.model.card)
        return plan_scene(recipe, item, engine, Selection()), Workshop(making.folder / "workshop")


@pytest.mark.parametrize("what", ["is its own cause", "ends the process", "holds a lock", "is a cancellation"])
def test_a_real_worker_s_odd_error_comes_to_the_driver_with_its_text(what: str, odd: Any, planned: Any) -> None:
    odd[0].write_text(what)
    with pytest.raises(SegflowError) as found:
        predict(*planned, odd[1])
    assert found.value.found.startswith("the worker w1 at tcp://127.0.0.1:")
    assert f"failed: {ODD[what][1]}" in found.value.found


def test_a_real_worker_that_lacks_the_backend_is_told_with_its_name(odd: Any, planned: Any) -> None:
    odd[0].write_text("openvino")
    with pytest.raises(ClusterError, match=r"cannot import what it needs: .*openvino") as found:
        predict(*planned, odd[1])
    assert "install segflow and the recipe's extras" in found.value.remedy


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Processes]:
    """Starts schedulers and workers, outside of the recipe's folder."""
    with processes(tmp_path / "elsewhere") as made:
        yield made


def trouble_on(dask: Processes, planned: Any, seconds: float = 60) -> SegflowError:
    """Return what a run on the cluster ends with."""
    compute = Compute(cluster=dask.address, wait_seconds=seconds)
    with fleet(compute) as one, connected(one) as executor, pytest.raises(SegflowError) as found:
        predict(*planned, executor)
    return found.value


def pretended(folder: Path, **versions: str) -> str:
    """Return a folder for PYTHONPATH, by which packages have other versions."""
    for name, number in versions.items():
        place = folder / f"{name}-{number}.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    return str(folder)


def test_a_worker_of_other_versions_is_refused_with_both_named(dask: Processes, planned: Any) -> None:
    dask.scheduler()
    dask.worker(PYTHONPATH=pretended(dask.folder / "other", segflow="9.9", torch="0.1"))
    found = trouble_on(dask, planned)
    assert isinstance(found, ClusterError)
    assert f"has segflow 9.9 (the driver: {version('segflow')}), torch 0.1 (the driver: " in found.found
    assert "one image or one lock file" in found.remedy


def test_a_worker_without_segflow_is_told_and_lives(dask: Processes, planned: Any, wait_for: Any) -> None:
    """Sent a function by its name, it would lose its scheduler as it reads the message, and nobody would be told.

    Its log has the arguments of a task that failed, and nothing of the order, which holds passwords of inputs.
    """
    preload = dask.folder / "lacks.py"
    preload.write_text("import sys\nsys.modules['flows'] = None\n")
    dask.scheduler()
    worker = dask.worker("--preload", str(preload))
    found = trouble_on(dask, planned)
    assert isinstance(found, ClusterError)
    assert "cannot import what it needs: " in found.found
    assert "flows" in found.found
    assert "install segflow" in found.remedy
    assert worker.poll() is None
    log = next(dask.folder.glob("worker-*.log"))
    wait_for(lambda: "segflow_block" in log.read_text(), "the worker's log", 20)
    assert str(planned[1].folder) not in log.read_text()


GREEDY = """
import time

import flows.dask.worker as worker


def greedy(*_):
    held = []
    while True:
        held.append(bytearray(b"x") * (8 << 20))
        time.sleep(0.05)


worker.run_block = greedy
"""


@pytest.mark.slow
def test_a_worker_that_is_ended_for_its_memory_again_and_again_ends_the_scene(dask: Processes, planned: Any) -> None:
    preload = dask.folder / "greedy.py"
    preload.write_text(GREEDY)
    dask.scheduler()
    dask.nanny("--memory-limit", "900MB", "--preload", str(preload))
    found = trouble_on(dask, planned, 200)
    assert found.found.startswith("4 workers died, one after the other, while they had the block (")
    assert "--memory-limit" in found.expected
    log = next(dask.folder.glob("worker-*.log")).read_text()
    assert log.count("exceeded 95% memory budget") == 4
