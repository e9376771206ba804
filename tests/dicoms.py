"""DICOM series that tests write for themselves, slice by slice or as one enhanced multi-frame file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

PATIENT = "Rosalind^Franklin"
"""A name that must be nowhere but in the files."""

_TO_LPS = np.diag([-1.0, -1.0, 1.0])


def uid(text: str) -> str:
    """A UID that is the same for the same text."""
    return str(generate_uid(entropy_srcs=[text]))


def write_series(folder: Path, values: NDArray[Any], affine: NDArray[np.float64], **tags: Any) -> list[Path]:
    """Write a volume as one file a slice, in an order that neither names nor instance numbers tell.

    Args:
        folder: where to; made if missing.
        values: (column, row, slice) integers of 8, 16 or 32 bits.
        affine: (4, 4) mm, RAS+; slices must lie along their normal, or the series has a gantry tilt.
        tags: of every file; a list in `per_slice` gives a mapping of tags for each slice, `syntax` and `series`
            (a text that decides the UID) are no tags.
    """
    folder.mkdir(parents=True, exist_ok=True)
    per_slice, series = tags.pop("per_slice", [{}] * values.shape[2]), tags.pop("series", str(folder))
    syntax, count = tags.pop("syntax", ExplicitVRLittleEndian), values.shape[2]
    paths = []
    for k in range(count):
        data = _image(values[:, :, k], series, f"{series} {k}", **tags)
        _place(data, affine, k)
        data.InstanceNumber = (k * 7) % count + 1
        for key, value in per_slice[k].items():
            setattr(data, key, value)
        path = folder / f"IM{(k * 5 + 3) % 997:04d}{uid(series)[-4:]}.dcm"
        _save(data, path, syntax)
        paths.append(path)
    return paths


def write_enhanced(path: Path, values: NDArray[Any], affine: NDArray[np.float64], **tags: Any) -> Path:
    """Write a volume as one Enhanced MR file whose frames are stored in another order than they lie in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    per_frame, series = tags.pop("per_frame", [{}] * values.shape[2]), tags.pop("series", str(path))
    order = [int(k) for k in np.random.default_rng(1).permutation(values.shape[2])]
    data = _image(values[:, :, 0], series, series, **tags)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    data.NumberOfFrames = len(order)
    data.PixelData = np.ascontiguousarray(values.transpose(2, 1, 0)[order]).tobytes()
    data.InstanceNumber = 1
    frames = []
    for k in order:
        whole = Dataset()
        _place(whole, affine, k)
        frame = Dataset()
        frame.PlanePositionSequence = Sequence([_only(whole, "ImagePositionPatient")])
        for group, inner in per_frame[k].items():
            item = Dataset()
            for key, value in inner.items():
                setattr(item, key, value)
            setattr(frame, group, Sequence([item]))
        frames.append(frame)
    shared = Dataset()
    shared.PlaneOrientationSequence = Sequence([_only(whole, "ImageOrientationPatient")])
    shared.PixelMeasuresSequence = Sequence([_only(whole, "PixelSpacing", "SpacingBetweenSlices", "SliceThickness")])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    _save(data, path, ExplicitVRLittleEndian)
    return path


def _image(pixels: NDArray[Any], series: str, instance: str, **tags: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage if tags.get("Modality") == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid(f"instance {instance}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    bits = pixels.dtype.itemsize * 8
    facts: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyDate": "20200101",
        "StudyTime": "120000",
        "Modality": "MR",
        "Manufacturer": "",
        "SeriesDescription": "T1",
        "PatientName": PATIENT,
        "PatientID": "SECRET-42",
        "PatientBirthDate": "19200725",
        "StudyInstanceUID": uid("study"),
        "SeriesInstanceUID": uid(f"series {series}"),
        "FrameOfReferenceUID": uid("frame"),
        "StudyID": "1",
        "SeriesNumber": 1,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[1],
        "Columns": pixels.shape[0],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **tags,
    }
    for key, value in facts.items():
        setattr(data, key, value)
    data["PixelData"] = _pixel_element(np.ascontiguousarray(pixels.T).tobytes(), bits)
    return data


def _pixel_element(content: bytes, bits: int) -> Any:
    from pydicom.dataelem import DataElement

    return DataElement(0x7FE00010, "OB" if bits == 8 else "OW", content + b"\0" * (len(content) % 2))


def _place(data: Dataset, affine: NDArray[np.float64], k: int) -> None:
    lps = _TO_LPS @ affine[:3]
    sides = np.linalg.norm(lps[:, :3], axis=0)
    directions = lps[:, :3] / sides
    data.ImagePositionPatient = [_decimal(value) for value in lps[:, 3] + k * lps[:, 2]]
    data.ImageOrientationPatient = [_decimal(value) for value in (*directions[:, 0], *directions[:, 1])]
    data.PixelSpacing = [_decimal(sides[1]), _decimal(sides[0])]
    data.SliceThickness = data.SpacingBetweenSlices = _decimal(sides[2])


def _decimal(value: float) -> str:
    """A number in the 16 letters of a decimal string."""
    text = f"{value:.10f}"[:16]
    return text if float(text) else "0"


def _only(data: Dataset, *keys: str) -> Dataset:
    part = Dataset()
    for key in keys:
        setattr(part, key, data[key].value)
    return part


def _save(data: FileDataset, path: Path, syntax: str) -> None:
    if UID(syntax).is_compressed:
        data.compress(syntax)
        data.save_as(path, enforce_file_format=True)
        return
    data.file_meta.TransferSyntaxUID = syntax
    data.preamble = b"\0" * 128
    if syntax == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, f"<u{data.BitsAllocated // 8}").byteswap().tobytes()
        dcmwrite(path, data, implicit_vr=False, little_endian=False, force_encoding=True)
        return
    dcmwrite(path, data, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True)
