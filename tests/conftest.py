"""What all tests share: where the real data is, and that no test runs against a folder that is half there."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run, so that CI tells of the change and not of the dice; `HYPOTHESIS_PROFILE=wide` rolls.
settings.register_profile("segflow", deadline=None, derandomize=True)
settings.register_profile("wide", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "segflow"))

# A script's background job ignores Ctrl-C, and so would every process that tests start and stop.
signal.signal(signal.SIGINT, signal.default_int_handler)

_LEVEL = logging.root.level

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect real-data tests on a machine that has no shared data at all; elsewhere they run or fail."""
    if SHARED.is_dir():
        return
    real = [item for item in items if item.get_closest_marker("real")]
    if real:
        config.hook.pytest_deselected(items=real)
        items[:] = [item for item in items if not item.get_closest_marker("real")]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; a test that asks for it carries the mark `real`."""
    if not SHARED.is_dir():
        raise FileNotFoundError(f"{SHARED} is missing: mark the test `real`")
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests remember out of the user's cache, and have what he remembers decide no test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a command that was run in this process has said about logging, in the fixture of a module, too."""
    logging.root.setLevel(_LEVEL)
    yield
    logging.root.setLevel(_LEVEL)
