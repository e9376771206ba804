"""DICOM headers, read and taken apart into slices. Pixel data are not read, and patient data are not even parsed.

Standard: DICOM PS3.3 2024, C.7.6.2 (image plane), C.7.6.16 (multi-frame functional groups).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from segflow.io.dicom.frames import NATIVE, Frame, Image, library
from segflow.io.dicom.place import Member

_OTHERS = frozenset(
    ("SEG", "RTDOSE", "RTSTRUCT", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "DOC", "REG", "FID", "RWV", "PLAN", "ANN")
)
"""Modalities of objects that are about images and are none."""

_DICOMDIR = "1.2.840.10008.1.3.10"
_PREAMBLE = 132

SHOWN = (
    *("Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName", "StudyDescription"),
    *("BodyPartExamined", "ImageType", "EchoNumbers", "EchoTime", "AcquisitionNumber", "TemporalPositionIdentifier"),
    *("DiffusionBValue", "TriggerTime", "AcquisitionTime", "SliceThickness", "ConvolutionKernel", "Units"),
    *("ContrastBolusAgent", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
)
"""Tags that are read always, to tell series apart and to choose by; none is of the patient."""

_NEEDED = (
    *("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)


class UnreadError(Exception):
    """A file of DICOM that cannot be read; the text says why, in words that hold no value of its header."""


def read_frames(member: Member, file: BinaryIO, extra: tuple[str, ...], alone: bool) -> list[Frame] | str | None:
    """Return a file's slices, or its modality where it holds no image, or None where it is no DICOM.

    Args:
        member: the file.
        file: the same, open at its start.
        extra: further keywords whose values are wanted in `Image.tags`.
        alone: whether it was named, and not found in a folder: then it must be DICOM.

    Raises:
        UnreadError: it is broken.
        OSError, zlib.error: it cannot be read.
    """
    start = file.read(_PREAMBLE)
    named = member.name.lower().endswith((".dcm", ".dicom", ".ima")) or alone
    if start[128:] != b"DICM" and not (named and _plausible(start)):
        if named:
            raise UnreadError("it does not begin as DICOM files do")
        return None
    file.seek(0)
    pydicom = library()
    try:
        with pydicom.config.disable_value_validation():
            data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=[*SHOWN, *_NEEDED, *extra])
            return _frames(member, file, data, extra)
    except UnreadError:
        raise
    except Exception as error:  # pydicom raises whatever a broken header leads to; its words may hold values
        raise UnreadError(f"its header cannot be read ({type(error).__name__})") from error


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
            raise UnreadError("it ends in its header")
        return modality or "object without image"
    syntax = str(getattr(meta, "TransferSyntaxUID", "") or NATIVE[0])
    pixels_at = _pixels_at(file, syntax)
    if not pixels_at:
        return "image of floating-point numbers"
    tags = {key: _text(data.get(key)) for key in (*SHOWN, *extra)}
    image = Image(
        member=member,
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
        raise UnreadError("it ends before its pixels")
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
        raise UnreadError(f"it says {image.count} frames and describes {len(frames)}")
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
