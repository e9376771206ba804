"""Progress: plain lines in a pipe, a bar with an estimate on a terminal, nothing when quiet."""

from __future__ import annotations

import errno
import logging
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flows.prefect.run_log import progress_logged
from flows.progress import Lines, remaining
from pipelines.events import ChunkDone, Event, SceneEnded, SceneStarted
from segflow.report import SceneState


def on_a_terminal(command: list[str | Path], folder: Path) -> str:
    """Run a command whose standard error is a terminal of 100 columns, and return what it shows there."""
    leader, follower = pty.openpty()
    env = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm", "PREFECT_HOME": str(folder / "prefect")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=follower, env=env)
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError as error:
            if error.errno != errno.EIO:  # what Linux says when the last writer has gone
                raise
            part = b""
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait(60) == 0, shown.decode()
    return shown.decode()


def test_a_terminal_shows_a_bar_that_counts_patches_and_estimates(making: Any, start: Any) -> None:
    making.model(width=16)
    making.raster(shape=(600, 320))
    executable = start("--version").args[0]
    shown = on_a_terminal([executable, "run", making.recipe(tiling={"overlap": 0.5})], making.folder)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    counts = [(int(done), int(total)) for done, total in re.findall(r"(\d+)/(\d+)", text)]
    assert counts, text
    assert {total for _, total in counts} == {counts[0][1]}
    assert counts[-1][0] == counts[-1][1]
    assert sorted(done for done, _ in counts) == [done for done, _ in counts]
    assert len({done for done, _ in counts}) > 2, "the bar moves"
    assert re.search(r"left\s+0:00:0\d", text), text
    assert "━" in text


def test_a_pipe_gets_plain_lines(making: Any, spawn: Any) -> None:
    making.model()
    making.raster()
    result = spawn("run", making.recipe())
    assert result.code == 0, result.err
    assert "\x1b" not in result.err + result.out
    assert "\r" not in result.err
    lines = result.err.splitlines()
    assert lines[0] == "a: scene 1 of 1, 42 patches"
    assert lines[-1] == "a: done"


def test_lines_estimate_by_what_was_done_in_this_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("flows.progress.monotonic", lambda: now[0])
    lines = Lines()
    lines(SceneStarted("a", 2, 3, 1000))
    for _ in range(8):
        now[0] += 3.0
        lines(ChunkDone("a", 100, (0, 0)))
    lines(SceneEnded(SceneState(scene="a", state="done")))
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "a: scene 2 of 3, 1,000 patches"
    assert told[-1] == "a: done"
    assert told[1:-1] == [
        "a: 400 of 1,000 patches, about 18 s left",
        "a: 800 of 1,000 patches, about 6 s left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (61, "1 min 01 s"), (3700, "1 h 01 min"), (90_000, "25 h 00 min")],
)
def test_what_remains_is_told_as_people_say_it(seconds: float, text: str) -> None:
    assert remaining(seconds) == text


def test_a_verbose_run_logs_its_scenes(making: Any, segflow: Any) -> None:
    making.model()
    making.raster("in/s0.tif", shape=(80, 90))
    assert "segflow: s0: scene 1 of 1" in segflow("run", making.recipe(inputs="in"), "-v").err
    assert "segflow: s0: scene" not in segflow("run", making.recipe(inputs="in"), "--force").err


def test_a_flow_run_lets_lines_of_progress_through_and_no_others() -> None:
    progress, others = logging.getLogger("pipelines.telling"), logging.getLogger("pipelines.publishing.publish")
    before = progress.isEnabledFor(logging.INFO), others.isEnabledFor(logging.INFO)
    with progress_logged():
        assert progress.isEnabledFor(logging.INFO)
        assert others.isEnabledFor(logging.INFO) == before[1]
    assert progress.isEnabledFor(logging.INFO) == before[0]


def test_a_server_is_told_of_progress_now_and_then_and_of_the_end() -> None:
    from flows.prefect.artifacts import Progress

    told: list[float] = []

    class Heard(Progress):
        def _put(self, percent: float, event: Event | None) -> None:
            told.append(percent)

    with Heard("night", lambda _: None) as listener:
        listener(SceneStarted("a", 1, 1, 1000))
        for _ in range(999):
            listener(ChunkDone("a", 1, (0, 0)))
        assert told == [0.0]
        listener._said -= 10.0  # ten seconds later
        listener(ChunkDone("a", 1, (0, 0)))
        listener(SceneEnded(SceneState(scene="a", state="done")))
    assert told == [0.0, 100.0, 100.0]
