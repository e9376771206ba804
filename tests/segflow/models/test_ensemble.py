"""Ensembles and test-time augmentation: means of probabilities, the same in every order and on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor, nn

from pipelines import run
from segflow import predict
from segflow.backends import ForwardSettings, load_forward
from segflow.backends.network import activation_bytes
from segflow.errors import ModelError
from segflow.models.ensemble import Averaged, symmetries
from segflow.models.load import load_model
from segflow.models.model import Model
from segflow.models.probabilities import Probabilities
from segflow.recipe import Compute, Tiling, parse_recipe
from tests.bringing import CLASSES, OPEN, choose, network, save_state, to_onnx
from tests.making import make_model, texture, write_raster

WAYS = [("flips", 2, 3), ("flips", 3, 4), ("mirror", 2, 4), ("mirror", 3, 8), ("d4", 2, 8)]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pointwise(nn.Module):
    """Equivariant under every symmetry: each cell by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, (3 * x).sin()), 1).softmax(1)


class Lopsided(nn.Module):
    """Equivariant under none: a cell is its left and upper neighbour's."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x.roll(1, -1), x.roll(1, -2) * 2), 1).softmax(1)


@pytest.mark.parametrize(("tta", "axes", "count"), WAYS)
def test_symmetries_are_distinct_begin_with_the_identity_and_undo_themselves(tta: Any, axes: int, count: int) -> None:
    views = symmetries(tta, axes)
    x = torch.arange(4.0**axes).reshape(1, 1, *(4,) * axes)
    seen = {view.apply(x).numpy().tobytes() for view in views}
    assert len(views) == len(seen) == count
    assert torch.equal(views[0].apply(x), x)
    for view in views:
        assert torch.equal(view.undo(view.apply(x)), x)


@settings(max_examples=20)
@given(way=st.sampled_from(WAYS), seed=st.integers(0, 2**31))
def test_symmetries_of_an_equivariant_network_change_nothing(way: tuple[Any, int, int], seed: int) -> None:
    tta, axes, _ = way
    x = torch.randn((2, 2, *(6,) * axes), generator=torch.Generator().manual_seed(seed))
    plain = Pointwise()
    assert torch.allclose(Averaged([plain], symmetries(tta, axes))(x), plain(x), atol=1e-6)


@settings(max_examples=20)
@given(way=st.sampled_from(WAYS), seed=st.integers(0, 2**31))
def test_the_average_is_that_of_numpy_and_is_equivariant_itself(way: tuple[Any, int, int], seed: int) -> None:
    tta, axes, _ = way
    x = torch.randn((1, 1, *(6,) * axes), generator=torch.Generator().manual_seed(seed))
    views = symmetries(tta, axes)
    made = Averaged([Lopsided()], views)
    oracle = np.mean([view.undo(Lopsided()(view.apply(x))).double().numpy() for view in views], axis=0)
    np.testing.assert_allclose(made(x).numpy(), oracle, atol=1e-6)
    if tta != "flips":  # which are no group: two flips together are not among them
        for view in views:
            assert torch.allclose(made(view.apply(x)), view.apply(made(x)), atol=1e-6)


@settings(max_examples=20)
@given(copies=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_an_ensemble_of_a_network_with_itself_is_the_network(copies: int, seed: int) -> None:
    x = torch.randn((1, 2, 8, 8), generator=torch.Generator().manual_seed(seed))
    one = Lopsided()
    assert torch.allclose(Averaged([one] * copies, symmetries(None, 2))(x), one(x), atol=1e-6)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Two safetensors and an ONNX file of networks of different weights, each with its card."""
    folder = tmp_path_factory.mktemp("three")
    keys: dict[str, Any] = {
        "classes": CLASSES,
        "ignore": (),
        "arguments": {"width": 4, "depth": 2},
        "normalisation": {"mean": (128.0,), "deviation": (40.0,)},
    }
    one = make_model(folder / "one", seed=1, **keys)
    two = make_model(folder / "two", seed=2, **keys)
    three = to_onnx(network(3), folder / "three.onnx", **OPEN)
    three.with_suffix(".yaml").write_text(one.with_suffix(".yaml").read_text())
    return str(one), str(two), str(three)


def probabilities(model: Model, backend: Any, patches: list[np.ndarray]) -> np.ndarray:
    forward = load_forward(model, ForwardSettings(backend, "cpu", "f32", 2, (32, 32)))
    try:
        return np.stack([found.copy() for found in forward.stream(patches)])
    finally:
        forward.close()


@pytest.mark.parametrize("tta", [None, "d4"])
def test_backends_agree_and_the_order_of_members_does_not_change_a_bit(three: tuple[str, ...], tta: Any) -> None:
    three = three if tta is None else three[1:]
    whole = load_model(choose(three, tta=tta))
    random = np.random.default_rng(5)
    patches = [random.standard_normal((3, 32, 32), np.float32) for _ in range(2)]
    found = {backend: probabilities(whole, backend, patches) for backend in ("torch", "openvino")}
    np.testing.assert_allclose(found["torch"], found["openvino"], atol=1e-4)
    members = [load_model(choose(path)) for path in three]
    modules = [Probabilities(member.network(), member.card) for member in members]
    with torch.inference_mode():
        x = torch.from_numpy(np.stack(patches))
        views = symmetries(tta, 2)
        each = [view.undo(module(view.apply(x))).double().numpy() for module in modules for view in views]
    np.testing.assert_allclose(found["torch"], np.mean(each, axis=0), atol=1e-5)
    for backend in ("torch", "openvino"):
        turned = load_model(choose(three[::-1], tta=tta))
        assert turned.sha256 == whole.sha256
        assert np.array_equal(probabilities(turned, backend, patches), found[backend])


def test_the_hash_covers_all_files_and_the_symmetries(three: tuple[str, ...]) -> None:
    choices = [
        choose(three[0]),
        choose(three[:2]),
        choose(three),
        choose(three[0], tta="flips"),
        choose(three, tta="d4"),
    ]
    assert len({load_model(choice).sha256 for choice in choices}) == len(choices)


def test_a_model_comes_back_whole_from_a_plan(three: tuple[str, ...]) -> None:
    adapter = TypeAdapter(Model)
    model = load_model(choose(three, tta="mirror", trust=True)).absolute()
    assert adapter.validate_json(adapter.dump_json(model)) == model
    assert model.passes == 12


def test_memory_of_an_ensemble_is_estimated_as_that_of_its_largest_member(three: tuple[str, ...]) -> None:
    one = load_model(choose(three[0])).network()
    many = load_model(choose(three[:2], tta="d4")).network()
    assert activation_bytes(many, (64, 64), 3, 4) == activation_bytes(one, (64, 64), 3, 4) > 0
    assert activation_bytes(load_model(choose(three[2])).network(), (64, 64), 3, 4) > 100_000


def test_a_run_with_ensemble_and_symmetries_gives_the_labels_of_predict_and_counts_patches(
    tmp_path: Path, three: tuple[str, ...]
) -> None:
    import rasterio

    scene = write_raster(tmp_path / "scene.tif", (150, 130))
    recipe = parse_recipe(
        {
            "kind": "raster",
            "inputs": str(scene),
            "model": {"weights": list(three), "tta": "flips"},
            "tiling": {"patch": 64, "block": 128},
            "outputs": {"folder": "out"},
        },
        tmp_path,
    )
    outcome = run(recipe)
    (state,) = outcome.report.scenes
    assert state.state == "done", state.error
    with rasterio.open(tmp_path / "out" / "scene_labels.tif") as file, rasterio.open(scene) as source:
        labels, array = file.read(1), source.read()
    model = load_model(choose(three, tta="flips"))
    assert np.array_equal(predict(array, None, model, tiling=Tiling(patch=64)), labels)
    plain = predict(array, None, load_model(choose(three[0])), tiling=Tiling(patch=64))
    assert not np.array_equal(plain, labels), "the test would prove little"


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "classes": ({"classes": CLASSES[:2]}, "differ in"),
    "channels": ({"channels": ("near infrared", "red", "green")}, "differ in channels"),
    "normalisation": ({"normalisation": {"source": "scene"}}, "differ in normalisation"),
    "gsd": ({"gsd": 0.5}, "differ in gsd"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_members_that_differ_are_refused_with_what_differs(tmp_path: Path, what: str) -> None:
    changes, said = DIFFERENT[what]
    one, two = make_model(tmp_path / "one"), make_model(tmp_path / "two", **changes)
    with pytest.raises(ModelError, match=said) as error:
        load_model(choose((str(one), str(two)), classes=None, normalisation=None))
    assert error.value.remedy


def test_members_of_other_strides_get_patches_that_fit_both(tmp_path: Path) -> None:
    one = make_model(tmp_path / "one", stride=4, patch=(40, 40))
    two = make_model(tmp_path / "two", stride=24, patch=(48, 48))
    card = load_model(choose((str(one), str(two)), classes=None)).card
    assert (card.stride, card.patch) == (24, (48, 48))


def test_a_member_of_one_size_sets_the_patch_wherever_it_stands(three: tuple[str, ...], tmp_path: Path) -> None:
    one = to_onnx(network(4), tmp_path / "one.onnx", (2, 3, 64, 64))
    one.with_suffix(".yaml").write_text(Path(three[0]).with_suffix(".yaml").read_text())
    for weights in ((three[0], str(one)), (str(one), three[0])):
        model = load_model(choose(weights))
        assert model.card.patch == (64, 64)
        assert predict(texture((70, 64), 3, 1), None, model, compute=Compute(backend="torch")).shape == (70, 64)


def test_an_architecture_in_the_recipe_is_for_the_members_without_a_card(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"classes": CLASSES, "ignore": (), "normalisation": {"mean": (128.0,), "deviation": (40.0,)}}
    carded = make_model(tmp_path, architecture="segnet", arguments={"width": 4, "depth": 2}, **keys)
    bare = save_state(network(4), tmp_path / "bare.safetensors")
    choice = choose((str(carded), str(bare)), architecture="unet", arguments={"width": 4, "depth": 2})
    model = load_model(choice)
    assert [member.card.architecture for member in model.members] == ["segnet", "unet"]
    with torch.inference_mode():
        assert model.network()(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_d4_needs_squares_of_rasters(tmp_path: Path) -> None:
    volume = make_model(tmp_path, "volume")
    with pytest.raises(ModelError, match="d4 for a volume"):
        load_model(choose(volume, classes=None, normalisation=None, tta="d4"))
    raster = load_model(choose(make_model(tmp_path / "raster"), classes=None, tta="d4"))
    with pytest.raises(ModelError, match="a square patch"):
        predict(texture((64, 64), 3, 1), None, raster, tiling=Tiling(patch=(64, 32)), compute=Compute(backend="torch"))


def test_mirrored_volumes_are_averaged_over_eight_views(tmp_path: Path) -> None:
    path = make_model(tmp_path, "volume")
    array = texture((32, 32, 32), 1, 3)
    model = load_model(choose(path, classes=None, normalisation=None, tta="mirror"))
    plain = load_model(choose(path, classes=None, normalisation=None))
    x = torch.from_numpy(((array - 128) / 40).astype(np.float32))[None]
    with torch.inference_mode():
        made = Probabilities(plain.network(), plain.card)
        mean = sum(view.undo(made(view.apply(x))) for view in symmetries("mirror", 3))
    assert isinstance(mean, Tensor)
    expected = np.array(plain.card.ids)[mean[0].argmax(0).numpy()]
    for backend in ("torch", "openvino"):
        found = predict(array, None, model, compute=Compute(backend=backend))  # type: ignore[arg-type]
        assert float((found == expected).mean()) > 0.999
