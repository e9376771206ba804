"""What DICOM headers say of images, slice by slice. Pixel data are not read, and patient data are not even parsed.

Standard: DICOM PS3.3 2024, C.7.6.2 (image plane), C.7.6.16 (multi-frame functional groups).
"""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from segflow.errors import InputError, first_line
from segflow.io.dicom.place import BROKEN, Member, members_of, opening

_LOG = logging.getLogger(__name__)

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes whose pixels are stored as they are: implicit and explicit little endian, explicit big endian."""

_OTHERS = frozenset(
    ("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "DOC", "REG", "FID", "RWV", "PLAN", "ANN")
)
"""Modalities of objects that are about images and are none."""

_DICOMDIR = "1.2.840.10008.1.3.10"
_PREAMBLE = 132

SHOWN = (
    *("Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName", "StudyDescription"),
    *("BodyPartExamined", "ImageType", "EchoNumbers", "EchoTime", "AcquisitionNumber", "TemporalPositionIdentifier"),
    *(
        "DiffusionBValue",
        "TriggerTime",
        "AcquisitionTime",
        "SliceThickness",
        "ConvolutionKernel",
        "ContrastBolusAgent",
        "Units",
    ),
    *("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
)
"""Tags that are read always, to tell series apart and to choose by; none is of the patient."""

_NEEDED = (
    *("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)


@dataclass(frozen=True, slots=True)
class Image:
    """One file with pixels.

    Attributes:
        member: the file.
        sop_class, sop_instance: UIDs of what it is and which it is.
        syntax: UID of the transfer syntax.
        rows, columns: pixels of a frame.
        samples: values a pixel; 3 for colours.
        allocated, stored, high_bit: bits.
        signed: whether stored values are.
        photometric: such as MONOCHROME2.
        count: frames in the file.
        pixels_at: where in the file the pixel data begin, after their element's header where they are not packed.
        tags: the values of `SHOWN` and of what was asked for beside, as text; several values parted by a backslash.
        damage: what is wrong with the file, such as that it is cut short; "" where nothing is known to be.
    """

    member: Member
    sop_class: str
    sop_instance: str
    syntax: str
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    photometric: str
    count: int
    pixels_at: int
    tags: Mapping[str, str]
    damage: str = ""

    @property
    def native(self) -> bool:
        """Whether pixels are stored as they are."""
        return self.syntax in NATIVE

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame that is stored as it is."""
        return self.rows * self.columns * self.samples * self.allocated // 8


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice.

    Attributes:
        image: the file that it lies in.
        number: which frame of the file, from 0.
        position: of the first pixel's centre in mm, LPS; None where the header gives none.
        orientation: directions of a row (along which columns count) and of a column, six cosines; None likewise.
        spacing: mm from row to row and from column to column; None likewise.
        between: mm to the next slice, as far as the header says so; 0.0 where it does not.
        slope, inter: value = stored * slope + inter.
        part: what tells it from other volumes of its series: ImageType, echo, time, b-value.
    """

    image: Image
    number: int
    position: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, float] | None
    between: float
    slope: float
    inter: float
    part: tuple[str, ...]


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
                    found = _read(member, file, extra, alone=member.name == place)
            except _UnreadError as error:
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


def library() -> Any:
    """Import pydicom.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise InputError(
            "DICOM files, and pydicom is not installed", "the packages that read them", "pip install 'segflow[dicom]'"
        ) from error
    return pydicom


def broken(member: Member, how: str) -> InputError:
    """Return the error of a DICOM file that cannot be read."""
    return InputError(
        f"{member.name} is broken: {how or 'its header cannot be read'}",
        "a whole DICOM file",
        "copy or download it again, or take it away if it does not belong to the series",
    )


class _UnreadError(Exception):
    """A file of DICOM that cannot be read; the text says why, in words that hold no value of its header."""


def _read(member: Member, file: BinaryIO, extra: tuple[str, ...], alone: bool) -> list[Frame] | str | None:
    """Return a file's slices, or its modality where it holds no image, or None where it is no DICOM."""
    start = file.read(_PREAMBLE)
    named = member.name.lower().endswith((".dcm", ".dicom", ".ima")) or alone
    if start[128:] != b"DICM" and not (named and _plausible(start)):
        if named:
            raise _UnreadError("it does not begin as DICOM files do")
        return None
    file.seek(0)
    pydicom = library()
    try:
        with pydicom.config.disable_value_validation():
            data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=[*SHOWN, *_NEEDED, *extra])
            return _frames(member, file, data, extra)
    except _UnreadError:
        raise
    except Exception as error:  # pydicom raises whatever a broken header leads to; its words may hold values
        raise _UnreadError(f"its header cannot be read ({type(error).__name__})") from error


def _plausible(start: bytes) -> bool:
    """Tell whether bytes begin as a data set without preamble does: with an element of a low, even group."""
    return len(start) > 8 and start[0] in (2, 8) and start[1] == 0


def _frames(member: Member, file: BinaryIO, data: Any, extra: tuple[str, ...]) -> list[Frame] | str:
    meta = getattr(data, "file_meta", None)
    what = str(getattr(meta, "MediaStorageSOPClassUID", "") or data.get("SOPClassUID", ""))
    modality = str(data.get("Modality", "") or "")
    if what == _DICOMDIR:
        return "DICOMDIR"
    if modality in _OTHERS or "Rows" not in data:
        if "Rows" not in data and (not what or "Image Storage" in library().uid.UID(what).name):
            raise _UnreadError("it ends in its header")
        return modality or "object without image"
    syntax = str(getattr(meta, "TransferSyntaxUID", "") or NATIVE[0])
    pixels_at = _pixels_at(file, syntax)
    if not pixels_at:
        return "image of floating-point numbers"
    tags = {key: _text(data.get(key)) for key in (*SHOWN, *extra)}
    image = Image(
        member=member,
        sop_class=str(data.get("SOPClassUID", "")),
        sop_instance=str(data.get("SOPInstanceUID", "")),
        syntax=syntax,
        rows=int(data.Rows),
        columns=int(data.Columns),
        samples=int(data.get("SamplesPerPixel", 1) or 1),
        allocated=int(data.get("BitsAllocated", 16)),
        stored=int(data.get("BitsStored", data.get("BitsAllocated", 16))),
        high_bit=int(data.get("HighBit", data.get("BitsStored", 16) - 1)),
        signed=int(data.get("PixelRepresentation", 0) or 0) == 1,
        photometric=str(data.get("PhotometricInterpretation", "MONOCHROME2")),
        count=int(data.get("NumberOfFrames", 1) or 1),
        pixels_at=pixels_at,
        tags=tags,
    )
    needed = image.pixels_at + image.frame_bytes * image.count
    if image.native and member.bytes < needed:
        image = replace(image, damage=f"it is cut short: {member.bytes} bytes of {needed}")
    return list(_slices(image, data))


def _pixels_at(file: BinaryIO, syntax: str) -> int:
    """Return where the pixels begin; 0 where they are no integers. `file` stands before them (PS3.5 section 7.1)."""
    at = file.tell()
    if syntax not in NATIVE:
        return at
    group, element = struct.unpack("<HH" if syntax != NATIVE[2] else ">HH", file.read(4).ljust(4, b"\0"))
    if group != 0x7FE0:
        raise _UnreadError("it ends before its pixels")
    if element != 0x0010:
        return 0
    return at + (8 if syntax == NATIVE[0] else 12)


def _slices(image: Image, data: Any) -> Iterator[Frame]:
    frames = data.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        for number in range(image.count):
            yield _frame(image, number, (data,))
        return
    if len(frames) != image.count:
        raise _UnreadError(f"it says {image.count} frames and describes {len(frames)}")
    shared = (data.get("SharedFunctionalGroupsSequence") or [{}])[0]
    for number, own in enumerate(frames):
        yield _frame(image, number, (own, shared, data))


_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "StackID": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}
_FRAME_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")


def _frame(image: Image, number: int, places: Sequence[Any]) -> Frame:
    def value(key: str) -> Any:
        for place in places:
            group = place.get(_GROUPS[key]) if key in _GROUPS else None
            if group and group[0].get(key) is not None:
                return group[0].get(key)
            if place is places[-1] and place.get(key) is not None:
                return place.get(key)
        return None

    kind = next(
        (group[0].get("FrameType") for place in places for name in _FRAME_TYPES if (group := place.get(name))),
        image.tags["ImageType"],
    )
    echo = value("EchoNumbers") or value("EffectiveEchoTime") or value("EchoTime")
    when = value("TemporalPositionIndex") or value("TemporalPositionIdentifier")
    position, orientation = _numbers(value("ImagePositionPatient"), 3), _numbers(value("ImageOrientationPatient"), 6)
    spacing = _numbers(value("PixelSpacing"), 2)
    between = _numbers(value("SpacingBetweenSlices") or value("SliceThickness"), 1)
    slope, inter = _numbers(value("RescaleSlope"), 1), _numbers(value("RescaleIntercept"), 1)
    if position is None and image.count > 1 and len(places) == 1:
        orientation = None  # frames of old multi-frame images share the header of the first
    return Frame(
        image=image,
        number=number,
        position=None if position is None or orientation is None else (position[0], position[1], position[2]),
        orientation=orientation,
        spacing=None if spacing is None else (spacing[0], spacing[1]),
        between=between[0] if between else 0.0,
        slope=slope[0] if slope else 1.0,
        inter=inter[0] if inter else 0.0,
        part=tuple(map(_text, (kind, echo, when, value("DiffusionBValue"), value("StackID")))),
    )


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return a value as so many numbers; None where there are not that many."""
    if value is None or value == "":
        return None
    values = [value] if isinstance(value, int | float | str) or not hasattr(value, "__len__") else list(value)
    return tuple(float(item) for item in values) if len(values) == count else None


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return str(value).strip()
    return "\\".join(str(item).strip() for item in value)
