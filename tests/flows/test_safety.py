"""What only the one who runs may know is told to nobody: not by files, logs, errors, the ledger or Prefect."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.dicoms import PATIENT, write_series
from tests.flows.servers import asked, server
from tests.segflow.io.test_raster import SERVER

SECRET = "planted7Secret"


@pytest.fixture
def shared(making: Any) -> Iterator[str]:
    """A host that gives a raster to whoever asks; its name and port."""
    making.model()
    making.raster("open/a.tif", shape=(70, 66))
    command = [sys.executable, "-c", SERVER, str(making.folder / "open")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        yield f"127.0.0.1:{host.stdout.readline().strip()}"
        host.kill()


def with_secrets(making: Any, host: str, **parts: Any) -> Path:
    """A recipe with a secret in each place in which users put one."""
    return Path(
        making.recipe(
            **{
                "name": "planted",
                "inputs": [f"http://me:${{SECRET}}@{host}/a.tif?sig=${{SECRET}}"],
                "outputs": {
                    "folder": "out",
                    "stac": True,
                    "taken": "2026-11-25",
                    "polygons": "postgresql://me:${SECRET}@127.0.0.1:9/maps#public.it",
                },
                "compute": {"staging": str(making.folder / "stage-${SECRET}"), "workers": 1},
                "publish": {"to": f"file://{making.folder}/elsewhere"},
                **parts,
            }
        )
    )


def leaks(folder: Path) -> list[str]:
    """Files in which the secret stands, or whose names tell it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [str(path) for path in files if SECRET in path.name or SECRET.encode() in path.read_bytes()]


def test_a_planted_secret_is_in_no_file_line_or_error(making: Any, shared: str, spawn: Callable[..., Any]) -> None:
    path = with_secrets(making, shared)
    for command in (("run", path, "-v"), ("run", path, "--new", "-v", "-v"), ("plan", path), ("status", path)):
        result = spawn(*command, SECRET=SECRET)
        assert result.code in (0, 1), result.err
        assert SECRET not in result.out + result.err
        assert "Traceback" not in result.err
    report = json.loads((making.folder / "out" / "a_report.json").read_text())
    assert "stage-${SECRET}" in report["run"]["recipe"]
    assert (making.folder / "out" / "ledger.sqlite").exists()
    assert leaks(making.folder) == []


@pytest.mark.parametrize(
    "part",
    [
        {"publish": "s3://bucket/x?key=${SECRET}"},
        {"publish": "https://me:${SECRET}@h/x"},
        {"service": {"ledger": "postgresql://me:${SECRET}@127.0.0.1:9/x"}},
        {"service": {"ledger": "postgresql://me@127.0.0.1:9/x?passfile=${SECRET}"}},
        {"inputs": "nowhere-${SECRET}.tif"},
        {"kind": "${SECRET}"},
        {"outputs": {"name": "../${SECRET}"}},
        {"compute": {"staging": "/proc/${SECRET}"}},
        {"model": {"weights": "https://h/${SECRET}.onnx"}},
    ],
)
def test_no_error_tells_a_secret(making: Any, segflow: Any, monkeypatch: pytest.MonkeyPatch, part: Any) -> None:
    making.model()
    making.raster()
    monkeypatch.setenv("SECRET", SECRET)
    result = segflow("run", making.recipe(**{"name": "planted", **part}), "--new", "--json")
    assert result.code in (1, 2)
    assert SECRET not in result.out + result.err
    assert "Traceback" not in result.err


def test_a_prefect_server_keeps_what_was_written_and_no_secret(
    making: Any, shared: str, spawn: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = with_secrets(making, shared)
    home = tmp_path_factory.mktemp("prefect")
    with server(home) as api:
        for flags in ((), ("--new",)):
            result = spawn("run", path, *flags, "-v", PREFECT_API_URL=api, SECRET=SECRET)
            assert result.code == 1, result.err
            assert SECRET not in result.out + result.err
        runs = asked(api, "flow_runs")
        assert len(runs) == 2
        for run in runs:
            assert run["parameters"]["recipe"]["compute"]["staging"].endswith("stage-${SECRET}")
        assert asked(api, "artifacts")
        told = json.dumps([asked(api, what) for what in ("flow_runs", "task_runs", "artifacts", "logs")])
        assert SECRET not in told
    assert leaks(home) == []


HELD = "Franklin^Rosalind"
"""A folder that is called after the patient."""


def nightly_of_dicom(making: Any, **parts: Any) -> Path:
    making.model("volume")
    rng = np.random.default_rng(1)
    for number, folder in enumerate((HELD, f"deep/{HELD}_2", "plain")):
        values = rng.integers(0, 255, (20, 22, 18)).astype(np.int16)
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        write_series(making.folder / "in" / folder, values, affine, series=f"s{number}", PatientName=PATIENT)
    broken = making.folder / "in" / "plain"
    for path in sorted(broken.iterdir())[::2]:
        path.write_bytes(path.read_bytes()[:400])
    service = {"settle_seconds": 0.2, "retries": 1}
    usual = {"kind": "volume", "name": "pacs", "inputs": "in/*", "service": service, "compute": {"backend": "torch"}}
    return Path(making.recipe(**(usual | parts)))


def patients(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if "franklin" in text.lower() or "rosalind" in text.lower()]


def test_a_night_names_no_patient_in_a_log_the_ledger_a_file_name_or_prefect(
    making: Any, spawn: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = nightly_of_dicom(making)
    home = tmp_path_factory.mktemp("prefect")
    with server(home) as api:
        told = [spawn("run", path, "--new", "-v", "-v", PREFECT_API_URL=api) for _ in range(2)]
        status = spawn("status", path, "--json")
        told.append(status)
        names = sorted(item.name[:16] for item in (making.folder / "out").glob("*_dseg.nii.gz"))
        (bad,) = [row["name"] for row in status.json["scenes"] if row["state"] == "quarantined"]
        told.append(spawn("status", path, "--log", bad))
        asked_for = [asked(api, what) for what in ("flow_runs", "task_runs", "artifacts", "logs")]
    assert [result.code for result in told] == [1, 0, 0, 0], told[0].err
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in (*names, bad))
    assert len(names) == 2
    out = making.folder / "out"
    assert sorted(item.name for item in out.glob("*_dseg.nii.gz")) == [f"{name}_dseg.nii.gz" for name in names]
    assert patients(str(item.relative_to(out)) for item in out.rglob("*")) == []
    assert patients(json.dumps(found) for found in asked_for) == []
    assert patients(result.out + result.err for result in told) == []
    assert patients(item.read_bytes().decode("latin-1") for item in out.glob("ledger*")) == []
    assert patients(item.read_bytes().decode("latin-1") for item in home.rglob("*") if item.is_file()) == []
    assert (out / "ledger.key").stat().st_mode & 0o777 == 0o600


def test_names_of_series_are_the_same_for_one_key_and_others_for_another_unless_the_recipe_names_them(
    making: Any, segflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nightly_of_dicom(making)

    def names(*more: str) -> set[str]:
        return set(segflow("status", path, "--json", *more).json["waiting"])

    first = names()
    assert names() == first
    monkeypatch.setenv("SEGFLOW_NAME_KEY", "another key, that nobody guesses")
    second = names()
    assert len(second) == 3
    assert not second & first
    assert names("--set", f"service.ledger={making.folder / 'elsewhere.sqlite'}") == second
    assert HELD in names("--set", 'outputs.name="{stem}"')


def test_a_plain_run_names_no_patient_in_a_file_name_in_prefect_or_in_what_is_published(
    making: Any, spawn: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    exports = {"bids": True, "seg_nrrd": True, "itksnap": True}
    path = nightly_of_dicom(making, outputs={"folder": "out", **exports}, publish="elsewhere")
    home = tmp_path_factory.mktemp("prefect")
    out, elsewhere = making.folder / "out", making.folder / "elsewhere"
    with server(home) as api:
        spawn("run", path, "-v", PREFECT_API_URL=api)
        asked_for = [asked(api, what) for what in ("flow_runs", "task_runs", "artifacts", "logs")]
    assert patients(json.dumps(found) for found in asked_for) == []
    first = sorted(item.name for item in out.glob("*_dseg.nii.gz"))
    assert len(first) == 2
    assert all(re.fullmatch("[0-9a-f]{16}_dseg.nii.gz", name) for name in first)
    spawn("run", path)
    spawn("run", path, "--new")
    assert sorted(item.name for item in out.glob("*_dseg.nii.gz")) == first
    assert patients(str(item.relative_to(out)) for item in out.rglob("*")) == []
    sent = [item for item in elsewhere.rglob("*") if item.is_file()]
    assert len(sent) > 8
    assert patients(item.name for item in sent) == []
    assert patients(item.read_bytes().decode("latin-1") for item in sent) == []


def test_a_plan_of_dicom_leaves_no_key(making: Any, spawn: Callable[..., Any]) -> None:
    path = nightly_of_dicom(making)
    result = spawn("plan", path)
    assert patients([result.out]) == []
    assert not (making.folder / "out").exists()


@pytest.mark.parametrize("key", ["", "short"])
def test_a_key_that_is_damaged_or_can_be_guessed_names_nothing(making: Any, segflow: Any, key: str) -> None:
    path = nightly_of_dicom(making)
    (making.folder / "out").mkdir()
    (making.folder / "out" / "ledger.key").write_text(key)
    result = segflow("run", path)
    assert result.code == 2
    assert "ledger.key has" in result.err
    assert sorted(item.name for item in (making.folder / "out").iterdir()) == ["ledger.key"]


def test_the_switches_of_telemetry_are_off_by_default_and_a_user_may_turn_them_on() -> None:
    code = "\n".join(
        (
            "import flows, sys",
            "from prefect._internal.analytics import is_telemetry_enabled",
            "from prefect.settings import get_current_settings",
            "from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY as mute",
            "import flows.prefect.flow, flows.dask.worker, lightning, monai, distributed",
            "strange = {'wandb', 'sentry_sdk', 'mlflow', 'comet_ml', 'openvino_telemetry'} & set(sys.modules)",
            "print(get_current_settings().server.analytics_enabled, is_telemetry_enabled(), mute, strange or 'none')",
        )
    )
    kept = {key: value for key, value in os.environ.items() if not re.match("PREFECT_|DO_NOT_TRACK|DASK_|HF_|CI$", key)}
    found = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False", "True", "none"]
    kept |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "true"}
    found = subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)
    assert found.stdout.split()[0] == "True"
