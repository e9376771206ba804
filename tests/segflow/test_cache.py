"""The user's cache folder: what goes wrong in it never shows."""

import resource
import signal
from pathlib import Path

import pytest

from segflow.cache import remember, remembered


def test_a_full_disk_leaves_no_part_in_the_cache_and_what_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGFLOW_CACHE", str(tmp_path))
    remember("kind", "key", {"a": 1})
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        remember("kind", "key", {"a": list(range(1000))})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in (tmp_path / "kind").iterdir()] == ["key.json"]
    assert remembered("kind", "key") == {"a": 1}
