"""DICOM series in: found by content, sorted by position, chosen by tags; read without patient data."""

from segflow.io.dicom.choice import choose, series_at
from segflow.io.dicom.frames import Frame, Image
from segflow.io.dicom.place import Member, is_dicom_path
from segflow.io.dicom.series import Series, series_in

__all__ = ["Frame", "Image", "Member", "Series", "choose", "is_dicom_path", "series_at", "series_in"]
