"""DICOM files to a real archive."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from segflow.errors import OutputError
from segflow.io.dicom_send import UnreachableError, send
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


@pytest.mark.parametrize("said", ["nothing", "wrong", "right"])
def test_an_archive_with_a_password_takes_what_comes_with_it_and_no_error_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    secrets = {"wrong": "wrong-7Secret", "right": "right-7Secret"}
    if said in secrets:
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login me password {secrets[said]}\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"me": secrets["right"]}}
    with orthanc(tmp_path, me=("me", secrets["right"]), **users) as archive:
        where = f"dicomweb+http://127.0.0.1:{archive.http}/dicom-web"
        if said == "right":
            send(where, [example()])
        else:
            with pytest.raises(UnreachableError, match="netrc") as caught:
                send(where, [example()])
            assert "7Secret" not in str(caught.value)
            assert "bWU6" not in str(caught.value)
        assert len(archive.get("instances")) == (said == "right")


def test_a_bearer_token_is_told_to_the_archive_and_in_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SEGFLOW_DICOMWEB_TOKEN", "planted-7Secret")
    caplog.set_level("DEBUG")
    with (
        orthanc(tmp_path, me=("me", "x"), AuthenticationEnabled=True, RegisteredUsers={"me": "x"}) as archive,
        pytest.raises(UnreachableError) as caught,
    ):
        send(f"dicomweb+http://127.0.0.1:{archive.http}/dicom-web", [example()])
    assert "7Secret" not in str(caught.value) + caplog.text


def test_of_several_files_those_before_a_cut_arrive_once_and_the_rest_with_the_next_try(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        data = pydicom.dcmread(example())
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(None, [str(number)])
        paths.append(tmp_path / f"{number}.dcm")
        data.save_as(paths[-1])
    whole = paths[2].read_bytes()
    with orthanc(tmp_path) as archive:
        where = f"dicom://{archive.title}@127.0.0.1:{archive.port}"
        send(where, paths[:1])
        paths[2].write_bytes(b"cut short")
        with pytest.raises(OutputError, match="cannot be read"):
            send(where, paths)
        paths[2].write_bytes(whole)
        send(where, paths)
        assert len(archive.get("instances")) == 3
