"""`segflow train` as a command: killed, out of disk, on two processes, and its model in `segflow run`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine

RECIPE: dict[str, Any] = {
    "kind": "raster",
    "name": "toy",
    "inputs": "images/*.tif",
    "references": "labels/{stem}.tif",
    "outputs": {"folder": "made"},
    "train": {
        "name": "toy",
        "arguments": {"width": 4, "depth": 2},
        "classes": [
            {"id": 1, "name": "dark", "colour": "#000000"},
            {"id": 2, "name": "bright", "colour": "#FFFFFF"},
        ],
        "channels": ["one", "two"],
        "normalisation": {"mean": [100.0], "deviation": [40.0]},
        "patch": [16, 16],
        "validation": {"scenes": ["s1"], "every": 20},
        "steps": 60,
        "batch": 4,
        "checkpoint_every": 5,
        "augment": "aerial",
        "average": 0.9,
        "card": {"patch": [32, 32]},
    },
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "height": 64, "width": 64, "dtype": "uint8", "crs": "EPSG:32632"}
    profile["transform"] = Affine(1.0, 0.0, 0.0, 0.0, -1.0, 64.0)
    for number in range(2):
        bright = np.kron(rng.random((8, 8)) < 0.5, np.ones((8, 8), np.bool_))
        values = (100 + 40 * bright + rng.normal(0, 15, (2, 64, 64))).clip(0, 255).astype(np.uint8)
        for name, array in (("images", values), ("labels", np.where(bright, 2, 1)[None].astype(np.uint8))):
            (tmp_path / name).mkdir(exist_ok=True)
            with rasterio.open(tmp_path / name / f"s{number}.tif", "w", count=len(array), **profile) as file:
                file.write(array)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def start(folder: Path, *more: str, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", "train", str(folder / "toy.yaml"), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=before)


def train(folder: Path, *more: str) -> str:
    """Train to the end, and return what was said."""
    process = start(folder, *more)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "toy.safetensors").read_bytes()).hexdigest()


def curve(folder: Path) -> list[list[str]]:
    """Return the curve's rows without their seconds."""
    rows = [row.split(",") for row in (folder / "toy_training.csv").read_text().splitlines()]
    return [[row[0], *row[2:]] for row in rows]


def test_a_killed_training_goes_on_to_the_same_curve_and_bits_and_runs_unchanged(folder: Path) -> None:
    said = train(folder, "-o", str(folder / "straight"))
    scored = r"toy: held back, after step (\d+): mean IoU 0\.\d+ \(dark 0\.\d+, bright 0\.\d+\)"
    assert re.findall(scored, said) == ["20", "40", "60"]
    process = start(folder)
    checkpoint = folder / "made" / ".training" / "toy" / "last.ckpt"
    try:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (folder / "made" / "toy.safetensors").exists()
    train(folder)
    assert digest(folder / "made") == digest(folder / "straight")
    assert curve(folder / "made") == curve(folder / "straight")

    command = [sys.executable, "-m", "flows.cli", "run", "-m", str(folder / "made" / "toy.safetensors")]
    command += ["-i", str(folder / "images" / "s1.tif"), "-o", str(folder / "out"), "--json"]
    command += ["--set", f"references={folder}/labels/s1.tif"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    held = yaml.safe_load((folder / "made" / "toy.yaml").read_text())["scores"]["held_back"]["overall"]
    found = json.loads(done.stdout)["scenes"][0]["report"]["overall"]
    assert round(found["mean_iou"], 4) == held["mean_iou"]


def test_a_stop_says_that_it_can_go_on(folder: Path) -> None:
    process = start(folder)
    checkpoint = folder / "made" / ".training" / "toy" / "last.ckpt"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors
    assert "goes on from here" in errors


def test_a_full_disk_while_checkpointing_ends_with_a_remedy_and_keeps_the_checkpoint_before(folder: Path) -> None:
    train(folder, "--set", "train.steps=5")
    checkpoint = folder / "made" / ".training" / "toy" / "last.ckpt"
    before = checkpoint.read_bytes()

    def little() -> None:
        size = len(before) // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    process = start(folder, "--set", "train.steps=40", before=little)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    assert "last.ckpt cannot be written" in errors
    assert checkpoint.read_bytes() == before
    train(folder, "--set", "train.steps=40")


def test_two_processes_share_a_batch_and_write_one_model(folder: Path) -> None:
    """The lines that several GPUs run, on two CPU processes: the same gradient as one, but for rounding."""
    more = ("--set", "train.steps=3", "--set", "train.average=0", "--set", "train.arguments.norm=none")
    train(folder, "-o", str(folder / "one"), "--set", "compute.device=cpu", *more)
    train(folder, "-o", str(folder / "two"), "--set", "compute.device=cpu", "--set", "train.devices=2", *more)
    one, two = (float(curve(folder / name)[1][1]) for name in ("one", "two"))
    assert one > 0
    assert two > 0
    from safetensors.numpy import load_file

    weights = [load_file(folder / name / "toy.safetensors") for name in ("one", "two")]
    for key, value in weights[0].items():
        np.testing.assert_allclose(weights[1][key], value, atol=2e-3)


def test_a_loss_that_is_no_number_on_one_of_two_processes_stops_both_and_names_its_scene(folder: Path) -> None:
    with rasterio.open(folder / "images" / "s1.tif", "r+") as file:
        profile, values = file.profile, file.read()
    profile.update(dtype="float32")
    with rasterio.open(folder / "images" / "s1.tif", "w", **profile) as file:
        file.write(values.astype(np.float32) * np.float32(1e35))
    more = ("compute.device=cpu", "train.devices=2", "train.batch=2", "train.augment=none", "train.validation={}")
    more = (*more, "train.arguments.norm=none", "train.normalisation.deviation=[0.0001]")
    process = start(folder, *(part for one in more for part in ("--set", one)))
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    assert "the loss of step" in errors
    assert re.search(r"on patches of (s0, )?s1\n", errors), errors
    assert "Traceback" not in errors
