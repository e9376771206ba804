"""Networks of torchvision and segmentation-models-pytorch: made without a download, weights from a file only."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from segflow.errors import ModelError, SegflowError
from segflow.models import zoo
from segflow.models.architectures import torchvision_architectures
from segflow.models.load import load_model
from segflow.models.model import full_arguments
from segflow.models.registry import build
from segflow.recipe import ModelChoice

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import segmentation_models_pytorch as smp
    import torchvision.models as tv

NAMES = [row.name.removeprefix("torchvision:") for row in torchvision_architectures()]
SMALLEST = "lraspp_mobilenet_v3_large"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let anything that would reach out fail at once."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torch home of its own, with an empty folder of checkpoints."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_all_of_torchvisions_segmentation_networks_are_listed() -> None:
    assert sorted(NAMES) == sorted(tv.list_models(tv.segmentation))


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_torchvision_says(name: str) -> None:
    card = zoo.torchvision_card("torchvision:" + name)
    weights = tv.get_model_weights(name).DEFAULT
    assert [item.name for item in card.classes][1:] == weights.meta["categories"][1:]
    assert (len(card.classes), card.classes[0].name) == (21, "background")
    assert card.classes[15].colour == "#C08080"  # person, as in PASCAL VOC's figures
    preset = weights.transforms()
    white = torch.full((3, 600, 600), 255, dtype=torch.uint8)
    ours = [(255 - m) / d for m, d in zip(card.normalisation.mean, card.normalisation.deviation, strict=True)]
    assert preset(white)[:, 100, 100].tolist() == pytest.approx(ours, abs=1e-5)
    theirs = weights.meta["_metrics"]["COCO-val2017-VOC-labels"]["miou"]
    assert [found["mean_iou"] for found in card.scores.values()] == pytest.approx([theirs / 100])
    with torch.device("meta"):
        network = build(card.architecture, full_arguments(card))
    assert network.stride == card.stride
    assert sum(p.numel() for p in network.parameters()) == weights.meta["num_params"]


@pytest.mark.parametrize("name", [SMALLEST, "deeplabv3_mobilenet_v3_large"])
def test_weights_in_the_users_cache_give_torchvisions_own_output(name: str, cache: Path) -> None:
    torch.manual_seed(2)
    card = zoo.torchvision_card(name)
    aux = {} if name == SMALLEST else {"aux_loss": True}
    theirs = tv.get_model(name, weights=None, weights_backbone=None, num_classes=21, **aux).eval()
    file = tv.get_model_weights(name).DEFAULT.url.rsplit("/", 1)[-1]
    torch.save(theirs.state_dict(), cache / file)
    path = zoo.torchvision_file("torchvision:" + name)
    assert path == cache / file
    ours = build(card.architecture, full_arguments(card)).eval()
    ours.load_state_dict(torch.load(path, weights_only=True), strict=True)
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = theirs(x)["out"]
        assert torch.equal(ours(x), expected)
    assert float(expected.std()) > 0


def test_the_loader_takes_torchvisions_weights_by_name(cache: Path) -> None:
    theirs = tv.get_model(SMALLEST, weights=None, weights_backbone=None, num_classes=21).eval()
    torch.save(theirs.state_dict(), cache / tv.get_model_weights(SMALLEST).DEFAULT.url.rsplit("/", 1)[-1])
    network = load_model(ModelChoice(weights="torchvision:" + SMALLEST), kind="raster").network()
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(network(x), theirs(x)["out"])


def test_the_loader_takes_a_users_smp_checkpoint_and_refuses_one_that_lacks_weights(tmp_path: Path) -> None:
    theirs = smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=2).eval()
    state = {key: value.clone() for key, value in theirs.state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    classes = [{"id": 0, "name": "rest", "colour": "#000000"}, {"id": 1, "name": "thing", "colour": "#FF0000"}]
    keys: dict[str, Any] = {"architecture": "smp:Unet", "arguments": {"encoder_name": "resnet18"}, "classes": classes}
    choice = ModelChoice.model_validate({"weights": "mine.safetensors", **keys})
    model = load_model(choice, tmp_path, "raster")
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(model.network()(x), theirs(x))
    assert model.card.stride == 32
    decoder = {key: value for key, value in state.items() if not key.startswith("encoder.")}
    save_file(decoder, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match=r"missing: encoder\."):
        load_model(choice, tmp_path, "raster").network()


@pytest.mark.parametrize("name", NAMES)
def test_without_the_file_the_error_says_where_it_belongs(name: str, cache: Path) -> None:
    with pytest.raises(ModelError, match="downloads nothing") as caught:
        zoo.torchvision_file(name)
    url = tv.get_model_weights(name).DEFAULT.url
    assert caught.value.expected == f"the file {cache / url.rsplit('/', 1)[-1]}"
    assert url in caught.value.remedy


@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_networks_give_logits_as_large_as_the_input_for_any_channels(name: str) -> None:
    with torch.device("meta"):
        network = build("torchvision:" + name, {"in_channels": 5, "out_channels": 4, "dimensions": 2}).eval()
        assert network(torch.zeros(2, 5, 64, 96)).shape == (2, 4, 64, 96)
    with pytest.raises(ModelError, match="stride"):
        network(torch.zeros(1, 5, 65, 64))


@pytest.mark.parametrize(
    ("name", "arguments", "stride"),
    [
        ("Unet", {"encoder_name": "resnet18"}, 32),
        ("Unet", {"encoder_name": "resnet18", "encoder_depth": 3, "decoder_channels": [32, 16, 8]}, 8),
        ("DeepLabV3Plus", {"encoder_name": "resnet18"}, 16),
        ("FPN", {"encoder_name": "mobilenet_v2"}, 32),
        ("Segformer", {"encoder_name": "mit_b0"}, 32),
        ("UPerNet", {"encoder_name": "tu-mobilenetv3_small_100"}, 32),
        ("PSPNet", {"encoder_name": "resnet18"}, 8),
    ],
)
def test_a_users_smp_checkpoint_fills_the_network(name: str, arguments: dict[str, Any], stride: int) -> None:
    torch.manual_seed(0)
    theirs = getattr(smp, name)(in_channels=5, classes=3, encoder_weights=None, **arguments).eval()
    network: Any = build("smp:" + name, {"in_channels": 5, "out_channels": 3, "dimensions": 2, **arguments}).eval()
    network.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 5, 2 * max(stride, 32), max(stride, 32))
    with torch.inference_mode():
        assert torch.equal(network(x), theirs(x))
    assert network.stride == stride
    assert network(x).shape == (1, 3, *x.shape[2:])


@pytest.mark.parametrize(("name", "encoder"), [("Unet", "resnet18"), ("Segformer", "mit_b0")])
def test_smp_networks_are_made_without_memory_where_that_is_asked_or_at_least_made(name: str, encoder: str) -> None:
    arguments = {"in_channels": 3, "out_channels": 2, "encoder_name": encoder}
    with torch.device("meta"):
        assert int(getattr(build("smp:" + name, arguments), "stride", 0)) == 32


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("smp:Unet", {"encoder_weights": "imagenet"}),
        ("torchvision:fcn_resnet50", {"weights": "DEFAULT"}),
        ("torchvision:fcn_resnet50", {"weights_backbone": "DEFAULT"}),
    ],
)
def test_a_download_is_refused(architecture: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="would download weights"):
        build(architecture, arguments)


@pytest.mark.parametrize(
    ("architecture", "near"),
    [
        ("smp:unet", "smp:Unet"),
        ("smp:DeepLabV3plus", "smp:DeepLabV3Plus"),
        ("torchvision:deeplab_resnet50", "torchvision:deeplabv3_resnet50"),
    ],
)
def test_an_unknown_name_gets_the_nearest(architecture: str, near: str) -> None:
    with pytest.raises(ModelError, match="there is no network") as caught:
        build(architecture, {})
    assert near in caught.value.remedy


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(ModelError, match="no architecture 'keras:unet'"):
        build("keras:unet", {})


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("smp:Unet", {"encoder_name": "resnet-of-nowhere"}),
        ("smp:Unet", {"colour": 1}),
        ("smp:Unet", {"dimensions": 3}),
        ("torchvision:fcn_resnet50", {"dimensions": 3}),
        ("torchvision:fcn_resnet50", {"colour": 1}),
        ("torchvision:lraspp_mobilenet_v3_large", {"aux_loss": True}),
    ],
)
def test_arguments_that_make_no_sense_are_refused(architecture: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        build(architecture, arguments)


@pytest.mark.parametrize("architecture", ["smp:Unet", "torchvision:fcn_resnet50"])
def test_without_the_extra_the_remedy_installs_it(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("segmentation_models_pytorch", "torchvision.models.segmentation"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SegflowError, match="cannot be imported") as caught:
        build(architecture, {})
    assert caught.value.remedy == "pip install 'segflow[zoo]'"


def test_listing_and_building_our_own_imports_no_zoo() -> None:
    code = (
        "import sys; from segflow.models.architectures import torchvision_architectures; torchvision_architectures();"
        "from segflow.models.registry import build;"
        "build('unet', {'in_channels': 1, 'out_channels': 2, 'width': 1, 'depth': 1});"
        "sys.exit(any(name in sys.modules for name in ('torchvision', 'segmentation_models_pytorch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
