"""A real Orthanc on loopback, for a test: nothing of it is left."""

from __future__ import annotations

import json
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import Request, urlopen

_PLUGINS = "/usr/share/orthanc/plugins"


@dataclass(frozen=True)
class Archive:
    """Where it listens, at 127.0.0.1."""

    title: str
    port: int
    http: int
    me: tuple[str, str] | None = None

    def get(self, path: str) -> Any:
        """Ask its REST interface."""
        request = Request(f"http://127.0.0.1:{self.http}/{path}")
        if self.me is not None:
            request.add_header("Authorization", "Basic " + b64encode(":".join(self.me).encode()).decode())
        with urlopen(request) as answer:
            return json.loads(answer.read())

    def file(self, instance: str) -> bytes:
        """Return a stored file as it is sent to who asks for it."""
        with urlopen(f"http://127.0.0.1:{self.http}/instances/{instance}/file") as answer:
            found: bytes = answer.read()
            return found


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def orthanc(folder: Path, me: tuple[str, str] | None = None, **settings: Any) -> Iterator[Archive]:
    """Start the server, and end it; `me` is who asks its REST interface."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = Archive("ORTHANC", free_port(), free_port(), me)
    config = {
        "Name": "segflow-test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomAet": archive.title,
        "DicomPort": archive.port,
        "HttpPort": archive.http,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckCalledAet": True,
        "Plugins": [_PLUGINS],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **settings,
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(["/usr/sbin/Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        end = monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "orthanc.log").read_text()
            assert monotonic() < end, "Orthanc did not come"
            try:
                archive.get("system")
                break
            except OSError:
                sleep(0.1)
        yield archive
    finally:
        process.terminate()
        process.wait(timeout=60)
