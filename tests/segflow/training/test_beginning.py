"""Training that begins with an encoder which was trained for something else."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from segflow.errors import ModelError, RecipeError
from segflow.models.registry import build
from segflow.recipe import Recipe
from segflow.training.beginning import load_encoder, network_of
from segflow.training.train import card_of

with warnings.catch_warnings():  # timm uses a decorator that PyTorch is about to drop
    warnings.simplefilter("ignore")
    import timm
    import torchvision  # type: ignore[import-untyped]
    from timm.models import adapt_input_conv


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    """A classifier of another library, with statistics that are not those of a fresh one."""
    torch.manual_seed(5)
    made: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = 1 + torch.rand(module.num_features)
    return made.eval()


def network(**arguments: Any) -> nn.Module:
    return build("efficientnet_unet", {"in_channels": 3, "out_channels": 2, "width": 8, **arguments}).eval()


def renamed(state: dict[str, Any]) -> dict[str, Any]:
    """Return the same tensors under names of no meaning but their kind."""
    return OrderedDict((f"_layer{n}.{key.rpartition('.')[2]}", value) for n, (key, value) in enumerate(state.items()))


@pytest.mark.parametrize("how", ["safetensors", "pth", "prefixed", "renamed"])
def test_an_encoder_computes_what_the_classifier_that_it_came_from_does(
    classifier: Any, tmp_path: Path, how: str
) -> None:
    state = classifier.state_dict()
    path = tmp_path / ("classifier.safetensors" if how == "safetensors" else "classifier.pth")
    if how == "safetensors":
        save_file(state, path)
    else:
        prefixed = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
        torch.save({"pth": state, "prefixed": prefixed, "renamed": renamed(state)}[how], path)
    made: Any = network()
    load_encoder(made, path, "efficientnet_unet")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        head = torch.nn.functional.relu6(classifier.bn2(classifier.conv_head(made.encoder(x)[-1])))
        torch.testing.assert_close(head, classifier.forward_features(x), rtol=1e-4, atol=1e-4)


def test_a_shallower_encoder_takes_the_first_stages(classifier: nn.Module, tmp_path: Path) -> None:
    torch.save(renamed(classifier.state_dict()), tmp_path / "c.pth")
    made: Any = network(depth=3)
    load_encoder(made, tmp_path / "c.pth", "efficientnet_unet")
    torch.testing.assert_close(
        made.encoder.blocks[2][0].conv_pw.weight, classifier.get_submodule("blocks.2.0.conv_pw").weight
    )


@pytest.mark.parametrize("how", ["by name", "in order"])
def test_a_grey_image_is_seen_as_by_timm(classifier: nn.Module, tmp_path: Path, how: str) -> None:
    state = classifier.state_dict()
    torch.save(state if how == "by name" else renamed(state), tmp_path / "c.pth")
    made: Any = network(in_channels=1)
    load_encoder(made, tmp_path / "c.pth", "efficientnet_unet", ["T1"])
    expected = adapt_input_conv(1, state["conv_stem.weight"])
    torch.testing.assert_close(made.encoder.conv_stem.weight.detach(), expected)


def test_bands_keep_the_weights_of_their_colour_and_other_bands_get_the_mean(
    classifier: nn.Module, tmp_path: Path
) -> None:
    torch.save(classifier.state_dict(), tmp_path / "c.pth")
    made: Any = network(in_channels=5)
    bands = ["blue", "Green", "red", "near infrared", "shortwave infrared"]
    load_encoder(made, tmp_path / "c.pth", "efficientnet_unet", bands)
    rgb, found = classifier.get_submodule("conv_stem").weight.detach(), made.encoder.conv_stem.weight.detach()
    mean = rgb.mean(dim=1)
    torch.testing.assert_close(found, torch.stack([rgb[:, 2], rgb[:, 1], rgb[:, 0], mean, mean], dim=1) * 3 / 5)
    # As large as before: five equal bands come out as three equal ones do.
    torch.testing.assert_close(found.sum(dim=1), adapt_input_conv(1, rgb)[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("bands", "order"),
    [(["red", "green", "blue"], [0, 1, 2]), (["blue", "green", "red"], [2, 1, 0]), (list("abc"), [0, 1, 2])],
)
def test_three_bands_are_taken_by_their_names_where_these_are_colours(
    classifier: nn.Module, tmp_path: Path, bands: list[str], order: list[int]
) -> None:
    torch.save(classifier.state_dict(), tmp_path / "c.pth")
    made: Any = network()
    load_encoder(made, tmp_path / "c.pth", "efficientnet_unet", bands)
    rgb = classifier.get_submodule("conv_stem").weight
    torch.testing.assert_close(made.encoder.conv_stem.weight, rgb[:, order])


def test_torchvisions_backbone_is_an_encoder(tmp_path: Path) -> None:
    whole = torchvision.models.mobilenet_v3_large()
    torch.save(whole.features.state_dict(), tmp_path / "m.pth")
    made: Any = build("torchvision:lraspp_mobilenet_v3_large", {"in_channels": 3, "out_channels": 2})
    load_encoder(made, tmp_path / "m.pth", "torchvision:lraspp_mobilenet_v3_large")
    torch.testing.assert_close(made.backbone.state_dict()["0.0.weight"], whole.features[0][0].weight)


def test_an_encoder_that_does_not_fit_is_refused_with_what_differs(classifier: nn.Module, tmp_path: Path) -> None:
    torch.save(classifier.state_dict(), tmp_path / "c.pth")
    with pytest.raises(ModelError, match=r"does not hold the encoder of efficientnet_unet: .*blocks"):
        load_encoder(network(variant="lite2"), tmp_path / "c.pth", "efficientnet_unet")


def test_a_network_without_an_encoder_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "c.pth")
    made = build("full_resolution", {"in_channels": 3, "out_channels": 2, "width": 4})
    with pytest.raises(ModelError, match="no encoder of its own"):
        load_encoder(made, tmp_path / "c.pth", "full_resolution")


def recipe(folder: Path, **train: Any) -> Recipe:
    plan = {
        "name": "x",
        "architecture": "efficientnet_unet",
        "arguments": {"width": 8, "depth": 3},
        "classes": [{"id": 0, "name": "a", "colour": "#000000"}, {"id": 1, "name": "b", "colour": "#ffffff"}],
        "channels": ["red", "green", "blue"],
        "patch": [64, 64],
    }
    return Recipe.model_validate(
        {"kind": "raster", "inputs": str(folder / "*.tif"), "references": "x.tif", "train": {**plan, **train}}
    )


def test_the_recipe_names_the_encoder(classifier: nn.Module, tmp_path: Path) -> None:
    torch.save(classifier.state_dict(), tmp_path / "c.pth")
    asked = recipe(tmp_path, encoder=str(tmp_path / "c.pth"))
    made: Any = network_of(asked, card_of(asked))
    torch.testing.assert_close(made.encoder.conv_stem.weight, classifier.get_submodule("conv_stem").weight)


def test_start_and_encoder_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises((RecipeError, ValueError), match="not both"):
        recipe(tmp_path, encoder="c.pth", start="builtin:landcover-rgb")
