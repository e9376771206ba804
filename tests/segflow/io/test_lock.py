"""One run an output folder, and a run that was killed does not stand in the way of the next."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from segflow.errors import OutputError
from segflow.io.lock import locked

HOLD = (
    "import sys; from pathlib import Path; from segflow.io.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Where a run's lock lies: in the hidden folder of its output folder."""
    return tmp_path / "out" / ".segflow" / "lock"


@contextmanager
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """A second process that holds the lock until its standard input ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def take(lock: Path) -> None:
    """Take the lock and give it back."""
    with locked(lock):
        pass


def test_a_second_process_is_refused_and_the_folder_is_named(lock: Path) -> None:
    with holder(lock):
        with pytest.raises(OutputError, match="another run is working in") as caught:
            take(lock)
        assert str(lock.parent.parent) in caught.value.found
        assert "outputs.folder" in caught.value.remedy


def test_the_lock_is_free_when_its_holder_was_killed(lock: Path) -> None:
    with holder(lock) as process:
        process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
        assert lock.exists()  # what a killed run leaves is a file, not a lock
        take(lock)


def test_the_lock_is_free_when_its_holder_has_ended(lock: Path) -> None:
    with holder(lock) as process:
        process.communicate("")
        take(lock)


def test_a_second_run_of_the_same_process_is_refused_too_and_leaves_the_first_its_lock(lock: Path) -> None:
    with locked(lock):
        for _ in range(2):
            with pytest.raises(OutputError, match="another run"):
                take(lock)
    take(lock)


def test_the_lock_is_free_after_an_error(lock: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(lock):
        raise ZeroDivisionError
    take(lock)


def test_a_lock_whose_file_was_removed_while_it_was_held_does_not_bind_the_next_run(lock: Path) -> None:
    with locked(lock):
        lock.unlink()
        take(lock)


def test_another_folder_has_another_lock(lock: Path, tmp_path: Path) -> None:
    with holder(lock):
        take(tmp_path / "other" / ".segflow" / "lock")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot write to") as caught:
        take(tmp_path / "out" / ".segflow" / "lock")
    assert "outputs.folder" in caught.value.remedy
