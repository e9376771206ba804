"""UIDs and dates of what is made of DICOM images: the same for the same content, so that a repeat gives the same bytes.

A UID is `2.25.` and the number of a UUID (DICOM PS3.5 B.2; name-based, version 5 of RFC 4122) whose name is all that
decides the object's bytes. Dates are the source's latest, since a date of making would give other bytes to the same
UID, which an archive may refuse: when the run was is told by the report. Without a date in the source it is that of
making, which then is part of the UIDs' name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from segflow.io.exports.dicom_inherited import TYPE_2

if TYPE_CHECKING:
    from pydicom import Dataset

_SPACE = UUID("8d0c3c0a-3f0e-5b53-9d3c-6f0f6b1f6e1b")
"""A name space of segflow's own for version 5 UUIDs."""

_DATES = ("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")
_MAKERS = ("segflow", "highdicom", "pydicom")


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides the UIDs and dates of the objects that are made of one label map.

    Attributes:
        key: hash of all that decides the bytes.
        date, time: as DICOM writes them: YYYYMMDD and HHMMSS.
    """

    key: str
    date: str
    time: str

    def uid(self, *what: object) -> str:
        """Return the UID of an object or series of this identity: the same words give the same UID."""
        return f"2.25.{uuid5(_SPACE, '|'.join((self.key, *map(str, what)))).int}"


def identity_of(sources: Sequence[Dataset], facts: Iterable[str]) -> Identity:
    """Return the identity of what is made of images.

    Args:
        sources: the images.
        facts: what else decides the bytes, such as the labels' hash and what made them.
    """
    date, time = _latest(sources) or datetime.now().strftime("%Y%m%d %H%M%S").split()
    digest = hashlib.sha256()
    uids = (str(source.SOPInstanceUID) for source in sources)
    patient = (str(sources[0].get(keyword)) for keyword in TYPE_2)
    for part in (date, time, *(version(maker) for maker in _MAKERS), *facts, *patient, *uids):
        digest.update(part.encode() + b"\0")
    return Identity(digest.hexdigest(), date, time)


def _latest(sources: Sequence[Dataset]) -> tuple[str, str] | None:
    found = [
        (date, _seconds(str(source.get(key.replace("Date", "Time")) or "")))
        for source in sources
        for key in _DATES
        if len(date := str(source.get(key) or "").replace(".", "")) == 8 and date.isdigit()
    ]
    return max(found, default=None)


def _seconds(time: str) -> str:
    """Return HHMMSS of a DICOM time, which may lack its end."""
    digits = time.split(".")[0].replace(":", "")
    return digits.ljust(6, "0") if digits.isdigit() and len(digits) in (2, 4, 6) else "000000"
