"""Models: strict loading, refusals, overrides, the built-in ones."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from segflow.errors import ModelError
from segflow.models.card import Card, LabelClass, Normalisation, write_card
from segflow.models.load import builtin, builtins, load_model
from segflow.models.model import Model
from segflow.models.probabilities import Probabilities
from segflow.models.registry import build
from segflow.recipe import ModelChoice

CLASSES = (
    LabelClass(id=0, name="rest", colour="#000000"),
    LabelClass(id=4, name="thing", colour="#FF0000"),
)
ARGUMENTS = {"width": 4, "depth": 2}


def card(**changes: Any) -> Card:
    values: dict[str, Any] = {
        "name": "tiny",
        "kind": "raster",
        "architecture": "unet",
        "arguments": ARGUMENTS,
        "classes": CLASSES,
        "stride": 4,
        "channels": ("red", "green", "blue"),
        "patch": (32, 32),
    }
    return Card.model_validate({**values, **changes})


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A model's weights with its card beside it."""
    torch.manual_seed(1)
    network = build("unet", {"in_channels": 3, "out_channels": 2, **ARGUMENTS})
    save_file({k: v.clone() for k, v in network.state_dict().items()}, tmp_path / "tiny.safetensors")
    write_card(card(), tmp_path / "tiny.yaml")
    return tmp_path / "tiny.safetensors"


def choose(path: Path | str, **keys: Any) -> ModelChoice:
    return ModelChoice(weights=str(path), **keys)


def test_a_model_gives_the_bits_that_were_saved(tiny: Path) -> None:
    torch.manual_seed(1)
    expected = build("unet", {"in_channels": 3, "out_channels": 2, **ARGUMENTS}).eval()
    found = load_model(choose("tiny.safetensors"), tiny.parent, "raster").network()
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(found(x), expected(x))
    assert not found.training


def test_half_precision_on_disk_is_float32_in_memory(tiny: Path) -> None:
    state = load_file(tiny)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, tiny)
    network = Model(card(), tiny).network()
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_missing_and_unknown_tensors_are_both_named(tiny: Path) -> None:
    state = load_file(tiny)
    state["surplus.weight"] = state.pop("head.weight")
    save_file(state, tiny)
    with pytest.raises(ModelError, match=r"missing: head\.weight; unknown: surplus\.weight"):
        Model(card(), tiny).network()


def test_weights_of_another_width_are_refused_with_their_shapes(tiny: Path) -> None:
    with pytest.raises(ModelError, match=r"of another shape: .*\(4, 8, 3, 3\) instead of \(8, 16, 3, 3\)"):
        Model(card(arguments={"width": 8, "depth": 2}), tiny).network()


def test_a_stride_that_the_network_does_not_have_is_refused(tiny: Path) -> None:
    with pytest.raises(ModelError, match="multiple of the network's stride 4"):
        Model(card(stride=2), tiny).network()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_pickle_is_refused_by_name_and_by_content_and_never_run(tmp_path: Path, suffix: str) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "boom",))

    path = tmp_path / f"weights{suffix}"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="pickle"):
        Model(card(), path).network()
    with pytest.raises(ModelError, match="pickle"):
        load_model(choose(path))
    assert not (tmp_path / "boom").exists()


def test_a_checkpoint_of_torch_under_a_false_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="pickle"):
        Model(card(), path).network()


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\x10" + bytes(200)])
def test_a_file_that_is_not_safetensors_is_refused_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a safetensors file") as error:
        Model(card(), path).network()
    assert "LFS" in error.value.remedy


def test_a_truncated_file_is_refused(tiny: Path) -> None:
    tiny.write_bytes(tiny.read_bytes()[:-10])
    with pytest.raises(ModelError, match="not a safetensors file"):
        Model(card(), tiny).network()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.safetensors"):
        load_model(choose("nowhere.safetensors"), tmp_path)


def test_an_unknown_builtin_gets_the_nearest_name() -> None:
    with pytest.raises(ModelError, match="did you mean builtin:brain-tissue"):
        load_model(choose("builtin:brain-tisue"))


def test_a_model_of_the_other_kind_is_refused(tiny: Path) -> None:
    with pytest.raises(ModelError, match="segments a raster"):
        load_model(choose(tiny), kind="volume")


def test_what_the_recipe_overrides_is_in_the_card(tiny: Path) -> None:
    other = (CLASSES[0], LabelClass(id=9, name="other", colour="#00FF00"))
    scene = Normalisation(source="scene")
    changed = load_model(choose(tiny, classes=other, normalisation=scene, gsd=0.5)).card
    assert (changed.classes, changed.normalisation, changed.gsd) == (other, scene, 0.5)
    assert changed.channels == card().channels


@pytest.mark.parametrize(
    "changes",
    [{"activation": "sigmoid"}, {"activation": "none", "regions": [{"channel": 0, "id": 4}]}],
    ids=["one sigmoid channel", "regions"],
)
def test_a_threshold_is_taken_where_there_is_one_to_override(tiny: Path, changes: dict[str, Any]) -> None:
    write_card(card(**changes), tiny.with_suffix(".yaml"))
    assert load_model(choose(tiny, threshold=0.3)).card.threshold == 0.3


@pytest.mark.parametrize("activation", ["softmax", "none"])
def test_a_threshold_is_refused_where_the_largest_channel_wins(tiny: Path, activation: str) -> None:
    write_card(card(activation=activation), tiny.with_suffix(".yaml"))
    with pytest.raises(ModelError, match=r"model.threshold is 0.3") as caught:
        load_model(choose(tiny, threshold=0.3))
    assert caught.value.remedy == "remove model.threshold"


def test_a_card_with_an_empty_list_of_regions_is_refused(tiny: Path) -> None:
    path = tiny.with_suffix(".yaml")
    path.write_text(path.read_text() + "activation: sigmoid\nregions: []\n")
    with pytest.raises(ModelError, match="regions"):
        load_model(choose(tiny))


def test_overrides_that_do_not_fit_are_refused(tiny: Path) -> None:
    with pytest.raises(ModelError, match=r"normalisation\.mean needs 1 or 3"):
        load_model(choose(tiny, normalisation=Normalisation(mean=(1.0, 2.0), deviation=(1.0, 1.0))))


def test_a_bare_state_dict_needs_architecture_and_classes_and_then_runs(tiny: Path) -> None:
    tiny.with_suffix(".yaml").unlink()
    with pytest.raises(ModelError, match="no model card"):
        load_model(choose(tiny))
    model = load_model(choose(tiny, architecture="unet", arguments=ARGUMENTS, classes=CLASSES), kind="raster")
    assert model.card.stride == 4
    assert model.card.patch == (512, 512)
    with torch.inference_mode():
        assert model.network()(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 16, 16)


def test_softmax_sums_to_one_and_sigmoid_and_none_leave_channels_alone(tiny: Path) -> None:
    network = Model(card(), tiny).network()
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        raw = network(x)
        soft = Probabilities(network, card())(x)
        plain = Probabilities(network, card(activation="none"))(x)
        assert torch.allclose(soft.sum(1), torch.ones(1, 32, 32), atol=1e-6)
        assert torch.equal(soft.argmax(1), raw.argmax(1))
        assert torch.equal(plain, raw)


def test_sigmoid_heads_and_the_chosen_output_of_several() -> None:
    class Several(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x[:, :1].half() * 2

    wrapped = Probabilities(Several(), card(activation="sigmoid", output=1))
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(wrapped(x), torch.sigmoid((x[:, :1].half() * 2).float()))
    assert wrapped(x).dtype == torch.float32


@pytest.mark.parametrize("one", builtins(), ids=lambda one: str(one.name))
def test_every_builtin_model_loads_fits_its_card_and_is_small(one: Card) -> None:
    model = builtin(one.name)
    assert model.weights.stat().st_size <= 5_000_000
    assert len(model.sha256) == 64
    network = model.network()
    assert sum(p.numel() for p in network.parameters()) == one.training["parameters"]
    assert all(bool(torch.isfinite(v).all()) for v in network.state_dict().values() if v.is_floating_point())
    size = [one.stride * 2] * len(one.patch)
    with torch.inference_mode():
        out = Probabilities(network, one)(torch.zeros(1, len(one.channels), *size))
    assert out.shape == (1, len(one.classes), *size)
    assert one.licence
    assert one.scores


def test_the_three_promised_models_are_there() -> None:
    assert [one.name for one in builtins()] == ["brain-tissue", "hippocampus", "landcover-landsat", "landcover-rgb"]
