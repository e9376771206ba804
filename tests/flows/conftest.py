"""The command line as its users call it, on inputs that are made here: a tiny network, rasters and volumes."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

from flows.cli.main import main
from segflow.models.card import Card, LabelClass, write_card
from segflow.models.model import full_arguments
from segflow.models.registry import build
from tests.flows import ledgers

EXECUTABLE = Path(sys.executable).with_name("segflow")
CLASSES = tuple(
    LabelClass(id=i, name=name, colour=colour)
    for i, name, colour in ((0, "water", "#0000FF"), (1, "wood", "#00AA00"), (2, "town", "#FF0000"))
)


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be JSON and nothing else."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Making:
    """Makes inputs, recipes and models, and looks at what came out."""

    folder: Path

    def model(self, kind: str = "raster", width: int = 4, name: str = "toy", seed: int = 3) -> Path:
        """Save a U-Net with random weights that gives all classes, and its card."""
        axes = 2 if kind == "raster" else 3
        card = Card(
            name=name,
            kind=kind,
            architecture="unet",
            arguments={"width": width, "depth": 2},
            classes=CLASSES,
            stride=4,
            channels=("red", "green", "blue") if axes == 2 else ("t1",),
            patch=(32,) * axes if axes == 2 else (16,) * axes,
            normalisation={"mean": [128.0], "deviation": [50.0]},
            spacing=None,
        )
        torch.manual_seed(seed)
        network = build("unet", full_arguments(card)).eval()
        with torch.no_grad():
            out = network(torch.randn(2, len(card.channels), *card.patch))
            spread = out.transpose(0, 1).flatten(1)
            scale = 2.0 / spread.std(1)
            network.head.weight.mul_(scale.view(-1, *[1] * (axes + 1)))
            network.head.bias.copy_((network.head.bias - spread.mean(1)) * scale)
        path = self.folder / f"{name}.safetensors"
        save_file(network.state_dict(), path)
        write_card(card, path.with_suffix(".yaml"))
        return path

    def raster(
        self, name: str = "a.tif", shape: tuple[int, int] = (150, 170), bands: int = 3, seed: int = 0, **profile: Any
    ) -> Path:
        """Write a raster of smooth noise, uint8, without compression."""
        noise = np.random.default_rng(seed).standard_normal((bands, *shape))
        smooth = gaussian_filter(noise, (0, 2, 2))
        return self.write(name, np.clip(128 + 300 * smooth, 0, 255).astype(np.uint8), **profile)

    def labels(self, name: str = "truth.tif", shape: tuple[int, int] = (150, 170), **profile: Any) -> Path:
        """Write a reference with ids 0, 1, 2."""
        return self.write(name, np.random.default_rng(9).integers(0, 3, (1, *shape)).astype(np.uint8), **profile)

    def write(self, name: str, values: Any, **profile: Any) -> Path:
        """Write an array (band, y, x) as a GeoTIFF of 1 m cells."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2]}
        place = {"crs": "EPSG:32632", "transform": Affine(1, 0, 5e5, 0, -1, 5e6)}
        options = {"driver": "GTiff", "dtype": values.dtype, **size, **place, **profile}
        with rasterio.open(path, "w", **options) as file:
            file.write(values)
        return path

    def volume(self, name: str = "a.nii.gz", shape: tuple[int, ...] = (40, 44, 36), labels: bool = False) -> Path:
        """Write a volume of smooth noise, or of ids 0, 1, 2; uint8, 1 mm."""
        rng = np.random.default_rng(1)
        smooth = 128 + 400 * gaussian_filter(rng.standard_normal(shape), 1.5)
        values = rng.integers(0, 3, shape) if labels else np.clip(smooth, 0, 255)
        image = nib.Nifti1Image(values.astype(np.uint8), np.diag([1.0, 1.0, 1.0, 1.0]))
        image.set_qform(np.eye(4), 1)
        path = self.folder / name
        nib.save(image, path)
        return path

    def recipe(self, data: Mapping[str, Any] | None = None, file: str = "recipe.yaml", **parts: Any) -> Path:
        """Write a recipe; where nothing else is said it segments a.tif with toy.safetensors into out/."""
        usual = {
            "kind": "raster",
            "inputs": "a.tif",
            "model": {"weights": "toy.safetensors"},
            "outputs": {"folder": "out"},
        }
        path = self.folder / file
        path.write_text(yaml.safe_dump(usual | parts if data is None else dict(data)))
        return path

    def digests(self, folder: str = "out") -> dict[str, str]:
        """Return checksums of label and confidence files."""
        found = [path for end in ("*.tif", "*.nii.gz") for path in (self.folder / folder).glob(end)]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}

    def report(self, folder: str = "out") -> Any:
        """Return the run's report."""
        return json.loads((self.folder / folder / "report.json").read_text())

    def stored(self, scene: str = "a", folder: str = "out") -> int:
        """Return how many chunks the journals of an unfinished scene hold."""
        count = 0
        for path in (self.folder / folder / ".segflow" / "scenes" / scene).glob("*/journal.sqlite"):
            with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
                count += int(journal.execute("select count(*) from chunk").fetchone()[0])
        return count


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL of these tests' own."""
    with ledgers.postgres() as url:
        yield url


@pytest.fixture(params=ledgers.BOTH)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Open the ledger of this test as another run would."""
    from flows.ledger import open_ledger

    url = None if request.param == "sqlite" else request.getfixturevalue("postgres")

    def made(name: str | None = None, **service: Any) -> Any:
        recipe = ledgers.recipe_with(url, tmp_path, **service)
        return open_ledger(recipe.model_copy(update={"name": name or tmp_path.name}))

    return made


@pytest.fixture
def making(tmp_path: Path) -> Making:
    """Makes things in the test's own folder."""
    return Making(tmp_path)


@pytest.fixture(scope="session")
def making_in() -> Callable[[Path], Making]:
    """Makes things in any folder."""
    return Making


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Give back what a command changes for its whole process: log handlers, signal handlers, threads of torch."""
    root = logging.getLogger()
    handlers, level, stop = list(root.handlers), root.level, signal.getsignal(signal.SIGTERM)
    yield
    root.handlers[:], root.level = handlers, level
    signal.signal(signal.SIGTERM, stop)


@pytest.fixture
def segflow() -> Callable[..., Result]:
    """Run a command in this process."""

    def run(*arguments: str | Path) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as end:
                code = int(end.code or 0)
        return Result(code, out.getvalue(), err.getvalue())

    return run


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which nothing of Prefect is configured."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return {**kept, "PREFECT_HOME": str(home / "prefect"), **more}


@pytest.fixture
def clean_environment(tmp_path: Path) -> dict[str, str]:
    """The environment in which commands are started."""
    return environment(tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command as a process of its own, in a process group of its own; what is left is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str | Path, **env: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(EXECUTABLE), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment(tmp_path, **env),
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def spawn(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Result]:
    """Run a command as a process of its own, to its end."""

    def run(*arguments: str | Path, **env: str) -> Result:
        process = start(*arguments, **env)
        out, err = process.communicate(timeout=240)
        return Result(process.returncode, out, err)

    return run


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """Wait until something holds, and fail when it does not come."""

    def wait(holds: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
        end = monotonic() + seconds
        while not holds():
            assert monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
            sleep(0.02)

    return wait
