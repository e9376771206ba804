"""What a PACS and its tools say of the DICOM that is made: dicom3tools, DCMTK, and a real Orthanc on loopback."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from tests.pipelines.radiology import best_series, segmented
from tests.system.archive import orthanc

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A series, and the folder of what was made of it."""
    folder = tmp_path_factory.mktemp("radiology")
    place, weights = best_series(folder)
    assert segmented(folder / "out", place, weights).exit_code == 0
    return place, folder / "out"


def said(*command: str | Path) -> tuple[int, str]:
    """What a program prints, both ways, and its exit code."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(("name", "iod"), [("scene_seg.dcm", "Segmentation"), ("scene_sr.dcm", "ComprehensiveSR")])
def test_dciodvfy_and_dcmtk_find_no_error(scene: tuple[Path, Path], name: str, iod: str) -> None:
    path = scene[1] / name
    code, text = said("dciodvfy", "-new", path)
    assert (code, text.split()) == (0, [iod])
    assert said("dcmftest", path) == (0, f"yes: {path}\n")
    code, text = said("dcmdump", "+L", path)
    assert code == 0
    assert not any(line.startswith(("E:", "F:")) for line in text.splitlines())


def test_dcmtk_reads_the_report(scene: tuple[Path, Path]) -> None:
    code, text = said("dsrdump", scene[1] / "scene_sr.dcm")
    assert code == 0
    assert text.count('(mm3,UCUM,"cubic millimeter")') == 2


def test_orthanc_stores_and_gives_back_what_was_made(scene: tuple[Path, Path], tmp_path: Path) -> None:
    place, out = scene
    made = [out / "scene_seg.dcm", out / "scene_sr.dcm"]
    with orthanc(tmp_path / "orthanc") as archive:
        sources = sorted(place.rglob("*.dcm"))
        target = ["-aec", archive.title, "127.0.0.1", str(archive.port)]
        for _ in range(2):  # what is sent again is the same object, by UID and by content
            code, text = said("storescu", "-R", *target, *made, *sources)
            assert code == 0, text
        assert archive.get("statistics")["CountPatients"] == 1
        assert archive.get("statistics")["CountStudies"] == 1
        assert archive.get("statistics")["CountInstances"] == len(sources) + 2
        back = {}
        for instance in archive.get("instances"):
            found = pydicom.dcmread(BytesIO(archive.file(instance)))
            back[found.SOPInstanceUID] = found
        for path in made:
            sent = pydicom.dcmread(path)
            assert back[sent.SOPInstanceUID] == sent
