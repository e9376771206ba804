"""Scratch files: a disk that fills up is not the input's fault, and no name stands for half a file."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from segflow.errors import InputError, OutputError
from segflow.io.scratch import scratch_file, unpack

SIZE = 1 << 20


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A gzip file of 1 MiB."""
    path = tmp_path / "v.nii.gz"
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(SIZE)))
    return path


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """Let the system refuse what is written beyond so many bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("shared", [True, False])
def test_a_disk_that_fills_up_while_unpacking_is_an_output_error_and_leaves_nothing(
    packed: Path, tmp_path: Path, shared: bool
) -> None:
    folder = tmp_path / "scratch"
    with files_of_at_most(SIZE // 2), pytest.raises(OutputError, match="scratch files cannot be written") as caught:
        scratch_file("key", SIZE, str(folder) if shared else None, unpack(str(packed), SIZE))
    assert "free some room" in caught.value.remedy
    assert not shared or list(folder.iterdir()) == []


def test_a_file_that_cannot_be_unpacked_is_an_input_error_and_leaves_nothing(packed: Path, tmp_path: Path) -> None:
    for spoilt in (b"no gzip at all", packed.read_bytes()[:-100], packed.read_bytes()[:-8] + b"12345678"):
        packed.write_bytes(spoilt)
        with pytest.raises(InputError, match=r"v\.nii\.gz is broken"):
            scratch_file("key", SIZE, str(tmp_path / "scratch"), unpack(str(packed), SIZE))
    packed.unlink()
    with pytest.raises(InputError, match=r"v\.nii\.gz is broken"):
        scratch_file("key", SIZE, str(tmp_path / "scratch"), unpack(str(packed), SIZE))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_content_is_on_the_disk_before_it_has_its_name(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scratch"
    flushed: list[tuple[int, list[str]]] = []
    really = os.fsync

    def watched(handle: int) -> None:
        really(handle)
        flushed.append((os.fstat(handle).st_size, [path.suffix for path in folder.iterdir()]))

    monkeypatch.setattr(os, "fsync", watched)
    scratch_file("key", SIZE, str(folder), unpack(str(packed), SIZE)).close()
    assert flushed == [(SIZE, [".part"])]
    (made,) = folder.iterdir()
    assert made.read_bytes() == gzip.decompress(packed.read_bytes())
    assert [path.suffix for path in folder.iterdir()] == [".raw"]


def test_an_equal_key_is_written_once(tmp_path: Path) -> None:
    written = []

    def write(target: BinaryIO) -> None:
        written.append(target.write(b"content"))

    first = scratch_file("key", 7, str(tmp_path), write)
    second = scratch_file("key", 7, str(tmp_path), write)
    with first, second:
        assert second.read() == b"content"
    assert len(written) == 1


def test_a_nameless_file_is_gone_when_its_process_is_killed(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    code = (
        "import os, signal; from segflow.io.scratch import scratch_file, unpack; "
        f"file = scratch_file('key', {SIZE}, None, unpack({str(packed)!r}, {SIZE})); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(folder)}, check=False)
    assert done.returncode == -9
    assert list(folder.iterdir()) == []
