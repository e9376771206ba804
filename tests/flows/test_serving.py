"""`segflow view`: files by ranges, nothing outside of the folder, and an end without a traceback."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from flows.serving import HOST, FolderServer, asked_span
from segflow.report.page import POLICY

DATA = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    (out / ".segflow").mkdir(parents=True)
    (out / ".segflow" / "journal").write_text("hidden")
    (out / "a b_labels.tif").write_bytes(DATA)
    page = f'<html lang="en"><meta content="{POLICY}"><header></header></html>'
    (out / "a b_report.html").write_text(page)
    (tmp_path / "secret.txt").write_text("secret")
    (out / "link.txt").symlink_to(tmp_path / "secret.txt")
    (out / "inside.txt").symlink_to(out / "a b_labels.tif")
    return out


@pytest.fixture
def server(folder: Path) -> Iterator[FolderServer]:
    with FolderServer(folder) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server: FolderServer, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        (None, 200, DATA, None),
        ("bytes=0-99", 206, DATA[:100], "bytes 0-99/10240"),
        ("bytes=10000-", 206, DATA[10000:], "bytes 10000-10239/10240"),
        ("bytes=10000-99999", 206, DATA[10000:], "bytes 10000-10239/10240"),
        ("bytes=-16", 206, DATA[-16:], "bytes 10224-10239/10240"),
        ("bytes=10240-", 416, b"", "bytes */10240"),
        ("bytes=0-1,5-6", 200, DATA, None),
        ("bytes=-", 200, DATA, None),
        ("lines=1-2", 200, DATA, None),
    ],
)
def test_files_are_served_by_ranges(server, asked, status, body, told):
    answer, found = ask(server, "/a%20b_labels.tif", **({"Range": asked} if asked else {}))
    assert (answer.status, found, answer.headers["Content-Range"]) == (status, body, told)
    answer, found = ask(server, "/a%20b_labels.tif", "HEAD", **({"Range": asked} if asked else {}))
    assert found == b""
    assert answer.headers["Content-Length"] == str(len(body))


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_span_is_a_slice_of_the_file(size, first, last):
    data = bytes(range(size))
    found = asked_span(f"bytes={first}-{last}", size)
    expected = data[first : last + 1] if first <= last else b""
    assert (b"" if found is None else data[found[0] : found[1]]) == expected


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/..%2fsecret.txt",
            "/a/../../secret.txt",
            "//etc/passwd",
            "/link.txt",
        ),
        *("/link.txt", "/.segflow/journal", "/%00", "/..\\secret.txt", "/", "/missing", "/.", "/~/other.js"),
    ],
)
def test_nothing_outside_of_the_folder_is_served(server, path):
    answer, body = ask(server, path)
    assert answer.status == (302 if path == "/" else 404)
    assert b"secret" not in body
    assert b"hidden" not in body


def test_a_link_inside_of_the_folder_is_followed(server):
    assert ask(server, "/inside.txt")[1] == DATA


def test_only_this_machines_names_are_answered(server):
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1"):
        assert ask(server, "/a%20b_labels.tif", Host=host)[0].status == 403
    assert ask(server, "/a%20b_labels.tif", Host=f"localhost:{server.server_port}")[0].status == 200


def test_nothing_can_be_written(server):
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, "/a%20b_labels.tif", method)[0].status == 501


def test_a_page_may_fetch_what_lies_beside_it_and_nothing_else(server):
    answer, body = ask(server, "/a%20b_report.html")
    assert answer.headers["Content-Type"].startswith("text/html")
    text = body.decode()
    assert "connect-src 'self' data:" in text
    assert "/a%20b_labels.tif" in text
    assert '<script src="/~/cog.js">' in text
    assert b"fromUrl" in ask(server, "/~/cog.js")[1]


def test_a_file_that_is_replaced_while_it_is_served_is_sent_as_it_was_opened_or_anew(folder, server):
    answer, _ = ask(server, "/a%20b_labels.tif", Range="bytes=0-9")
    tag = answer.headers["ETag"]
    assert ask(server, "/a%20b_labels.tif", Range="bytes=0-9", **{"If-Range": tag})[0].status == 206
    other = folder / "new"
    other.write_bytes(b"x" * 50)
    other.replace(folder / "a b_labels.tif")
    answer, body = ask(server, "/a%20b_labels.tif", Range="bytes=0-9", **{"If-Range": tag})
    assert (answer.status, body) == (200, b"x" * 50)
    assert answer.headers["ETag"] != tag


def test_a_file_that_becomes_shorter_while_it_is_sent_ends_the_answer(folder, server):
    large = folder / "large_labels.tif"
    large.write_bytes(bytes(1 << 26))
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=10)
    connection.request("GET", "/large_labels.tif")
    answer = connection.getresponse()
    answer.read(1000)
    large.write_bytes(b"short")
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()


def test_what_cannot_be_read_is_not_found_and_nothing_is_said(folder, server, capfd):
    gone = folder / "gone.txt"
    gone.write_text("x")
    server.found = lambda path: gone if path == "/gone.txt" else FolderServer.found(server, path)
    gone.unlink()
    assert ask(server, "/gone.txt")[0].status == 404
    assert ask(server, "/a%20b_labels.tif", Range=f"bytes=0-{'9' * 5000}")[0].status == 200
    assert capfd.readouterr().err == ""


def test_gdal_reads_a_served_cog_by_ranges(folder, server, monkeypatch):
    import numpy as np

    from segflow.grid import Grid
    from segflow.io.cog import write_label_cog
    from segflow.models.card import LabelClass

    labels = np.random.default_rng(0).integers(0, 2, (900, 1000), np.uint8)
    classes = (LabelClass(id=0, name="a", colour="#000000"), LabelClass(id=1, name="b", colour="#FFFFFF"))
    write_label_cog(
        folder / "x_labels.tif", lambda box: labels[box.slices], Grid("raster", (900, 1000)), classes, tags={}
    )
    monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(f"{server.url}x_labels.tif") as file:
        np.testing.assert_array_equal(file.read(1, window=((600, 700), (10, 400))), labels[600:700, 10:400])


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_view_ends_without_a_traceback(folder, stop):
    command = [sys.executable, "-m", "flows.cli", "view", str(folder), "--no-browser", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["url"].startswith("http://127.0.0.1:")
        process.send_signal(stop)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_a_folder_without_pages_and_a_taken_port_are_refused(tmp_path, folder, server):
    from flows.cli import main

    assert main(["view", str(tmp_path / "nothing"), "--no-browser"]) == 2
    assert main(["view", str(folder), "--no-browser", "--port", str(server.server_port)]) == 2
