"""Where DICOM files lie: in a folder and below, or in a zip; and how a series in there is named in a path.

A series' path is `PLACE#KEY`: a folder, a zip or one file, and eight hexadecimal digits, a hash of the series. Nothing
in it tells of the patient but what the user's own folders are called.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from segflow.errors import InputError

ENDINGS = (".dcm", ".dicom", ".ima", ".zip")
"""The extensions by which a file is taken for DICOM; in folders and zips the content decides."""

_SERIES = re.compile(r"(?s)(.+)#([0-9a-f]{8})")
_TOO_LARGE = 1 << 40
_JUNK = ("__MACOSX",)

Opener = Callable[["Member"], BinaryIO]
BROKEN = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError)
"""What reading a damaged, an encrypted or a strangely packed file raises."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file that may hold DICOM.

    Attributes:
        path: the file; the archive where it lies in one.
        inside: its name in the zip; "" outside of one.
        bytes: its size, unpacked.
        changed_ns: when it (or its archive) was last written.
    """

    path: str
    inside: str = ""
    bytes: int = 0
    changed_ns: int = 0

    @property
    def folder(self) -> str:
        """The folder that it lies in; in a zip, the archive's path and the folder in it."""
        if not self.inside:
            return str(Path(self.path).parent)
        inner = str(PurePosixPath(self.inside).parent)
        return self.path if inner == "." else f"{self.path}/{inner}"

    @property
    def name(self) -> str:
        """Its name for messages: relative to its archive, or the whole path."""
        return f"{self.path}/{self.inside}" if self.inside else self.path


def split_path(path: str) -> tuple[str, str | None]:
    """Split a series' path into its place and its key; the key is None where the path names none."""
    match = _SERIES.fullmatch(path)
    return (match[1], match[2]) if match else (path, None)


def name_of_place(place: str) -> str:
    """Return the name of a folder, or of a zip or file without its extension."""
    name = Path(place).name
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending) and len(name) > len(ending)), "")
    return name if Path(place).is_dir() else name.removesuffix(name[len(name) - len(ending) :])


def is_dicom_path(path: str) -> bool:
    """Tell whether a path means DICOM: with a series' key, a folder, or an ending of `ENDINGS`."""
    place, key = split_path(path)
    return key is not None or place.lower().endswith(ENDINGS) or Path(place).is_dir()


def members_of(place: str) -> list[Member]:
    """List the files of a place in the order of their names; hidden ones are left out.

    Raises:
        InputError: there is no such place, or it is no zip that can be read.
    """
    path = Path(place)
    if path.is_dir():
        return list(_in_folder(path))
    if not path.is_file():
        raise InputError(f"there is no file or folder {place}", "a folder or a zip of DICOM files", "check the path")
    if zipfile.is_zipfile(path):
        return list(_in_zip(path))
    if place.lower().endswith(".zip"):
        raise _broken_zip(place, "it is no zip, or it was cut short")
    state = path.stat()
    return [Member(place, "", state.st_size, state.st_mtime_ns)]


def _in_folder(folder: Path) -> Iterator[Member]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith(".") or not path.is_file():
                continue
            state = path.stat()
            yield Member(str(path), "", state.st_size, state.st_mtime_ns)


def _in_zip(path: Path) -> Iterator[Member]:
    changed = path.stat().st_mtime_ns
    try:
        with zipfile.ZipFile(path) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.filename)
    except BROKEN as error:
        raise _broken_zip(str(path), str(error)) from error
    seen: set[str] = set()
    for entry in entries:
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if entry.is_dir():
            continue
        if ".." in parts or entry.filename.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", entry.filename):
            raise InputError(
                f"{path} holds {entry.filename!r}, a name that leads out of the archive",
                "names inside of the archive",
                "do not trust it; have it packed again",
            )
        if any(part.startswith(".") or part in _JUNK for part in parts):
            continue
        if entry.flag_bits & 1:
            raise InputError(f"{path} is encrypted", "a zip without a password", "unpack it to a folder, and name that")
        if entry.filename in seen or entry.file_size > _TOO_LARGE:
            raise _broken_zip(str(path), f"{entry.filename!r} is in it twice, or of an impossible size")
        seen.add(entry.filename)
        yield Member(str(path), entry.filename, entry.file_size, changed)


@contextmanager
def opening(place: str) -> Iterator[Opener]:
    """Give a function that opens the members of a place, one at a time; an archive is opened once.

    Raises:
        InputError: the archive cannot be opened.
    """
    if Path(place).is_dir() or not zipfile.is_zipfile(place):
        yield lambda member: Path(member.path).open("rb")  # noqa: SIM115  # the caller closes it
        return
    try:
        archive = zipfile.ZipFile(place)
    except BROKEN as error:
        raise _broken_zip(place, str(error)) from error
    with archive:
        yield lambda member: cast("BinaryIO", archive.open(member.inside))


def _broken_zip(path: str, how: str) -> InputError:
    return InputError(f"{path} is broken: {how}", "a whole zip archive", "copy or download it again")
