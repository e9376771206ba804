"""What a container leaves, by the files that control groups of both versions have."""

from __future__ import annotations

from pathlib import Path

import pytest

from segflow.hardware import memory_room

GIB = 1 << 30


@pytest.mark.parametrize(
    ("files", "room"),
    [
        ({"memory.max": f"{4 * GIB}", "memory.current": f"{GIB}"}, 3 * GIB),
        ({"memory.max": f"{GIB}", "memory.current": f"{2 * GIB}"}, 0),
        ({"memory.max": "max", "memory.current": f"{GIB}"}, None),
        ({"memory/memory.limit_in_bytes": f"{4 * GIB}", "memory/memory.usage_in_bytes": f"{GIB}"}, 3 * GIB),
        ({"memory/memory.limit_in_bytes": f"{4 * GIB}"}, None),
        ({"memory.max": f"{4 * GIB}", "memory.current": f"{3 * GIB}", "memory.stat": f"inactive_file {GIB}"}, 2 * GIB),
        ({"memory.max": "torn"}, None),
        ({}, None),
    ],
)
def test_a_container_s_limit_leaves_what_is_not_used(tmp_path: Path, files: dict[str, str], room: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert memory_room(tmp_path) == room


def test_version_1_without_a_limit_leaves_more_than_any_machine_has(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("123\n")
    room = memory_room(tmp_path)
    assert room is not None
    assert room > 1 << 60
