"""What is known of DICOM images, slice by slice: no pixels, and no patient data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segflow.errors import InputError
from segflow.io.dicom.place import Member

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""Transfer syntaxes whose pixels are stored as they are: implicit and explicit little endian, explicit big endian."""


@dataclass(frozen=True, slots=True)
class Image:
    """One file with pixels.

    Attributes:
        member: the file.
        sop_instance: UID of which it is.
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
