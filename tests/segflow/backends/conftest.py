"""Models with random but lively weights, saved and loaded as a user's would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from segflow.models.card import Card, LabelClass
from segflow.models.model import Model, full_arguments
from segflow.models.registry import build

MakeModel = Callable[..., Model]
CLASSES = tuple(
    LabelClass(id=i, name=f"class {i}", colour=colour)
    for i, colour in enumerate(("#000000", "#ff0000", "#00ff00", "#0000ff", "#ffffff"))
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep what runs beside the forwards on one thread, so that a busy machine does not slow the tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """A maker of models: architecture, axes, and whatever else of the card. What was made once is given again."""
    made_before: dict[str, Model] = {}

    def make(architecture: str = "unet", axes: int = 2, norm: str = "batch", **card: Any) -> Model:
        key = repr((architecture, axes, norm, card))
        if key not in made_before:
            made_before[key] = fresh(architecture, axes, norm, **card)
        return made_before[key]

    def fresh(architecture: str, axes: int, norm: str, **card: Any) -> Model:
        values: dict[str, Any] = {
            "name": f"{architecture}-{axes}d-{norm}",
            "kind": "raster" if axes == 2 else "volume",
            "architecture": architecture,
            "arguments": {"width": 8, "depth": 3, "norm": norm},
            "classes": CLASSES,
            "stride": 8,
            "channels": ("one", "two", "three"),
            "patch": (64,) * axes if axes == 2 else (24,) * axes,
            **card,
        }
        made = Card(**values)
        network = liven(build(architecture, full_arguments(made)), len(made.channels), axes)
        path = tmp_path_factory.mktemp("model") / "weights.safetensors"
        save_file(network.state_dict(), path)
        return Model(made, path)

    return make


def liven(network: torch.nn.Module, channels: int, axes: int) -> torch.nn.Module:
    """Give normalisation layers the statistics of real activations, and spread the logits."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                fan = parameter[0].numel()
                parameter.normal_(0.0, (2.0 / fan) ** 0.5, generator=generator)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                module.momentum = None  # a plain mean over the batches
        network.train()
        size = (64,) * axes if axes == 2 else (24,) * axes
        for _ in range(4):
            network(torch.randn((2, channels, *size), generator=generator))
        head = network.head
        head.bias.zero_()
        network.eval()
        out = network(torch.randn((2, channels, *size), generator=generator))
        spread = out.transpose(0, 1).flatten(1)
        scale = 3.0 / spread.std(1)
        head.weight.mul_(scale.view(-1, *[1] * (head.weight.ndim - 1)))
        head.bias.copy_(-scale * spread.mean(1))
    return network


@pytest.fixture
def make_patches() -> Callable[[Model, int], list[np.ndarray]]:
    """A maker of patches: noise on a ramp that differs from patch to patch."""

    def make(model: Model, count: int) -> list[np.ndarray]:
        random = np.random.default_rng(11)
        shape = (len(model.card.channels), *model.card.patch)
        ramp = np.linspace(-1, 1, shape[-1], dtype=np.float32)
        return [(random.standard_normal(shape, np.float32) + (i - count / 2) / count * ramp) for i in range(count)]

    return make
