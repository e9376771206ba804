"""The network as backends take it: with its activation, checked against its card before anything is run."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from segflow.backends.counting import cells_of_operations
from segflow.backends.ordered import Signature
from segflow.errors import ModelError, first_line
from segflow.models.card import Card
from segflow.models.ensemble import Averaged
from segflow.models.formats.export import ExportedNetwork
from segflow.models.formats.onnx_network import OnnxNetwork
from segflow.models.model import Model
from segflow.models.probabilities import Probabilities

_TRIAL = {2: 64, 3: 32}  # cells an axis of the patch that shapes are tried with, or a little more


@dataclass(frozen=True, slots=True)
class Appetite:
    """What a backend takes of memory, as measured with U-Nets and SegNets in 2-D and 3-D.

    Attributes:
        least: share of `activation_bytes` that a patch takes at the least: a probe is refused where even this does not
            fit.
        most: the same at the most: a patch is made so large that this fits.
        loading_bytes: what its library, and a network of 2 million weights in it, add to a process with PyTorch.
    """

    least: float
    most: float
    loading_bytes: int


APPETITES: dict[str, Appetite] = {
    "torch": Appetite(1.0, 1.1, 16 << 20),
    "openvino": Appetite(0.4, 0.6, 230 << 20),
    "onnxruntime": Appetite(0.6, 0.7, 190 << 20),
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A network that fits its card.

    Attributes:
        module: takes (batch, channel, *patch) and gives (batch, output channel, *patch), both float32.
        signature: these shapes, without the batch.
    """

    module: nn.Module
    signature: Signature


def check_network(network: nn.Module, card: Card, patch: tuple[int, ...]) -> Checked:
    """Wrap a network with its card's activation, and check its shapes by running it once on a small patch of zeros.

    Raises:
        ModelError: the patch has the wrong number of axes or is no multiple of the card's stride, weights are not
            finite, the network does not take the card's channels, or its output is not as large as its input with
            `card.output_channels` channels.
    """
    if len(patch) != len(card.patch) or any(n % card.stride for n in patch):
        raise ModelError(
            f"a patch of {patch} for {card.name}",
            f"{len(card.patch)} axes, each a multiple of its stride {card.stride}",
            "correct tiling.patch",
        )
    _require_fitting(network, card, patch)
    _require_finite(network, card)
    module = Probabilities(network, card).eval()
    small = _small(patch, card.stride, network)
    found, expected = _output_shape(module, (len(card.channels), *small), card), (card.output_channels, *small)
    if found[0] == expected[0] and any(n < m for n, m in zip(found[1:], small, strict=False)):
        raise ModelError(
            f"{card.name} puts out {list(found[1:])} cells for a patch of {list(small)}",
            "an output as large as the patch, without which labels would not lie where they belong",
            "pad inside the network, or enlarge its output to the input's size, before it is exported",
        )
    if found != expected:
        raise ModelError(
            f"{card.name} puts out an array of shape {found} for a patch of {small}",
            f"{expected}: {expected[0]} channels as its card says, as large as the patch",
            "correct classes, regions, activation or output in the card",
        )
    return Checked(module, Signature((len(card.channels), *patch), (card.output_channels, *patch)))


def activation_bytes(network: nn.Module, patch: tuple[int, ...], channels: int, stride: int) -> int:
    """Estimate what one request holds besides weights, input and output, without running a whole patch.

    Half of all layers' float32 outputs, scaled up from a small patch. Measured on U-Net (2-D and 3-D) and SegNet (2-D):
    1.0 to 1.1 times PyTorch's real growth for the 3-D U-Net, 1.4 times for SegNet, 2 to 3 times OpenVINO's.

    Args:
        network: as `Model.network` returns it.
        patch: cells of a patch, in array order.
        channels: of the input.
        stride: the card's.

    A network that works in chunks says in `chunk_bytes` what one of them holds, which is added.
    """
    if isinstance(network, Averaged):  # one pass after the other, so that none adds to another's
        parts = [part.network for part in network.members if isinstance(part, Probabilities)]
        return max(activation_bytes(part, patch, channels, stride) for part in parts)
    small = _small(patch, stride, network)
    if isinstance(network, torch.jit.ScriptModule | ExportedNetwork):
        return 2 * cells_of_operations(network, (1, channels, *small)) * prod(patch) // prod(small)
    cells: list[int] = []

    def count(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor):
            cells.append(output.numel())

    if isinstance(network, OnnxNetwork):
        cells.append(network.cells((1, channels, *small)))
    leaves = [module for module in network.modules() if next(module.children(), None) is None]
    hooks = [module.register_forward_hook(count) for module in leaves]
    try:
        with torch.inference_mode():
            network(torch.zeros((1, channels, *small)))
    finally:
        for hook in hooks:
            hook.remove()
    passes = int(getattr(network, "passes", 1))  # of nnU-Net's folds and mirrored views, one after the other as well
    return 2 * sum(cells) * prod(patch) // prod(small) // passes + int(getattr(network, "chunk_bytes", 0))


def estimate_bytes(model: Model, patch: tuple[int, ...]) -> tuple[int, int]:
    """Estimate what one request of a model holds, by `activation_bytes`, and what its weights hold.

    Args:
        model: card and weights; its network is loaded.
        patch: cells of a patch, in array order.
    """
    network, card = model.network(), model.card
    weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return activation_bytes(network, patch, len(card.channels), card.stride), weights


def _require_fitting(network: nn.Module, card: Card, patch: tuple[int, ...]) -> None:
    """Refuse a patch that the file of the network, or its symmetries, cannot take."""
    fixed = getattr(network, "fixed_patch", None)
    if fixed is not None and tuple(fixed) != patch:
        raise ModelError(
            f"a patch of {list(patch)} for {card.name}",
            f"{list(fixed)}: the file was exported for this one size",
            f"set tiling.patch: {list(fixed)}, or leave it out; or export the network with open sizes",
        )
    if getattr(network, "square", False) and patch[-1] != patch[-2]:
        raise ModelError(
            f"a patch of {list(patch)} with model.tta d4", "a square patch", "set tiling.patch to one number"
        )


def _small(patch: tuple[int, ...], stride: int, network: nn.Module) -> tuple[int, ...]:
    if getattr(network, "fixed_patch", None) is not None:
        return patch
    trial: tuple[int, ...] | None = getattr(network, "trial_patch", None)
    if trial is not None:
        return tuple(min(n, m) for n, m in zip(patch, trial, strict=True))
    return tuple(min(n, -(-_TRIAL[len(patch)] // stride) * stride) for n in patch)


def _require_finite(network: nn.Module, card: Card) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"the weights of {card.name} hold NaN or infinity in {name}",
                "finite numbers",
                "take another checkpoint; the training that made this one diverged",
            )


def _output_shape(module: nn.Module, inputs: tuple[int, ...], card: Card) -> tuple[int, ...]:
    try:
        with torch.inference_mode():
            result = module(torch.zeros((1, *inputs)))
    except (ModelError, RuntimeError, ValueError, IndexError) as error:
        raise ModelError(
            f"{card.name} does not take {inputs[0]} channels in a patch of {inputs[1:]}: {first_line(error)}",
            "a network that fits the channels, patch and output of its card",
            "correct channels, arguments, stride or output in the card",
        ) from error
    return tuple(int(n) for n in result.shape[1:])
