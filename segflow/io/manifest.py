"""What a published run tells of itself: `manifest.json` in its folder, and the folder's name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

MANIFEST = "manifest.json"
_STAMP = "%Y%m%dT%H%M%SZ"
_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a run.

    Attributes:
        name: relative to the run's folder.
        sha256: of its content.
        bytes: its size.
    """

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a run has published.

    Attributes:
        run: the name of its folder: when it was published, and a hash of what.
        good: whether all its scenes are whole.
        scenes: fingerprint by scene.
        files: everything in the folder but the manifest.
    """

    run: str
    good: bool
    scenes: dict[str, str]
    files: tuple[StoredFile, ...]

    @property
    def made(self) -> datetime:
        """When it was published."""
        return made_of(self.run)


def made_of(run: str) -> datetime:
    """Return when a run was published, by its name.

    Raises:
        ValueError: it is no run's name.
    """
    if not _RUN.fullmatch(run):
        raise ValueError(f"{run} is no run's name")
    return datetime.strptime(run.split("-", 1)[0], _STAMP).replace(tzinfo=UTC)


def name_of(now: datetime, content: str) -> str:
    """Return the name of a run that is published now.

    Args:
        now: the time, in UTC.
        content: hash of what is published, its first 8 hexadecimal digits.
    """
    return f"{now.strftime(_STAMP)}-{content}"
