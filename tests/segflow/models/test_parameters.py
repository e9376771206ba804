"""Parameters against the published counts, and against what the list says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from segflow.errors import ModelError
from segflow.models.architectures import architectures, torchvision_architectures
from segflow.models.registry import build

# In millions, with channels in and out of the paper, and the variant that the paper counts. U-Net's paper gives none;
# 31.03 is what its figure 1 makes. Cireşan et al. give none; 219,290 is the sum of their table 1 (N4).
PUBLISHED = [
    ("fcn32s", 134.0, "none", "Long et al., table 1 (FCN-VGG16)"),
    ("fcn16s", 134.0, "none", "the same encoder; the scores of a level more"),
    ("fcn8s", 134.0, "none", "the same encoder; the scores of two levels more"),
    ("deconvnet", 252.0, "batch", "Noh et al."),
    ("segnet", 29.4, "batch", "Badrinarayanan et al., as later work counts it"),
    ("segnet_basic", 1.425, "batch", "Badrinarayanan et al., table 1"),
    ("unet", 31.03, "none", "Ronneberger et al., figure 1"),
    ("patch_classifier", 0.219290, "none", "Cireşan et al., table 1"),
]


def counted(name: str, **arguments: Any) -> int:
    with torch.device("meta"):
        network = build(name, arguments)
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "millions", "norm", "where"), PUBLISHED)
def test_parameters_are_the_published_ones_within_one_per_cent(
    name: str, millions: float, norm: str, where: str
) -> None:
    row = next(row for row in architectures() if row.name == name)
    inward, outward = row.paper_arguments
    count = counted(name, in_channels=inward, out_channels=outward, norm=norm)
    assert abs(count / (millions * 1e6) - 1) < 0.01, where
    assert abs(row.parameters / (millions * 1e6) - 1) < 0.01, "batch normalisation adds less than that"


def test_the_patch_classifier_has_the_papers_parameters_exactly() -> None:
    layers = [(1 * 4 * 4 + 1) * 48, (48 * 5 * 5 + 1) * 48, (48 * 4 * 4 + 1) * 48, (48 * 4 * 4 + 1) * 48]
    assert counted("patch_classifier", in_channels=1, out_channels=2, norm="none") == (
        sum(layers) + (48 * 3 * 3 + 1) * 200 + (200 + 1) * 2
    )


def test_vgg16_without_its_classes_is_what_fcn_is_made_of() -> None:
    """VGG16 has 138,357,544 with its 1,000 classes; without them 134,260,544, to which FCN adds 21 scores."""
    count = counted("fcn32s", in_channels=3, out_channels=21, norm="none")
    assert count == 138_357_544 - 4097 * 1000 + 4097 * 21


@pytest.mark.parametrize("row", architectures(), ids=lambda row: row.name)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_listed_parameters_are_those_of_the_network_at_the_papers_width(row: Any, dimensions: int) -> None:
    inward, outward = row.paper_arguments
    listed = row.parameters if dimensions == 2 else row.parameters_3d
    if listed is None:
        with pytest.raises(ModelError, match="a network for rasters"):
            counted(row.name, in_channels=inward, out_channels=outward, dimensions=dimensions)
        return
    assert counted(row.name, in_channels=inward, out_channels=outward, dimensions=dimensions) == listed


@pytest.mark.parametrize("row", torchvision_architectures(), ids=lambda row: row.name)
def test_listed_parameters_of_torchvision_are_those_of_the_network(row: Any) -> None:
    assert counted(row.name, in_channels=3, out_channels=21) == row.parameters


@pytest.mark.parametrize("name", ["fcn8s", "deconvnet", "segnet", "segnet_basic", "unet", "full_resolution"])
def test_half_the_width_has_about_a_quarter_of_the_parameters(name: str) -> None:
    arguments = {"in_channels": 3, "out_channels": 5}
    ratio = counted(name, width=32, **arguments) / counted(name, width=64, **arguments)
    assert 0.24 < ratio < 0.27
