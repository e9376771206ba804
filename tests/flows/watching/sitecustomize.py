"""Loaded by every Python that starts with this folder on PYTHONPATH: notes each step that a process takes in a folder.

A step is what changes the folder or opens a file in it. At a chosen step the process ends as by `kill -9`: exactly
there, and with nothing of the program's own knowing of it. One process does so, once; see `tests.flows.killing`.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

_EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "sqlite3.connect")


def _watch(folder: str, log: int, last: int, claim: str) -> None:
    steps = 0

    def step(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal steps
        if event not in _EVENTS or not any(isinstance(a, str) and a.startswith(folder) for a in map(_plain, arguments)):
            return
        steps += 1
        os.write(
            log, f"{os.getpid()} {steps} {event} {_plain(arguments[-1 if event == 'os.rename' else 0])}\n".encode()
        )
        if steps == last and _claimed(claim):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(step)


def _plain(argument: Any) -> Any:
    return os.fspath(argument) if isinstance(argument, os.PathLike) else argument


def _claimed(path: str) -> bool:
    """Tell whether this process is the first that comes to its step."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


if "KILLING_FOLDER" in os.environ:
    who = "worker" if "--multiprocessing-fork" in sys.orig_argv else "driver"
    _watch(
        os.environ["KILLING_FOLDER"],
        os.open(os.environ["KILLING_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        int(os.environ.get(f"KILLING_{who.upper()}", "0")),
        os.environ["KILLING_LOG"] + ".claimed",
    )
