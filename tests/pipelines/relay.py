"""A relay in front of a real server, which loses, refuses, spoils or betrays what is put."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import urlsplit

Verdict = Callable[[int, str], str]
"""Takes the number of a PUT, from 0, and its path; says what becomes of it: pass, refuse, lose or spoil."""


@contextmanager
def relay(target: str, verdict: Verdict) -> Iterator[str]:
    """Give the URL of a relay to `target`. What is not a PUT passes."""
    host, lock, count = urlsplit(target).netloc, Lock(), iter(range(1 << 30))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _relayed(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = "pass"
            if self.command == "PUT":
                with lock:
                    said = verdict(next(count), self.path)
            if said == "refuse":
                return self._answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
            if said == "lose":
                self.close_connection = True
                return self.connection.close()
            if said == "spoil" and body:
                body = bytes([body[0] ^ 1]) + body[1:]
            link = HTTPConnection(host)
            kept = {key: value for key, value in self.headers.items() if key.lower() not in ("connection", "expect")}
            link.request(self.command, self.path, body, kept)
            found = link.getresponse()
            return self._answer(found.status, found.read(), found.headers)

        def _answer(self, status: int, body: bytes, headers: object = None) -> None:
            self.send_response(status)
            left = {"connection", "transfer-encoding", "date", "server"}
            left |= set() if self.command == "HEAD" else {"content-length"}
            for key, value in getattr(headers, "items", dict)():
                if key.lower() not in left:
                    self.send_header(key, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._relayed)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
