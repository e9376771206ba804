"""What a container leaves, by the files that control groups of both versions have."""

from __future__ import annotations

from pathlib import Path

import pytest

from segflow.hardware import memory_room, usable_cores

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


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/system.slice/slurmstepd.scope/job_7/step_0", "{group}/memory.{name}"),
        ("11:memory:/system.slice/slurmstepd.scope/job_7\n1:name=systemd:/", "memory/{group}/memory.{name}_in_bytes"),
    ],
)
def test_a_batch_job_s_limit_binds_though_the_mount_is_the_machine_s(tmp_path: Path, own: str, files: str) -> None:
    version_2 = own.startswith("0::")
    names = ("max", "current") if version_2 else ("limit", "usage")
    job = "system.slice/slurmstepd.scope/job_7"
    for group, limit in (("system.slice", 8 * GIB), (job, 3 * GIB)):
        for name, value in zip(names, (limit, GIB), strict=True):
            path = tmp_path / files.format(group=group, name=name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
    (tmp_path / "own").write_text(own + "\n")
    assert memory_room(tmp_path, tmp_path / "own") == 2 * GIB
    (tmp_path / "own").write_text("0::/\n")
    assert memory_room(tmp_path, tmp_path / "own") is None


def test_a_batch_job_s_share_of_the_processor_binds(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "job" / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "own").write_text("0::/job\n")
    assert usable_cores(tmp_path, tmp_path / "own") == 1
