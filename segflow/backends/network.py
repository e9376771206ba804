"""The network as backends take it: with its activation, checked against its card before anything is run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from segflow.backends.ordered import Signature
from segflow.errors import ModelError
from segflow.models.card import Card
from segflow.models.probabilities import Probabilities

_TRIAL = {2: 64, 3: 32}  # cells an axis of the patch that shapes are tried with, or a little more


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
    _require_finite(network, card)
    module = Probabilities(network, card).eval()
    small = tuple(min(n, -(-_TRIAL[len(patch)] // card.stride) * card.stride) for n in patch)
    found, expected = _output_shape(module, (len(card.channels), *small), card), (card.output_channels, *small)
    if found != expected:
        raise ModelError(
            f"{card.name} puts out an array of shape {found} for a patch of {small}",
            f"{expected}: {expected[0]} channels as its card says, as large as the patch",
            "correct classes, regions, activation or output in the card",
        )
    return Checked(module, Signature((len(card.channels), *patch), (card.output_channels, *patch)))


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
            f"{card.name} does not take {inputs[0]} channels in a patch of {inputs[1:]}: {str(error).splitlines()[0]}",
            "a network that fits the channels, patch and output of its card",
            "correct channels, arguments, stride or output in the card",
        ) from error
    return tuple(int(n) for n in result.shape[1:])
