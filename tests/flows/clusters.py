"""Real schedulers and workers, each a process of its own as `dask scheduler` and `dask worker` start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Thread

from distributed import LocalCluster

_QUIET = {"OMP_NUM_THREADS": "1", "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


class Kept:
    """A process that is started again when it ends, as a service manager does."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], over: Event) -> None:
        self.process = start()
        self._start = start
        self._over = over
        self.thread = Thread(target=self._keep, daemon=True)
        self.thread.start()

    def _keep(self) -> None:
        while not self._over.wait(0.1):
            if self.process.poll() is not None:
                self.process = self._start()

    def kill(self) -> None:
        """Kill what runs now, with all that it started."""
        os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class Processes:
    """Starts a scheduler and workers in a folder of their own; all of them end with the test.

    Attributes:
        folder: the workers' working directory: not the recipe's.
        port: of the scheduler.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    over: Event = field(default_factory=Event)
    numbers: Iterator[int] = field(default_factory=count)
    kept: list[Kept] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The scheduler's."""
        return f"tcp://127.0.0.1:{self.port}"

    def scheduler(self) -> subprocess.Popen[bytes]:
        """Start a scheduler on the port."""
        return self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")

    def worker(self, *options: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a worker of one thread, without a nanny: what is killed stays dead."""
        number = next(self.numbers)
        own = self.folder / f"worker-{number}"
        own.mkdir(parents=True)
        fixed = ("--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")
        return self._start(
            "worker", self.address, *fixed, "--local-directory", str(own), "--name", f"w{number}", *options, **env
        )

    def nanny(self, *options: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a worker with a nanny, which ends it when it takes too much memory, and starts it again."""
        return self.worker("--nanny", *options, **env)

    def supervised(self, start: Callable[[], subprocess.Popen[bytes]] | None = None) -> Kept:
        """Keep a process alive, a worker if nothing else is said."""
        self.kept.append(Kept(start or self.worker, self.over))
        return self.kept[-1]

    def _start(self, *words: str, **env: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{words[0]}-{next(self.numbers)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            cwd=self.folder,
            env={**os.environ, **_QUIET, **env},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self.started.append(process)
        return process


@contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    """Give a starter of processes, and end what it started."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Processes(folder)
    try:
        yield made
    finally:
        made.over.set()
        for one in made.kept:
            one.thread.join()
        for process in reversed(made.started):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def object_store(folder: Path, wait_for: Callable[..., None]) -> Iterator[str]:
    """Start an S3-compatible server as a process of its own, and give its URL."""
    port = free_port()
    log = (folder / "s3.log").open("wb")
    server = Path(sys.executable).with_name("moto_server")
    process = subprocess.Popen(
        [str(server), "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log, start_new_session=True
    )
    log.close()

    def answers() -> bool:
        assert process.poll() is None, (folder / "s3.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_for(answers, "the object store")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class EndsBadly(LocalCluster):  # type: ignore[misc]
    """A cluster that ends, and then says that it could not."""

    def close(self, timeout: float | None = None) -> None:
        """End.

        Raises:
            TimeoutError: always.
        """
        super().close(timeout)
        raise TimeoutError("the queue does not answer")
