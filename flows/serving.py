"""An output folder over HTTP, for the browser of this machine: files by ranges, and nothing outside of the folder."""

from __future__ import annotations

import gzip
import json
import mimetypes
import os
import re
from functools import cached_property
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

HOST = "127.0.0.1"
_CHUNK = 1 << 18
_PAGE = "_report.html"
_COG = "/~/cog.js"
_MORE = (
    (
        "default-src 'none'; img-src data:",
        "default-src 'none'; connect-src 'self' data:; worker-src blob:; img-src data:",
    ),
    ("script-src 'unsafe-inline'", "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'"),
)
"""What a served page may do besides: fetch from here, and unpack what is packed with ZSTD."""


class FolderServer(ThreadingHTTPServer):
    """Serves one folder on the loopback interface."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Bind to a port.

        Args:
            folder: what is served.
            port: 0 for any that is free.

        Raises:
            OSError: the port is taken.
        """
        self.folder = folder.resolve()
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """Where the first page is."""
        return f"http://{HOST}:{self.server_port}/"

    @cached_property
    def hosts(self) -> frozenset[str]:
        """Names under which a browser may ask: no other site's page gets at the files by a name of its own."""
        return frozenset(f"{name}:{self.server_port}" for name in (HOST, "localhost"))

    def found(self, path: str) -> Path | None:
        """Return the file that a URL's path names; None where there is none inside of the folder, links followed."""
        parts = unquote(path).split("/")[1:]
        if not parts or any(part.startswith(".") or part == "" or "\\" in part or "\0" in part for part in parts):
            return None
        try:
            place = self.folder.joinpath(*parts).resolve(strict=True)
        except (OSError, RuntimeError):
            return None
        return place if place.is_relative_to(self.folder) and place.is_file() else None

    def front(self) -> str | None:
        """Return the path of the page that is shown first."""
        pages = [path for path in (self.folder / "report.html", *sorted(self.folder.glob("*.html"))) if path.is_file()]
        return f"/{quote(pages[0].name)}" if pages else None


class _Handler(BaseHTTPRequestHandler):
    server: FolderServer
    protocol_version = "HTTP/1.1"
    server_version = "segflow"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Say nothing: what is looked at is nobody's matter."""

    def _answer(self, body: bool) -> None:
        if self.headers.get("Host", "") not in self.server.hosts:
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        path = urlsplit(self.path).path
        front = self.server.front() if path == "/" else None
        if front is not None:
            self._start(HTTPStatus.FOUND, 0, Location=front)
            return
        if path == _COG:
            self._bytes(_cog_reader(), "text/javascript; charset=utf-8", body)
            return
        place = self.server.found(path)
        try:
            if place is None:
                self._refuse(HTTPStatus.NOT_FOUND)
            elif place.suffix == ".html":
                self._bytes(_served(place).encode(), "text/html; charset=utf-8", body)
            else:
                self._file(place, body)
        except ConnectionError:  # the browser has turned away
            self.close_connection = True
        except OSError:  # gone since it was found, or not ours to read
            self._refuse(HTTPStatus.NOT_FOUND)

    def _start(self, status: HTTPStatus, length: int, **headers: str) -> None:
        self.send_response(status)
        told = {
            "Content-Length": str(length),
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: HTTPStatus) -> None:
        self._bytes(f"{status.value} {status.phrase}\n".encode(), "text/plain; charset=utf-8", True, status)

    def _bytes(self, data: bytes, kind: str, body: bool, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._start(status, len(data), Content_Type=kind)
        if body and self.command != "HEAD":
            self.wfile.write(data)

    def _file(self, place: Path, body: bool) -> None:
        kind = mimetypes.guess_type(place.name)[0] or "application/octet-stream"
        if place.name.endswith(".gz"):
            kind = "application/gzip"
        with place.open("rb") as file:
            # Of what is open, not of what the name leads to by now: it may have been replaced.
            facts = os.fstat(file.fileno())
            size, tag = facts.st_size, f'"{facts.st_ino:x}-{facts.st_mtime_ns:x}-{facts.st_size:x}"'
            same = self.headers.get("If-Range", tag) == tag
            span = asked_span(self.headers.get("Range") if same else None, size)
            if span is None:
                self._start(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, Content_Range=f"bytes */{size}")
                return
            first, stop, partial = span
            more = {"Content_Range": f"bytes {first}-{stop - 1}/{size}"} if partial else {}
            status = HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK
            self._start(status, stop - first, Content_Type=kind, Accept_Ranges="bytes", ETag=tag, **more)
            if body:
                self._copy(file, first, stop - first)

    def _copy(self, file: BinaryIO, first: int, left: int) -> None:
        """Send a part of a file; where it has become shorter, end the connection, so that nobody waits for the rest."""
        file.seek(first)
        while left and (chunk := file.read(min(_CHUNK, left))):
            self.wfile.write(chunk)
            left -= len(chunk)
        self.close_connection = self.close_connection or left > 0


def asked_span(asked: str | None, size: int) -> tuple[int, int, bool] | None:
    """Return first byte, one after the last, and whether that is a part; None where there is no such part.

    Several ranges at once, and what is none, get the whole file, as RFC 9110 allows.
    """
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", asked or "")
    if found is None or found.group(0) == "bytes=-":
        return 0, size, False
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size, True) if int(last) and size else None
    stop = min(size, int(last) + 1) if last else size
    return (int(first), stop, True) if int(first) < stop else None


def _served(page: Path) -> str:
    """Return a page that may fetch what lies beside it: its label map at full resolution."""
    text = page.read_text(encoding="utf-8")
    stem = page.name.removesuffix(_PAGE)
    label_maps = (page.with_name(f"{stem}{end}") for end in ("_labels.tif", "_dseg.nii.gz"))
    found = next((path for path in label_maps if path.is_file()), None)
    if found is None or not page.name.endswith(_PAGE):
        return text
    told = escape(json.dumps({"labels": f"/{quote(found.name)}"}))
    for before, after in _MORE:
        text = text.replace(before, after, 1)
    text = text.replace('<html lang="en">', f'<html lang="en" data-served="{told}">', 1)
    reader = f'<script src="{_COG}"></script>' if found.suffix == ".tif" else ""
    return text.replace("</header>", f"</header>{reader}", 1)


def _cog_reader() -> bytes:
    return gzip.decompress(files("segflow.report").joinpath("vendor", "cog.js.gz").read_bytes())
