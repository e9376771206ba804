"""Claims about publishing: whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segflow.errors import OutputError
from segflow.io.atomic import part_of, replacing, write_text


def test_a_file_appears_only_when_the_body_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "new" / "map.tif"
    with replacing(target) as part:
        part.write_bytes(b"half")
        assert part.parent == target.parent
        assert part.name.endswith("map.tif")
        assert not target.exists()
        part.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"
    assert sorted(p.name for p in target.parent.iterdir()) == ["map.tif"]


def test_a_folder_in_the_way_is_named_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "map.tif").mkdir()
    with pytest.raises(OutputError, match="move the folder of that name away"), replacing(tmp_path / "map.tif") as part:
        part.write_bytes(b"whole")


def test_a_failed_attempt_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "map.tif"
    target.write_bytes(b"old")

    def attempt() -> None:
        with replacing(target) as part:
            part.write_bytes(b"half")
            Path(f"{part}.aux.xml").write_text("side")
            raise RuntimeError("the check found a fault")

    with pytest.raises(RuntimeError, match="fault"):
        attempt()
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]


def test_what_a_killed_attempt_left_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "map.nii.gz"
    code = (
        "import sys, time; from pathlib import Path; from segflow.io.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])) as part:\n"
        "    part.write_bytes(b'x' * 1000); print('there', flush=True); time.sleep(60)\n"
    )
    victim = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"there\n"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait(10)
    victim.stdout.close()
    assert part_of(target).exists()
    assert not target.exists()
    with replacing(target) as part:
        assert not part.exists()
        part.write_bytes(b"good")
    assert target.read_bytes() == b"good"
    assert [p.name for p in tmp_path.iterdir()] == ["map.nii.gz"]


def test_a_folder_that_cannot_be_made_is_an_output_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"outputs\.folder") as caught:
        write_text(tmp_path / "file" / "map.json", "{}")
    assert "map.json" in caught.value.found


def test_a_body_that_leaves_no_file_is_an_error(tmp_path: Path) -> None:
    def attempt() -> None:
        with replacing(tmp_path / "map.tif"):
            pass

    with pytest.raises(OutputError, match=r"map\.tif"):
        attempt()


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    write_text(target, "0" * 4096)
    code = (
        "import sys; from pathlib import Path; from segflow.io.atomic import write_text\n"
        "for i in range(200): write_text(Path(sys.argv[1]), str(i % 10) * 4096)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(target)]) as writer:
        seen = set()
        deadline = time.monotonic() + 30
        while writer.poll() is None and time.monotonic() < deadline:
            text = target.read_text()
            seen.add((len(text), len(set(text))))
    assert writer.returncode == 0
    assert seen <= {(4096, 1)}
