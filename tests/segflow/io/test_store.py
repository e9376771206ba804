"""A place keeps its promise to two writers of one file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from segflow.io.store import Folder


def test_two_who_put_one_file_do_not_disturb_each_other_and_leave_it_whole(tmp_path: Path) -> None:
    place, texts = Folder(tmp_path), [bytes([n]) * 4096 for n in range(4)]

    def put(text: bytes) -> None:
        for _ in range(200):
            place.put("note", text)
            assert place.get("note") in texts

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(put, text) for text in texts]:
            done.result()
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
