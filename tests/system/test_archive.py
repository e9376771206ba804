"""DICOM files to a real archive."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from segflow.errors import OutputError
from segflow.io.dicom_send import send
from tests.system.archive import free_port, orthanc

pytestmark = pytest.mark.system


def example() -> Path:
    return Path(str(get_testdata_file("CT_small.dcm")))


@pytest.mark.parametrize("way", ["dicom", "dicomweb"])
def test_what_is_sent_comes_back_with_the_same_pixels_and_twice_is_once(tmp_path: Path, way: str) -> None:
    with orthanc(tmp_path) as archive:
        where = {
            "dicom": f"dicom://{archive.title}@127.0.0.1:{archive.port}",
            "dicomweb": f"dicomweb+http://127.0.0.1:{archive.http}/dicom-web",
        }[way]
        for _ in range(2):
            send(where, [example()])
        (instance,) = archive.get("instances")
        (tmp_path / "back.dcm").write_bytes(archive.file(instance))
    sent, back = pydicom.dcmread(example()), pydicom.dcmread(tmp_path / "back.dcm")
    assert back.PixelData == sent.PixelData
    assert back.SOPInstanceUID == sent.SOPInstanceUID


def test_an_archive_that_does_not_know_the_title_is_told_by_name(tmp_path: Path) -> None:
    with orthanc(tmp_path) as archive, pytest.raises(OutputError, match="listens there as WRONG"):
        send(f"dicom://WRONG@127.0.0.1:{archive.port}", [example()])


@pytest.mark.parametrize("where", ["dicom://ORTHANC@127.0.0.1:{}", "dicomweb+http://127.0.0.1:{}/dicom-web"])
def test_an_archive_that_is_not_there_is_told_with_the_remedy(where: str) -> None:
    with pytest.raises(OutputError, match="the next run sends what is missing"):
        send(where.format(free_port()), [example()])
