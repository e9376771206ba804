"""All networks: sizes, equivariance, upsamplings, what each paper says of its own, errors. Counts: test_parameters."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
import torch

from segflow.backends.network import activation_bytes
from segflow.errors import ModelError
from segflow.models.architectures import architectures
from segflow.models.registry import build

SMALL: list[tuple[str, dict[str, Any]]] = [
    ("unet", {"dimensions": 2, "width": 4, "depth": 2}),
    ("unet", {"dimensions": 2, "width": 4, "depth": 2, "stem": 2, "widest": 8}),
    ("unet", {"dimensions": 3, "width": 4, "depth": 2}),
    ("unet", {"dimensions": 3, "width": 4, "depth": 1, "stem": 2, "norm": "none"}),
    ("segnet", {"dimensions": 2, "width": 4, "depth": 3}),
    ("segnet", {"dimensions": 3, "width": 4, "depth": 2}),
    ("segnet_basic", {"dimensions": 2, "width": 4, "depth": 2}),
    ("segnet_basic", {"dimensions": 3, "width": 2, "depth": 1}),
    ("fcn32s", {"dimensions": 2, "width": 2, "depth": 2}),
    ("fcn32s", {"dimensions": 3, "width": 2, "depth": 1}),
    ("fcn16s", {"dimensions": 2, "width": 2, "depth": 2, "norm": "none"}),
    ("fcn8s", {"dimensions": 2, "width": 2, "depth": 3}),
    ("deconvnet", {"dimensions": 2, "width": 2, "depth": 1}),
    ("full_resolution", {"dimensions": 2, "width": 4, "depth": 3}),
    ("full_resolution", {"dimensions": 3, "width": 4, "depth": 2}),
    ("patch_classifier", {"dimensions": 2, "width": 4, "depth": 1}),
    ("patch_classifier", {"dimensions": 3, "width": 2, "depth": 1}),
]
# Strides from the middle to the border, so far that the border is not felt there; where 8 (6 in 3-D) are not enough.
REACH = {"deconvnet": 16, "full_resolution": 12, "patch_classifier": 12}
NO_STRIDE = ("full_resolution", "patch_classifier")
IN_3D = [row for row in architectures() if row.parameters_3d is not None]
EVERY_WAY = [(row.name, axes, way) for row in IN_3D for axes in (2, 3) for way in row.upsamplings]


def small(name: str, arguments: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return build(name, {"in_channels": 2, "out_channels": 3, **arguments}).eval()


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
    reach = REACH.get(name, 8 if axes == 2 else 6)
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


@pytest.mark.parametrize(("name", "arguments"), [one for one in SMALL if one[0] not in NO_STRIDE])
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
        "import sys; from segflow.models.architectures import architectures; from segflow.models.load import builtins;"
        "import segflow.recipe, segflow.training; architectures(); builtins(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [row.name for row in architectures()])
def test_inference_bits_do_not_depend_on_the_other_patches_of_a_batch(name: str) -> None:
    """Batch norm uses what was learned, never what it sees now."""
    network = small(name, {"depth": 3 if name == "fcn8s" else 2, "width": 4})
    x = torch.randn(1, 2, 16, 16)
    with torch.inference_mode():
        alone = network(x)
        together = network(torch.cat((x, 100 * torch.randn(1, 2, 16, 16))))[:1]
    assert torch.allclose(alone, together, atol=1e-5)


@pytest.mark.parametrize(("name", "axes", "way"), EVERY_WAY)
def test_every_network_takes_every_upsampling_that_it_lists(name: str, axes: int, way: str) -> None:
    depth = 3 if name == "fcn8s" else 2
    network = small(name, {"dimensions": axes, "width": 2, "depth": depth, "upsampling": way})
    sizes = [network.stride, *[network.stride * 2] * (axes - 1)]
    x = torch.randn(1, 2, *sizes, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert network(x).shape == (1, 3, *sizes)
    default = small(name, {"dimensions": axes, "width": 2, "depth": depth})
    first = next(row for row in architectures() if row.name == name).upsamplings[0]
    assert (way == first) == (str(network) == str(default) and network._way == default._way)


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s"])
@pytest.mark.parametrize("way", ["bed_of_nails", "max_unpooling"])
def test_an_upsampling_that_makes_no_sense_is_refused_with_those_that_do(name: str, way: str) -> None:
    with pytest.raises(ModelError, match=f"{name} with upsampling '{way}'") as caught:
        small(name, {"upsampling": way, "width": 1})
    assert caught.value.expected == "one of transposed, bilinear, nearest"


@pytest.mark.parametrize("name", NO_STRIDE)
def test_an_upsampling_of_a_network_that_has_none_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="has no upsampling"):
        small(name, {"upsampling": "nearest"})


def test_listed_upsamplings_are_those_of_the_classes() -> None:
    for row in architectures():
        module = import_module(row.place[0])
        assert row.upsamplings == getattr(module, "WAYS", ())


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("chunk", [1, 7, 40, 10_000])
def test_the_patch_classifier_gives_every_cell_the_label_of_the_window_around_it(axes: int, chunk: int) -> None:
    network = small("patch_classifier", {"dimensions": axes, "width": 2, "depth": 1})
    network._chunk = chunk
    x = torch.randn(2, 2, *(5, 4, 3)[:axes])
    half = network.window // 2
    padded = torch.nn.functional.pad(x, (half, half) * axes)
    with torch.inference_mode():
        found = network(x)
        for place in torch.cartesian_prod(*[torch.arange(n) for n in x.shape[2:]]).tolist():
            window = padded[(slice(None), slice(None), *(slice(n, n + network.window) for n in place))]
            assert torch.allclose(found[(slice(None), slice(None), *place)], network.classify(window), atol=1e-5)


def test_the_patch_classifiers_window_is_the_papers() -> None:
    with torch.device("meta"):
        windows = [
            build("patch_classifier", {"in_channels": 1, "out_channels": 2, "depth": n}).window for n in (1, 2, 3, 4)
        ]
    assert windows == [9, 23, 47, 95]


def test_fcn_fuses_the_scores_of_the_levels_before() -> None:
    """FCN-8s's own pieces, put together by hand as in the paper's figure 3."""
    network = small("fcn8s", {"width": 2, "depth": 3})
    x = torch.randn(1, 2, 16, 16)
    with torch.inference_mode():
        pools = []
        y = x
        for level in network.encoder:
            y = torch.nn.functional.max_pool2d(level(y), 2)
            pools.append(y)
        coarse = network.head(network.connected(y))
        middle = network.doubling[0](coarse) + network.skip[0](pools[1])
        fine = network.doubling[1](middle) + network.skip[1](pools[0])
        line = torch.tensor([0.25, 0.75, 0.75, 0.25])
        stamp = torch.outer(line, line).expand(3, 1, 4, 4)
        expected = torch.nn.functional.conv_transpose2d(fine, stamp, stride=2, padding=1, groups=3)
        assert torch.allclose(network(x), expected, atol=1e-6)


def test_fcn_needs_a_level_for_every_skip() -> None:
    with pytest.raises(ModelError, match="depth is 2"):
        small("fcn8s", {"depth": 2, "width": 2})


@pytest.mark.parametrize("name", ["fcn8s", "deconvnet", "segnet", "unet"])
def test_signals_reach_the_deepest_level_without_normalisation(name: str) -> None:
    """He et al.'s start keeps the spread of activations; PyTorch's own loses it by the depth of VGG16."""
    network = small(name, {"norm": "none", "width": 4, "depth": 5 if name != "unet" else 4})
    seen: list[float] = []
    network.encoder[-1].register_forward_hook(lambda _m, _i, out: seen.append(float(out.std())))
    with torch.inference_mode():
        network(torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(3)))
    assert 0.05 < seen[0] < 20


def test_keys_of_unet_and_segnet_are_those_of_weights_that_exist() -> None:
    unet = small("unet", {"width": 2, "depth": 1, "stem": 2})
    assert {"up.0.weight", "up.0.bias", "encoder.0.0.weight", "stem.weight", "head.bias"} <= set(unet.state_dict())
    segnet = small("segnet", {"width": 2, "depth": 2})
    prefixes = {key.split(".")[0] for key in segnet.state_dict()}
    assert prefixes == {"encoder", "decoder", "head"}


@pytest.mark.parametrize(("name", "way"), [(row.name, way) for row in IN_3D for way in (row.upsamplings or (None,))])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_every_parameter_is_learned(name: str, way: str | None, norm: str) -> None:
    depth = {"fcn8s": 3, "patch_classifier": 1}.get(name, 2)
    arguments = {"width": 4, "depth": depth, "norm": norm} | ({"upsampling": way} if way else {})
    network = small(name, arguments).train()
    network(torch.randn(2, 2, 16, 16)).square().mean().backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert not without


def test_the_patch_classifiers_memory_is_that_of_a_chunk_whatever_the_patch() -> None:
    network = small("patch_classifier", {"width": 4, "depth": 2})
    seen: list[int] = []
    classify = network.classify
    network.classify = lambda windows: seen.append(windows.numel()) or classify(windows)
    network._chunk = 100
    with torch.inference_mode():
        network(torch.zeros(1, 2, 24, 24))
    assert max(seen) <= 100 * 2 * 23**2
    found = {activation_bytes(network, (size, size), 2, 1) for size in (16, 48)}
    assert all(network.chunk_bytes <= one < 1.01 * network.chunk_bytes for one in found)
