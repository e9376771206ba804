"""What a folder, a zip or a file holds: the slices of all its images, from headers alone."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from segflow.errors import first_line
from segflow.io.dicom.frames import Frame, broken, library
from segflow.io.dicom.parse import SHOWN, UnreadError, read_frames
from segflow.io.dicom.place import BROKEN, Member, members_of, opening

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a place holds.

    Attributes:
        frames: all slices of all images.
        others: how many DICOM files hold something else (segmentations, structures, reports), by modality.
        broken: files of DICOM that cannot be read, with what is wrong: nobody knows what belongs to which series.
    """

    frames: tuple[Frame, ...]
    others: Mapping[str, int]
    broken: tuple[tuple[Member, str], ...]


def scan(place: str, extra: Iterable[str] = ()) -> Scan:
    """Read the headers of all images of a place; the same files are read once a process.

    Args:
        place: a folder, a zip or a file.
        extra: further keywords whose values are wanted in `Image.tags`.

    Raises:
        InputError: the place is missing, all DICOM files in it are broken, or pydicom is not installed.
    """
    found = _scan(place, tuple(members_of(place)), tuple(sorted({*extra} - {*SHOWN})))
    if found.broken and not found.frames:
        raise broken(*found.broken[0])
    return found


@functools.lru_cache(maxsize=64)
def _scan(place: str, members: tuple[Member, ...], extra: tuple[str, ...]) -> Scan:
    frames: list[Frame] = []
    others: dict[str, int] = {}
    unread: list[tuple[Member, str]] = []
    with opening(place) as opened:
        for member in members:
            try:
                with opened(member) as file:
                    found = read_frames(member, file, extra, alone=member.name == place)
            except UnreadError as error:
                unread.append((member, str(error)))
                continue
            except BROKEN as error:
                unread.append((member, first_line(error)))
                continue
            if found is None:
                continue
            if isinstance(found, str):
                others[found] = others.get(found, 0) + 1
            else:
                frames += found
    if others:
        told = ", ".join(f"{count} {what}" for what, count in sorted(others.items()))
        _LOG.info("%s: left out, since they hold no image: %s", place, told)
    return Scan(tuple(frames), others, tuple(unread))


def header(member: Member, file: BinaryIO) -> Any:
    """Return a file's whole data set but for its pixel data: a `pydicom.Dataset`, patient data included.

    Raises:
        InputError: the file is broken.
    """
    pydicom = library()
    try:
        with pydicom.config.disable_value_validation():
            return pydicom.dcmread(file, stop_before_pixels=True, force=True)
    except Exception as error:
        raise broken(member, type(error).__name__) from error
