"""U-Net and SegNet: sizes, parameters, equivariance, errors."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from segflow.errors import ModelError
from segflow.models.registry import architectures, build

SMALL: list[tuple[str, dict[str, Any]]] = [
    ("unet", {"dimensions": 2, "width": 4, "depth": 2}),
    ("unet", {"dimensions": 2, "width": 4, "depth": 2, "stem": 2, "widest": 8}),
    ("unet", {"dimensions": 3, "width": 4, "depth": 2}),
    ("unet", {"dimensions": 3, "width": 4, "depth": 1, "stem": 2, "norm": "none"}),
    ("segnet", {"dimensions": 2, "width": 4, "depth": 3}),
    ("segnet", {"dimensions": 3, "width": 4, "depth": 2}),
]


def small(name: str, arguments: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return build(name, {"in_channels": 2, "out_channels": 3, **arguments}).eval()


@pytest.mark.parametrize("row", architectures(), ids=lambda row: row.name)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_listed_parameters_are_those_of_the_network_at_the_papers_width(row: Any, dimensions: int) -> None:
    inward, outward = row.paper_arguments
    with torch.device("meta"):
        network = build(row.name, {"in_channels": inward, "out_channels": outward, "dimensions": dimensions})
    count = sum(p.numel() for p in network.parameters())
    assert count == (row.parameters if dimensions == 2 else row.parameters_3d)


@pytest.mark.parametrize(("name", "millions"), [("unet", 31.0), ("segnet", 29.4)])
def test_parameters_are_the_papers(name: str, millions: float) -> None:
    row = next(row for row in architectures() if row.name == name)
    assert round(row.parameters / 1e6, 1) == millions


def test_segnets_encoder_is_that_of_vgg16() -> None:
    with torch.device("meta"):
        network = build("segnet", {"in_channels": 3, "out_channels": 11})
    sizes = [m.out_channels for m in network.encoder.modules() if isinstance(m, torch.nn.Conv2d)]  # type: ignore[union-attr]
    assert sizes == [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


@pytest.mark.parametrize(("name", "arguments"), SMALL)
def test_output_is_as_large_as_the_input_and_has_a_channel_a_class(name: str, arguments: dict[str, Any]) -> None:
    network = small(name, arguments)
    sizes = [network.stride * (2 + i) for i in range(arguments["dimensions"])]
    with torch.inference_mode():
        assert network(torch.zeros(2, 2, *sizes)).shape == (2, 3, *sizes)


@pytest.mark.parametrize(("name", "arguments"), SMALL)
def test_moving_the_input_by_the_stride_moves_the_output(name: str, arguments: dict[str, Any]) -> None:
    """Far from the borders the output moves with the input: the promise that the patch lattice rests on."""
    network = small(name, arguments)
    stride, axes = network.stride, arguments["dimensions"]
    reach = 8 if axes == 2 else 6
    x = torch.zeros(1, 2, *(stride * 2 * reach,) * axes)
    middle = (slice(None), slice(None), *(slice(stride * reach, stride * (reach + 1)),) * axes)
    x[middle] = torch.randn(1, 2, *(stride,) * axes)
    with torch.inference_mode():
        one = network(x)
        two = network(torch.roll(x, (stride,) * axes, tuple(range(2, 2 + axes))))
    inner = (slice(None), slice(None), *(slice(stride * (reach - 1), stride * (reach + 2)),) * axes)
    moved = torch.roll(one, (stride,) * axes, tuple(range(2, 2 + axes)))
    assert torch.allclose(moved[inner], two[inner], atol=1e-5)
    assert float(one[inner].std()) > 1e-4


@pytest.mark.parametrize(("name", "arguments"), SMALL)
def test_a_size_that_is_no_multiple_of_the_stride_is_refused(name: str, arguments: dict[str, Any]) -> None:
    network = small(name, arguments)
    sizes = [network.stride * 2] * arguments["dimensions"]
    sizes[-1] += 1
    with pytest.raises(ModelError, match=f"stride {network.stride}"):
        network(torch.zeros(1, 2, *sizes))


def test_wrong_channels_are_refused() -> None:
    with pytest.raises(ModelError, match="2 channels"):
        small("unet", {"depth": 1})(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    "arguments", [{"width": 0}, {"depth": 0}, {"dimensions": 4}, {"norm": "layer"}, {"colour": 1}, {"stem": 3}]
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        build("unet", {"in_channels": 1, "out_channels": 2, **arguments})


def test_a_misspelt_architecture_gets_the_nearest_name() -> None:
    with pytest.raises(ModelError, match="did you mean segnet"):
        build("segmet", {})


def test_listing_models_and_architectures_does_not_import_torch() -> None:
    code = (
        "import sys; from segflow.models.registry import architectures; from segflow.models.model import builtins;"
        "import segflow.recipe, segflow.training; architectures(); builtins(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["unet", "segnet"])
def test_inference_bits_do_not_depend_on_the_other_patches_of_a_batch(name: str) -> None:
    """Batch norm uses what was learned, never what it sees now."""
    network = small(name, {"depth": 2})
    x = torch.randn(1, 2, 16, 16)
    with torch.inference_mode():
        alone = network(x)
        together = network(torch.cat((x, 100 * torch.randn(1, 2, 16, 16))))[:1]
    assert torch.allclose(alone, together, atol=1e-5)
