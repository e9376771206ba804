"""What a training begins with: fresh weights, another model's, or an encoder that was trained for something else."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from segflow.errors import ModelError
from segflow.models.card import Card
from segflow.models.formats import SAFETENSORS, format_of, resolve
from segflow.models.formats.pickles import read_pickle
from segflow.models.formats.safetensors import read_weights
from segflow.models.formats.states import as_float, inner_state, some, without_prefix
from segflow.models.load import load_model
from segflow.models.model import full_arguments
from segflow.models.registry import build
from segflow.recipe import ModelChoice, Recipe
from segflow.training.scenes import train_of

log = logging.getLogger(__name__)

_PARTS = ("encoder", "backbone")
_COUNTER = "num_batches_tracked"
_COLOURS = ("red", "green", "blue")


def network_of(recipe: Recipe, card: Card) -> nn.Module:
    """Return the network that a training begins with: of `train.seed`, with what `start` or `encoder` names.

    Raises:
        ModelError: the file is missing or broken, or its weights do not fit.
    """
    plan = train_of(recipe)
    torch.manual_seed(plan.seed)
    network = build(card.architecture, full_arguments(card))
    if plan.start is not None:
        _start(network, recipe, plan.start)
    if plan.encoder is not None:
        load_encoder(network, Path(recipe.resolve(plan.encoder)), plan.architecture, plan.channels)
    return network


def _start(network: nn.Module, recipe: Recipe, weights: str) -> None:
    start = load_model(ModelChoice(weights=weights), recipe.resolve, recipe.kind)
    try:
        network.load_state_dict(start.network().state_dict())
    except RuntimeError as error:
        architecture = train_of(recipe).architecture
        raise ModelError(
            f"train.start is {weights}, whose weights do not fit {architecture}: {str(error).splitlines()[-1]}",
            "a model of the same architecture and arguments",
            "correct train.architecture and train.arguments, or remove train.start",
        ) from error


def load_encoder(network: nn.Module, path: Path, architecture: str, channels: Sequence[str] = ()) -> None:
    """Put weights into a network's encoder (of torchvision's networks: the backbone); the rest stays fresh.

    Tensors are matched by name, also behind a prefix. Where a file has other names for the same layers, as another
    library's classifier has, they are matched in their order, if kinds (weight, bias, running_mean, ...) and shapes of
    all of them agree; what the file has beyond, such as a classifier's head, is left. Of a network whose input has
    other channels than red, green and blue, the first convolution is made of the file's (`_for_channels`).

    Args:
        network: has an `encoder` or a `backbone`; changed in place.
        path: safetensors, or a checkpoint that holds tensors; never unpickled with code.
        architecture: the network's name, for messages.
        channels: names of the input's channels; not needed where they are as many as the file's.

    Raises:
        ModelError: the network has no such part, the file is none of these, or its tensors do not fit.
    """
    part = next((getattr(network, name) for name in _PARTS if hasattr(network, name)), None)
    if part is None:
        raise ModelError(
            f"train.encoder is set, and {architecture} has no encoder of its own",
            "unet, segnet, efficientnet_unet, smp:NAME or torchvision:NAME",
            "use train.start for weights of the whole network",
        )
    path = resolve(path)
    state = read_weights(path) if format_of(path) is SAFETENSORS else inner_state(read_pickle(path, False), path)[0]
    wanted = {key: value for key, value in part.state_dict().items() if not key.endswith(_COUNTER)}
    found = _for_channels(wanted, without_prefix(wanted, state, path), channels)
    how = "by name"
    if not _fits(wanted, found):
        found = _in_order(wanted, state, channels)
        how = "in their order, since their names differ"
    if not _fits(wanted, found):
        odd = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
        raise ModelError(
            f"{path} does not hold the encoder of {architecture}: {some(odd)} missing or of another shape",
            f"{len(wanted)} tensors by these names, or of the same kinds and shapes in the same order",
            "correct train.arguments (variant, depth, channels), or take the file that belongs to this encoder",
        )
    part.load_state_dict({key: as_float(found[key]) for key in wanted}, strict=False)
    log.info("%d tensors of %s were put into the encoder, matched %s", len(wanted), path.name, how)


def _fits(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> bool:
    return all(key in found and found[key].shape == value.shape for key, value in wanted.items())


def _in_order(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], channels: Sequence[str]) -> dict[str, Tensor]:
    """Return the file's first tensors under the wanted names, or nothing where a kind or a shape differs."""
    theirs = [(key, value) for key, value in state.items() if not key.endswith(_COUNTER)]
    pairs = list(zip(wanted, theirs, strict=False))
    if any(mine.rpartition(".")[2] != other.rpartition(".")[2] for mine, (other, _) in pairs):
        return {}
    made = _for_channels(wanted, {mine: value for mine, (_, value) in pairs}, channels)
    return made if _fits(wanted, made) else {}


def _for_channels(wanted: Mapping[str, Tensor], found: dict[str, Tensor], channels: Sequence[str]) -> dict[str, Tensor]:
    """Return tensors whose first convolution takes the network's channels in place of red, green and blue.

    A channel of one of these names keeps its weights, any other gets their mean; all are multiplied by three over the
    number of channels, so that what comes out is as large as it was. A single channel gets the sum, as if the image
    were grey (as timm has it). Three channels of other names are taken for red, green and blue.
    """
    first = next(iter(wanted), "")
    if first not in found or found[first].ndim < 3 or found[first].shape[1] != len(_COLOURS):
        return found
    weight, names = as_float(found[first]), [name.lower() for name in channels]
    if wanted[first].shape != (len(weight), len(names), *weight.shape[2:]):
        return found
    if len(names) == len(_COLOURS) and not set(names) & set(_COLOURS):
        return found
    own = {colour: weight[:, number] for number, colour in enumerate(_COLOURS)}
    picked = [own.get(name, weight.mean(dim=1)) for name in names]
    return {**found, first: torch.stack(picked, dim=1) * (len(_COLOURS) / len(names))}
