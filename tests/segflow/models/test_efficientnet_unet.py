"""The encoder against timm's, and the whole as a network."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from segflow.errors import ModelError
from segflow.models.networks.efficientnet_unet import EfficientNetUNet
from segflow.models.registry import build

with warnings.catch_warnings():  # timm uses a decorator that PyTorch is about to drop
    warnings.simplefilter("ignore")
    import timm

# In millions, with the 1,000 classes: the table of Google's EfficientNet-lite.
PUBLISHED = {"lite0": 4.7, "lite1": 5.4, "lite2": 6.1, "lite3": 8.2, "lite4": 13.0}


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Give the normalisations statistics that are not those of fresh ones."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
    return network.eval()


@pytest.mark.parametrize(("variant", "depth"), [("lite0", 5), ("lite2", 4), ("lite3", 3), ("lite4", 5)])
def test_the_encoder_computes_what_timms_does_with_the_same_weights(variant: str, depth: int) -> None:
    oracle: Any = randomised(timm.create_model(f"tf_efficientnet_{variant}", features_only=True, pretrained=False))
    ours = EfficientNetUNet(3, 4, variant=variant, depth=depth).eval()  # type: ignore[arg-type]
    state = oracle.state_dict()
    missing, _ = ours.encoder.load_state_dict(
        {key: state[key] for key in ours.encoder.state_dict() if key in state}, strict=False
    )
    assert not missing
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for mine, theirs in zip(ours.encoder(x), oracle(x), strict=False):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", PUBLISHED)
def test_parameters_of_the_encoder_are_the_published_ones(variant: str) -> None:
    with torch.device("meta"):
        ours = EfficientNetUNet(3, 4, variant=variant).encoder  # type: ignore[arg-type]
    last = ours.channels[-1]
    head = last * 1280 + 2 * 1280 + 1281 * 1000
    assert round((sum(p.numel() for p in ours.parameters()) + head) / 1e6, 1) == PUBLISHED[variant]


@pytest.mark.parametrize("way", ["bilinear", "nearest", "bed_of_nails", "transposed"])
@pytest.mark.parametrize("depth", [2, 5])
def test_logits_are_as_large_as_the_input(way: str, depth: int) -> None:
    network = build(
        "efficientnet_unet", {"in_channels": 5, "out_channels": 3, "depth": depth, "width": 8, "upsampling": way}
    ).eval()
    with torch.inference_mode():
        assert network(torch.randn(2, 5, 64, 32)).shape == (2, 3, 64, 32)


def test_a_cells_result_does_not_depend_on_the_patch_where_context_is_whole() -> None:
    torch.manual_seed(0)
    network = randomised(EfficientNetUNet(3, 2, depth=2, width=8))
    x = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        whole, part = network(x), network(x[..., 32:96, 32:96])
    torch.testing.assert_close(whole[..., 60:68, 60:68], part[..., 28:36, 28:36], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"variant": "b0"}, {"depth": 6}, {"depth": 1}, {"dimensions": 3}])
def test_arguments_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="efficientnet_unet"):
        EfficientNetUNet(3, 2, **wrong)
