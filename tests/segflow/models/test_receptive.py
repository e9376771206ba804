"""How far networks see: traced and measured, against what is known of them by construction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segflow.auto import settle_tiling
from segflow.errors import ModelError, PlanError
from segflow.models.choice import ModelChoice
from segflow.models.load import builtin, load_model
from segflow.models.model import Model
from segflow.models.networks.unet import UNet
from segflow.models.receptive.cuts import change
from segflow.models.receptive.field import changes_on, field_of
from segflow.models.receptive.gradient import effective_radius
from segflow.models.receptive.probes import leaves
from segflow.models.receptive.reach import reach_of
from segflow.recipe import Compute, Tiling
from tests.making import classes, load, make_model, texture

AMPLE = 1 << 34


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def convolutions(axes: int, *kernels: tuple[int, int]) -> nn.Module:
    """Plain convolutions, (kernel, dilation) each, with weights of both signs."""
    torch.manual_seed(3)
    make = nn.Conv2d if axes == 2 else nn.Conv3d
    layers = [make(2, 2, kernel, padding=dilation * (kernel // 2), dilation=dilation) for kernel, dilation in kernels]
    return nn.Sequential(*(layer for conv in layers for layer in (conv, nn.ReLU()))).eval()


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("kernels", [((3, 1),), ((3, 1), (5, 1)), ((3, 4), (1, 1), (3, 9)), ((1, 1),)])
def test_the_reach_of_plain_convolutions_is_the_sum_of_theirs(axes: int, kernels: tuple[tuple[int, int], ...]) -> None:
    expected = sum(dilation * (kernel // 2) for kernel, dilation in kernels)
    assert reach_of(convolutions(axes, *kernels), 2, axes, 1).cells == expected


@pytest.mark.parametrize(
    "network",
    [
        UNet(1, 2, width=2, depth=2),
        UNet(1, 2, width=2, depth=2, upsampling="max_unpooling"),
    ],
    ids=["unet", "unpooling unet"],
)
def test_what_lies_beyond_the_reach_changes_no_cell_and_the_reach_is_no_longer_than_padding_and_rounding_make_it(
    network: Any,
) -> None:
    """The oracle perturbs in float64, cell by cell of the answer; it may miss only what rounding swallows."""
    network = network.double().eval()
    stride = network.stride
    cut = 12 * stride
    random = np.random.default_rng(0)
    plain = torch.from_numpy(random.normal(size=(1, 1, 2 * cut, 2 * stride)))
    with torch.inference_mode():
        before = network(plain)
        felt = 0
        for seed in range(6):
            other = plain.clone()
            other[:, :, cut:] = torch.from_numpy(20 * np.random.default_rng(seed).normal(size=other[:, :, cut:].shape))
            rows = torch.nonzero((network(other) != before).amax((0, 1, 3))[:cut])
            felt = max(felt, cut - int(rows[0]) if len(rows) else 0)
    reach = reach_of(network.float(), 1, 2, stride).cells
    assert reach is not None
    assert felt <= reach <= felt + stride


class Squeezed(nn.Module):
    """A mean over the whole patch that no layer shows."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class Gated(nn.Module):
    """Squeeze and excite: channels are weighed by their mean over the patch."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.weigh = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weigh(self.pool(x)))


class Attending(nn.Module):
    """Every cell looks at every other."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(x, 16)
        cells = small.flatten(2).transpose(1, 2)
        found = self.attention(cells, cells, cells, need_weights=False)[0].transpose(1, 2).reshape(small.shape)
        return x + nn.functional.interpolate(found, size=x.shape[2:])


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.InstanceNorm2d(4), "1 (InstanceNorm2d)"),
        (nn.GroupNorm(2, 4), "1 (GroupNorm)"),
        (Gated(), "1.pool (AdaptiveAvgPool2d)"),
        (Squeezed(), "1 (Squeezed)"),
        (Attending(), "1 (Attending)"),
    ],
    ids=["instance norm", "group norm", "global pooling", "hidden mean", "attention"],
)
def test_a_module_that_sees_the_whole_patch_is_named(module: nn.Module, name: str) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), module, nn.Conv2d(4, 3, 1)).eval()
    found = reach_of(network, 2, 2, 1)
    assert found.cells is None
    assert found.module == name


def test_batch_norm_keeps_the_reach_bounded() -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1)).eval()
    assert reach_of(network, 2, 2, 1).cells == 2


def test_the_effective_radius_of_a_mean_is_its_window() -> None:
    network = nn.Conv2d(1, 1, 9, padding=4, bias=False)
    nn.init.constant_(network.weight, 1.0)
    patch = torch.from_numpy(leaves(1, (32, 32), 0))[None]
    assert effective_radius(network, patch) == 4
    assert effective_radius(network, patch, share=25 / 81) == 2


def test_a_network_without_gradients_has_no_effective_radius() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones_like(x)

    assert effective_radius(Constant(), torch.zeros((1, 1, 8, 8))) is None


def test_a_cut_changes_cells_up_to_the_reach_and_none_beyond() -> None:
    network = convolutions(2, (5, 1), (3, 1))
    found = change(network, leaves(2, (60, 60), 1), (12, 12))
    assert len(found) == 18
    assert (found[:3] > 0).all()
    assert found[3:].max() < 1e-6
    assert (np.diff(found) <= 0).all()


def test_an_axis_that_is_not_cut_does_not_count() -> None:
    network = convolutions(2, (5, 1))
    found = change(network, leaves(2, (60, 30), 1), (10, 0))
    assert len(found) == 20
    assert found[1] > 1e-6 > found[2]


@pytest.mark.parametrize("shape", [(40, 60), (20, 24, 28)])
def test_probes_are_the_same_everywhere_and_standardised(shape: tuple[int, ...]) -> None:
    one, two = leaves(3, shape, 5), leaves(3, shape, 5)
    assert one.tobytes() == two.tobytes()
    assert np.abs(one.mean(tuple(range(1, one.ndim)))).max() < 1e-3
    assert np.abs(one.std(tuple(range(1, one.ndim))) - 1).max() < 1e-3
    assert not np.array_equal(one, leaves(3, shape, 6))


def model_of(folder: Path, **changes: Any) -> Model:
    return load(make_model(folder, **changes))


def test_a_field_is_measured_once_and_then_recalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGFLOW_CACHE", str(tmp_path / "cache"))
    model = model_of(tmp_path)
    one = field_of(model, None, AMPLE)
    (kept,) = (tmp_path / "cache" / "fields").glob("*.json")
    text = kept.read_text()
    assert field_of(model, None, AMPLE) == one
    kept.write_text(text.replace(f'"reach": {one.reach}', '"reach": 7'))
    assert field_of(model, None, AMPLE).reach == 7
    kept.unlink()
    assert field_of(model, None, AMPLE) == one
    assert kept.read_text() == text


def test_other_weights_are_measured_anew(tmp_path: Path) -> None:
    one, two = (field_of(model_of(tmp_path / str(seed), seed=seed), None, AMPLE) for seed in (0, 1))
    assert one.reach == two.reach
    assert one.changes != two.changes


def settled(model: Model, shape: tuple[int, ...], memory: str = "8 GiB", **tiling: Any) -> Any:
    return settle_tiling(Tiling(**tiling), Compute(memory=memory, device="cpu"), model, shape, 1)


def test_without_tolerance_the_overlap_is_twice_the_reach(tmp_path: Path) -> None:
    found = settled(model_of(tmp_path), (400, 400), overlap="auto", tolerance=0)
    assert found.reach is not None
    assert found.overlap == -(-2 * found.reach // 4) * 4
    assert found.blend == "crop"


def test_a_larger_tolerance_takes_no_more_overlap(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    overlaps = [settled(model, (400, 400), overlap="auto", tolerance=t).overlap for t in (0, 0.001, 0.03, 0.5)]
    assert overlaps == sorted(overlaps, reverse=True)
    assert overlaps[-1] < overlaps[0]


def test_an_overlap_that_no_patch_of_that_size_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="a cut may change a probability by") as caught:
        settled(model_of(tmp_path), (400, 400), patch=16, overlap="auto", tolerance=0)
    assert "tiling.tolerance" in caught.value.remedy


def test_a_blend_that_averages_cells_near_cuts_is_named_where_crop_would_do(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    asked = {"patch": 64, "overlap": "auto", "tolerance": 0}
    assert settled(model, (400, 400), **asked).blend == "crop"
    with pytest.raises(PlanError, match="gaussian blends cells close to a cut") as caught:
        settled(model, (400, 400), blend="gaussian", **asked)
    assert "remove tiling.blend" in caught.value.remedy


@pytest.mark.parametrize("tiling", [{"overlap": "auto"}, {"patch": "auto"}, {"patch": "auto", "overlap": "32px"}])
def test_instance_norm_is_refused_with_its_name_and_what_it_changes(tmp_path: Path, tiling: dict[str, Any]) -> None:
    model = model_of(tmp_path, arguments={"width": 4, "depth": 2, "norm": "instance"})
    with pytest.raises(PlanError, match=r"encoder\.0\.1 \(InstanceNorm2d\), which sees the whole patch") as caught:
        settled(model, (400, 400), **tiling)
    assert "changes by up to" in caught.value.found
    assert "tiling.patch" in caught.value.remedy


def onnx_model(folder: Path, network: nn.Module, free: bool) -> Model:
    """Export a network of two classes with open or fixed sizes."""
    path = folder / "net.onnx"
    axes = {0: "batch", **({2: "y", 3: "x"} if free else {})}
    torch.onnx.export(
        network.eval(),
        (torch.zeros((1, 3, 64, 64)),),
        path,
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": axes, "y": axes},
    )
    choice = ModelChoice(
        weights=str(path), classes=classes((1, 2)), normalisation={"mean": (0.0,), "deviation": (1.0,)}
    )
    return load_model(choice, folder, "raster")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_field_of_an_onnx_graph_is_traced_and_measured_and_one_of_a_single_size_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1))
    (tmp_path / "free").mkdir()
    found = field_of(onnx_model(tmp_path / "free", network, free=True), None, AMPLE)
    assert found.reach == 3
    assert found.effective is None
    with pytest.raises(ModelError, match=r"takes patches of \[64, 64\] only"):
        settled(onnx_model(tmp_path, network, free=False), (400, 400), patch="auto", overlap="auto")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_onnx_graph_that_depends_on_the_patchs_size_is_refused_by_what_is_measured(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Squeezed(), nn.Conv2d(4, 2, 1))
    with pytest.raises(PlanError, match=r"which sees the whole patch|no end that was found"):
        settled(onnx_model(tmp_path, network, free=True), (400, 400), patch="auto", overlap="auto")


def test_a_large_scene_costs_at_most_fifteen_per_cent_more_than_its_cells(tmp_path: Path) -> None:
    from tiling import Lattice

    for model, shape in ((builtin("landcover-landsat"), (20_000, 20_000)), (model_of(tmp_path), (20_000, 20_000))):
        found = settled(model, shape, "16 GiB", patch="auto", overlap="auto")
        steps = [n - found.overlap for n in found.patch]
        assert Lattice.of(shape, found.patch, steps, found.blend).overhead <= 1.15


def test_less_memory_makes_smaller_patches_of_the_same_overlap(tmp_path: Path) -> None:
    model = model_of(tmp_path)
    sizes = [settled(model, (20_000, 20_000), memory, patch="auto", overlap="auto") for memory in ("16 GiB", "5 GiB")]
    assert np.prod(sizes[1].patch) < np.prod(sizes[0].patch)
    assert sizes[0].overlap == sizes[1].overlap


def around(model: Model, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Standardised texture, which no probe is made of."""
    values = texture(shape, len(model.card.channels), seed)
    cells = tuple(range(1, values.ndim))
    return ((values - values.mean(cells, keepdims=True)) / values.std(cells, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "size", "context"),
    [("landcover-landsat", 224, 64), pytest.param("hippocampus", 96, 8, marks=pytest.mark.slow)],
    ids=lambda v: str(v),
)
def test_built_in_models_keep_the_tolerance_on_data_that_nothing_was_measured_on(
    name: str, size: int, context: int
) -> None:
    model = builtin(name)
    found = settled(model, (2000,) * len(model.card.patch), patch="auto", overlap="auto")
    pieces = [
        (around(model, (size + 2 * context,) * len(model.card.patch), seed), (context,) * len(model.card.patch))
        for seed in range(2 if len(model.card.patch) == 2 else 1)
    ]
    changes = changes_on(model, pieces)
    assert changes[0] > 0.05  # a cut does change what lies beside it
    assert changes[found.overlap // 2] <= 0.01
