"""From a network's name to the network. Importing this module does not import torch; building a network does."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from segflow.errors import ModelError
from segflow.models.architectures import find_architecture

if TYPE_CHECKING:
    from torch import nn


def build(architecture: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Make a network with fresh weights, in training mode, float32. Nothing is downloaded.

    Its `stride` is the number that patches are multiples of; it takes (batch, in_channels, *axes) and gives
    (batch, out_channels, *axes).

    Args:
        architecture: a name from `segflow.models.architectures`, torchvision:NAME, or smp:NAME of
            segmentation-models-pytorch.
        arguments: its arguments: in_channels, out_channels, dimensions, width, depth, norm, upsampling and others.

    Raises:
        ModelError: no such architecture, or arguments that it does not take.
        SegflowError: the architecture is of the zoo, and `segflow[zoo]` is not installed.
    """
    if ":" in architecture:
        from segflow.models import zoo

        return zoo.build(architecture, arguments)
    row = find_architecture(architecture)
    module, name = row.place
    maker = getattr(import_module(module), name)
    takes = [key for key in signature(maker).parameters if key != "self"]
    if "upsampling" in arguments and not row.upsamplings:
        from segflow.models.networks.upsampling import check_upsampling

        check_upsampling(architecture, arguments["upsampling"], ())
    try:
        network: nn.Module = maker(**arguments)
    except TypeError as error:
        raise ModelError(
            f"{architecture} does not take {dict(arguments)}: {error}", ", ".join(takes), "correct the arguments"
        ) from error
    return network
