"""Series of DICOM images: told apart and named, with their slices in order.

One SeriesInstanceUID may hold several volumes: echoes, times, b-values, localizers in three directions. They are
told apart by what differs (`Frame.part`, size, orientation, spacing), and each is a series here.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.dicom.frames import Frame, Image, broken
from segflow.io.dicom.geometry import affine_of, along_normal
from segflow.io.dicom.place import Member, opening
from segflow.io.dicom.scan import Scan, header, scan

_SPLITTERS = ("AcquisitionNumber", "TriggerTime", "AcquisitionTime")
"""Tags that tell volumes of a series apart only where positions come twice: elsewhere they vary within one."""

ALONE = "one slice alone"
"""Why a single slice is put aside: it is taken only where nothing else is there."""

_COSINES = 1e-3


@dataclass(frozen=True, slots=True)
class Series:
    """One volume of slices.

    Attributes:
        place: the narrowest folder, or the zip or file, that holds it.
        key: eight hexadecimal digits that name it.
        frames: its slices, in order along their normal where they have positions.
        aside: why it is no volume to segment, such as "a localizer"; None where it is one.
        broken: files beside its own that cannot be read and may belong to it, with what is wrong with them.
        others: slices with the same SeriesInstanceUID that are no part of it.
    """

    place: str
    key: str
    frames: tuple[Frame, ...]
    aside: str | None
    broken: tuple[tuple[Member, str], ...] = ()
    others: int = field(default=0, compare=False)

    @property
    def path(self) -> str:
        """How it is named as a scene's file."""
        return f"{self.place}#{self.key}"

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of its first slice."""
        return self.frames[0].image.tags

    @property
    def images(self) -> tuple[Image, ...]:
        """Its files, in the order of their slices; each once."""
        return tuple({frame.image.member: frame.image for frame in self.frames}.values())

    def affine(self) -> NDArray[np.float64]:
        """Return the (4, 4) affine from (column, row, slice) to millimetres, RAS+.

        Raises:
            InputError: the slices are no regular volume, or a file of the series, or one beside them, is broken.
        """
        damaged = [(image.member, image.damage) for image in self.images if image.damage]
        for member, how in (*damaged, *self.broken):
            raise broken(member, how)
        first = self.frames[0]
        if first.orientation is None or first.spacing is None:
            raise InputError(f"{self.path}: {self.aside}", "slices with positions in the patient", "choose another")
        return affine_of(
            _positions(self.frames),
            first.orientation,
            first.spacing,
            first.between,
            [Path(frame.image.member.name).name for frame in self.frames],
            self.path,
        )

    def headers(self) -> Iterator[Any]:
        """Yield each file's whole data set without its pixel data, in the order of the slices.

        These are `pydicom.Dataset`s with all that is in the files, patient data too: for DICOM that is made of DICOM.

        Raises:
            InputError: a file is gone or broken.
        """
        with opening(self.place) as opened:
            for image in self.images:
                with opened(image.member) as file:
                    yield header(image.member, file)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Give a function that opens a member of the series as a binary file."""
        with opening(self.place) as opened:
            yield opened

    def told(self) -> str:
        """Return a line that tells of it, without patient data."""
        tags, first = self.tags, self.frames[0]
        number = f"series {tags['SeriesNumber']}" if tags["SeriesNumber"] else "no series number"
        part = " ".join(text for text in first.part if text)
        size = f"{len(self.frames)} slices of {first.image.columns} x {first.image.rows}"
        aside = f" ({self.aside})" if self.aside else ""
        description = tags["SeriesDescription"] or "no description"
        return f"{description} | {tags['Modality']} | {number} | {size} | {part} | {tags['SeriesInstanceUID']}{aside}"


def series_in(place: str, extra: Iterable[str] = ()) -> list[Series]:
    """Return the series of a folder (and below), a zip or a file.

    Raises:
        InputError: the place is missing, or no DICOM file in it can be read.
    """
    return _series_of(place, scan(place, extra))


def _series_of(place: str, scanned: Scan) -> list[Series]:
    groups: dict[tuple[Any, ...], list[list[Frame]]] = {}
    for frame in scanned.frames:
        image = frame.image
        exact = (image.tags["SeriesInstanceUID"], image.rows, image.columns, image.samples, *frame.part)
        near = groups.setdefault(exact, [])
        for group in near:
            if _alike(group[0], frame):
                group.append(frame)
                break
        else:
            near.append([frame])
    found: list[Series] = []
    for exact, near in groups.items():
        for group in near:
            found += _made(place, exact, group, scanned.broken)
    slices = Counter(frame.image.tags["SeriesInstanceUID"] for frame in scanned.frames)
    found = [replace(item, others=slices[item.tags["SeriesInstanceUID"]] - len(item.frames)) for item in found]
    return sorted(found, key=lambda item: (item.place, item.tags["SeriesNumber"].zfill(8), item.key))


def _made(
    place: str, exact: tuple[Any, ...], group: list[Frame], unread: Sequence[tuple[Member, str]]
) -> Iterator[Series]:
    """Yield a group of like slices as one series, or as several where positions come twice for a reason."""
    folders = {frame.image.member.folder for frame in group}
    beside = tuple(pair for pair in unread if pair[0].folder in folders)
    home = _narrowest(place, group)
    for value, part in _split(_ordered(group)):
        first = part[0]
        turned = tuple(round(number, 1) + 0.0 for number in first.orientation or ())
        text = "|".join(map(str, (*exact, turned, value)))
        yield Series(home, hashlib.sha256(text.encode()).hexdigest()[:8], tuple(part), _aside(part), beside)


def _narrowest(place: str, group: list[Frame]) -> str:
    """Return the folder that holds a group's files; the place itself where that is a zip or a file."""
    folders = {frame.image.member.folder for frame in group}
    return os.path.commonpath(folders) if Path(place).is_dir() else place


def _alike(one: Frame, two: Frame) -> bool:
    """Tell whether two slices have one orientation and one pixel spacing."""
    pairs = ((one.orientation, two.orientation, _COSINES), (one.spacing, two.spacing, _COSINES))
    for a, b, tolerance in pairs:
        if (a is None) != (b is None):
            return False
        if a is not None and b is not None and not np.allclose(a, b, rtol=tolerance, atol=tolerance):
            return False
    return True


def _positions(frames: Sequence[Frame]) -> NDArray[np.float64]:
    return np.array([frame.position for frame in frames], dtype=np.float64)


def _ordered(group: list[Frame]) -> list[Frame]:
    orientation = group[0].orientation
    if orientation is None or any(frame.position is None for frame in group):
        return group
    places = along_normal(_positions(group), orientation)
    # Ties are told apart by the instance, so that one order comes of any order of files.
    order = sorted(range(len(group)), key=lambda k: (places[k], group[k].image.sop_instance, group[k].number))
    return [group[k] for k in order]


def _split(group: list[Frame]) -> list[tuple[str, list[Frame]]]:
    """Split slices whose positions come twice by a tag, if that gives volumes of equally many slices each."""
    if len(group) == len({frame.position for frame in group}):
        return [("", group)]
    for key in _SPLITTERS:
        parts: dict[str, list[Frame]] = {}
        for frame in group:
            parts.setdefault(frame.image.tags[key], []).append(frame)
        sizes = {len(part) for part in parts.values()}
        unique = all(len({frame.position for frame in part}) == len(part) for part in parts.values())
        if len(parts) > 1 and len(sizes) == 1 and unique:
            return [(f"{key} {value}", _marked(part, f"{key} {value}")) for value, part in parts.items()]
    return [("", group)]


def _marked(part: list[Frame], value: str) -> list[Frame]:
    return [replace(frame, part=(*frame.part, value)) for frame in part]


def _aside(frames: Sequence[Frame]) -> str | None:
    """Return why slices are no volume to segment; None where they are one."""
    first = frames[0]
    kind = {text.upper() for text in (*first.image.tags["ImageType"].split("\\"), *first.part[0].split("\\"))}
    if kind & {"LOCALIZER", "SCOUT"}:
        return "a localizer"
    if kind & {"PROJECTION IMAGE", "MIP", "MAX_IP", "SCREEN SAVE"}:
        return "a projection or a screen shot"
    if "MOSAIC" in kind:
        return "a mosaic of slices in one picture: convert it with dcm2niix"
    if first.image.samples != 1:
        return "colours"
    if first.image.allocated not in (8, 16, 32):
        return f"{first.image.allocated} bits a pixel"
    if any(frame.position is None for frame in frames) or first.spacing is None:
        return "no position in the patient: segment such pictures as PNG, kind: raster"
    return ALONE if len(frames) == 1 else None
