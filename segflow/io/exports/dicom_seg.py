"""DICOM out: `<scene>_seg.dcm`, a segmentation for a PACS, and by option `<scene>_sr.dcm`, a report with volumes.

Both are made of the DICOM series that was segmented: patient and study are its own, its images are referred to, pixels
are its pixels. Class id 0 is the background and no segment; the others are segments 1, 2, ... in order of their ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import OutputError
from segflow.io.atomic import replacing
from segflow.io.exports.coding import Coding, codings_of, foreground
from segflow.io.exports.dicom_identity import identity_of
from segflow.io.exports.dicom_inherited import discreet
from segflow.io.exports.dicom_objects import Algorithm, SegType, report_of, segmentation_of
from segflow.io.exports.label_slabs import label_slabs
from segflow.io.exports.protocol import Published
from segflow.io.volume_header import VolumeHeader, read_volume_header
from segflow.models.card import LabelClass

if TYPE_CHECKING:
    from pydicom import Dataset

    from segflow.io.dicom import Series

LARGEST_BYTES = (1 << 32) - 2
"""Of pixel data that are stored as they are: DICOM writes their length in 32 bits, and it is even."""

_ASIDE = 0.05
"""How far, in voxels, a corner of the label map may lie from the series'."""


class DicomSeg:
    """The segmentation and the report. See `segflow.io.exports.Exporter`."""

    name = "dicom_seg"

    def __init__(self, kind: SegType = "BINARY", codes: Path | None = None, sr: bool = False) -> None:
        """Take what the recipe asks for.

        Args:
            kind: how segments are stored.
            codes: a JSON for dcmqi, whose codes go before the card's.
            sr: whether the report is wanted.
        """
        self._kind = kind
        self._codes = codes
        self._sr = sr

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the files: the codes by their content."""
        try:
            codes = None if self._codes is None else hashlib.sha256(self._codes.read_bytes()).hexdigest()
        except OSError:
            codes = "missing"
        return {"type": self._kind, "codes": codes, "sr": self._sr}

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the segmentation, and the report where it is wanted."""
        return tuple(folder / f"{scene}_{what}.dcm" for what in ("seg", *(["sr"] if self._sr else [])))

    def require(self, published: Published) -> None:
        """Refuse what is no DICOM series, has no codes, or is too large.

        Raises:
            OutputError: it cannot be written; the remedy says what can.
        """
        with _installed():
            import highdicom  # noqa: F401
        self._segments(published)
        series = _series_of(published)
        if len({image.sop_instance for image in series.images}) > 1 and any(image.count > 1 for image in series.images):
            raise OutputError(
                f"{len(series.images)} multi-frame images are one volume",
                "single-frame images, or one multi-frame image",
                "convert the series to one enhanced image, or to single frames",
            )
        _require_room(published, self._kind)
        with discreet():
            _frame_of_reference(next(series.headers()))

    def write(self, published: Published) -> None:
        """Write the files. The label map is in memory as a whole, with a bit a voxel and segment for BINARY.

        Raises:
            InputError: the label map or the series is broken.
            OutputError: a file cannot be written, or does not read back as it was written.
        """
        segments = self._segments(published)
        with discreet():
            self._write(published, _series_of(published), segments)

    def _write(self, published: Published, series: Series, segments: list[tuple[LabelClass, Coding]]) -> None:
        sources = list(series.headers())
        header = read_volume_header(str(published.labels))
        frames = _renumbered(_label_frames(header, series), [item for item, _ in segments])
        algorithm, voxels = _algorithm(published), hashlib.sha256(frames.data).hexdigest()
        identity = identity_of(sources, (self._kind, voxels, repr(algorithm), repr(segments)))
        made = segmentation_of(sources, frames, segments, algorithm, identity, self._kind)
        paths = self.files(published.scene, published.folder)
        with replacing(paths[0]) as part:
            made.save_as(part, enforce_file_format=True)
            _require_same(part, paths[0], sources, frames)
        if self._sr:
            voxel = abs(float(np.linalg.det(header.matrix[:3, :3])))
            counts = np.bincount(frames.ravel(), minlength=len(segments) + 1)
            volumes = {number: int(counts[number]) * voxel for number in range(1, len(segments) + 1)}
            with replacing(paths[1]) as part:
                report = report_of(sources, made, segments, volumes, algorithm, identity)
                report.save_as(part, enforce_file_format=True)

    def _segments(self, published: Published) -> list[tuple[LabelClass, Coding]]:
        """Return the segments in order, with their codes."""
        codings = codings_of(published.card.classes, self._codes)
        if not codings:
            raise OutputError(
                "the model has no class but id 0, which is the background",
                "at least one class with another id",
                "give the class that is looked for another id in the model's card",
            )
        return [(item, codings[item.id]) for item in foreground(published.card.classes)]


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise OutputError(
            f"highdicom is not installed ({error})", "highdicom, which writes it", "pip install 'segflow[dicom]'"
        ) from error


def _series_of(published: Published) -> Series:
    """Return the series whose grid the label map has."""
    from segflow.io.dicom import is_dicom_path, series_at

    path = published.source
    if not is_dicom_path(path):
        raise OutputError(
            f"the input {Path(path).name} is no DICOM",
            "a DICOM series, from which a segmentation takes patient, study and the images that it belongs to",
            "segment the DICOM series itself (inputs: a folder or a zip of it), or use outputs.seg_nrrd",
        )
    return series_at(path)


def _frame_of_reference(source: Dataset) -> None:
    if not source.get("FrameOfReferenceUID"):
        raise OutputError(
            "the DICOM images have no Frame of Reference UID",
            "one, which says in whose coordinates positions are",
            "take the series as the scanner or the archive sent it, or use outputs.seg_nrrd",
        )


def _require_room(published: Published, kind: SegType) -> None:
    ids = [item.id for item in foreground(published.card.classes)]
    bits = len(ids) if kind == "BINARY" else 8 if len(ids) < 256 else 16
    needed = published.grid.size * bits // 8
    if needed > LARGEST_BYTES:
        raise OutputError(
            f"{len(ids)} segments of {published.grid.size} voxels may take {needed} bytes as {kind}",
            f"at most {LARGEST_BYTES} bytes, as DICOM stores the length of pixels in 32 bits",
            "set outputs.dicom_seg.type: LABELMAP, which takes a byte or two a voxel, or use outputs.seg_nrrd"
            if kind == "BINARY"
            else "use outputs.seg_nrrd",
        )


def _label_frames(header: VolumeHeader, series: Series) -> NDArray[np.unsignedinteger]:
    """Return the labels of the frames of the series' images, (frame, row, column) uint8 or uint16, in their order."""
    first, depth = series.frames[0].image, len(series.frames)
    shape, corners = (first.columns, first.rows, depth), np.array([[0.0, 1.0]] * 3)
    ends = np.stack([*np.meshgrid(*corners, indexing="ij"), np.ones((2, 2, 2))]).reshape(4, -1)
    ends[:3] *= np.array(shape)[:, None] - 1.0
    apart = np.abs((np.linalg.inv(series.affine()) @ header.matrix - np.eye(4)) @ ends).max()
    if header.file_shape != shape or apart > _ASIDE:
        raise OutputError(
            f"the label map ({' x '.join(map(str, header.file_shape))}) does not lie on the pixels of the series "
            f"({' x '.join(map(str, shape))}; {apart:.2g} voxels apart)",
            "the label map of this series, voxel for pixel",
            "remove the output folder and run again",
        )
    whole = np.zeros((max(depth, first.count), first.rows, first.columns), header.dtype.newbyteorder("="))
    several = first.count > 1
    for low, slab in label_slabs(header):
        for number in range(slab.shape[2]):
            place = series.frames[low + number].number if several else low + number
            whole[place] = slab[:, :, number].T
    return whole


def _renumbered(frames: NDArray[np.unsignedinteger], classes: Sequence[LabelClass]) -> NDArray[np.unsignedinteger]:
    """Turn class ids into segment numbers: 1, 2, ... in the order of the classes; what is no segment is 0."""
    numbers = np.zeros(np.iinfo(frames.dtype).max + 1, np.uint8 if len(classes) < 256 else np.uint16)
    for number, item in enumerate(classes, 1):
        numbers[item.id] = number
    return np.asarray(numbers[frames])


def _algorithm(published: Published) -> Algorithm:
    weights = published.weights_sha256
    return Algorithm(
        name=published.card.name,
        version=f"weights {weights[:16]}",
        serial=published.fingerprint,
        description=published.card.description,
    )


def _require_same(part: Path, path: Path, sources: Sequence[Dataset], frames: NDArray[np.unsignedinteger]) -> None:
    """Open what was written with the library that others read it with, and compare all voxels."""
    import highdicom

    found = highdicom.seg.segread(part)
    uids = [source.SOPInstanceUID for source in sources]
    options: dict[str, Any] = {"combine_segments": True, "assert_missing_frames_are_empty": True, "dtype": frames.dtype}
    same = (
        found.get_pixels_by_source_instance(uids, **options)
        if len(sources) == len(frames)
        else found.get_pixels_by_source_frame(uids[0], list(range(1, len(frames) + 1)), **options)
    )
    if not np.array_equal(same, frames):
        raise OutputError(
            f"{path} is not what was written when it is read back",
            "the voxels that were written",
            "check the disk, then run again",
        )
