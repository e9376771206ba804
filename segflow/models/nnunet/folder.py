"""Results folders of nnU-Net v2: plans and data set to a card, folds to one network.

Isensee et al.: nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation, Nature Methods
18 (2021), 203-211. A folder `TRAINER__PLANS__CONFIGURATION` holds `dataset.json`, `plans.json` and `fold_X` with
checkpoints, which are pickles: reading one can run any code, so that it is done with `--trust` only. The network is
that of the plans; a trainer that builds another one is refused, since its weights do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segflow.errors import ModelError, first_line
from segflow.models.card import Card
from segflow.models.formats.described import Described
from segflow.models.nnunet.card import card_of
from segflow.models.nnunet.plans import read_plans

if TYPE_CHECKING:
    from torch import nn

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_ALLOWED = ("dynamic_network_architectures.", "torch.nn.")


@dataclass(frozen=True, slots=True)
class Fold:
    """One trained network of a folder.

    Attributes:
        name: "0" to "4", or "all".
        checkpoint: its weights.
    """

    name: str
    checkpoint: Path


def files(path: Path) -> tuple[Path, ...]:
    """Return the files that decide what the folder's networks do: both JSON files and all folds' checkpoints."""
    return (path / "dataset.json", path / "plans.json", *(fold.checkpoint for fold in folds_of(path)))


def describe(path: Path, trust: bool) -> Described:
    """Make the card; without trust only say what the folder is, since the mirror axes stand in the checkpoints."""
    plans = read_plans(path)
    folds = folds_of(path)
    note = f"nnU-Net results of {plans.dataset_name}, {plans.plans_name}; folds {', '.join(f.name for f in folds)}"
    if not trust:
        return Described("nnunet", path, kind="volume", needs_trust=True, notes=(note,))
    card, _ = nnunet_card(path, trust)
    return Described(
        "nnunet",
        path,
        kind="volume",
        channels=len(card.channels),
        outputs=card.output_channels,
        wished_patch=card.patch,
        architecture=card.architecture,
        arguments=card.arguments,
        needs_trust=True,
        card=card,
        notes=(note,),
    )


def nnunet_card(folder: Path, trust: bool) -> tuple[Card, tuple[Path, ...]]:
    """Return the card of a results folder, and the checkpoints of its folds.

    Raises:
        ModelError: it is not trusted; a file is missing or broken; or the configuration is one that is refused here: a
            cascade, a reader of pictures, a preprocessor, label manager or resampling that is not nnU-Net's default.
    """
    plans = read_plans(folder)
    folds = folds_of(folder)
    if not trust:
        raise _untrusted(folder)
    first = _checkpoint(folds[0].checkpoint)
    names = [fold.name for fold in folds]
    return card_of(plans, first, names), tuple(fold.checkpoint for fold in folds)


def network(path: Path, card: Card, trust: bool) -> nn.Module:
    """Return the mean of the folds' and mirrored views' logits as one network, in evaluation mode, float32, on the CPU.

    `card.arguments` says which: folds, checkpoint, mirror (axes of the network's input; none: no mirroring).

    Raises:
        ModelError: it is not trusted, a fold is missing, or its weights are not those of the plans' network.
    """
    if not trust:
        raise _untrusted(path)
    from segflow.models.nnunet.network import Folds

    configuration = read_plans(path).configuration(str(card.arguments["configuration"]))
    members = []
    for fold in folds_of(path, card.arguments):
        member = build_network(configuration.architecture, len(card.channels), card.output_channels)
        _load(member, _checkpoint(fold.checkpoint)["network_weights"], fold.checkpoint)
        members.append(member.float().eval())
    axes = tuple(int(axis) for axis in card.arguments.get("mirror") or ())
    if any(not 0 <= axis < configuration.dimensions for axis in axes):
        raise ModelError(
            f"model.arguments.mirror is {list(axes)}",
            f"axes of the network's patch, 0 to {configuration.dimensions - 1}",
            "correct it, or remove it: the checkpoint knows along which axes it was mirrored in training",
        )
    views = [chosen for size in range(len(axes) + 1) for chosen in combinations(axes, size)]
    slices, independent = configuration.dimensions == 2, card.regions is not None
    return Folds(members, views, configuration.strides, slices, independent)


def folds_of(folder: Path, arguments: dict[str, Any] | None = None) -> tuple[Fold, ...]:
    """Return the folds that are there, or those that were asked for (`folds`, `checkpoint`).

    All numbered folds whose training was finished; where none was, those with a best checkpoint so far; else "all".

    Raises:
        ModelError: there is none, or not the one that was asked for.
    """
    asked = arguments or {}
    wanted = asked.get("folds")
    kinds = (str(asked["checkpoint"]),) if asked.get("checkpoint") else CHECKPOINTS
    there = sorted(item.name.removeprefix("fold_") for item in folder.glob("fold_*") if item.is_dir())
    numbered = [name for name in there if name.isdigit()]
    for names in ([str(name) for name in wanted],) if wanted else (numbered, ["all"]):
        for kind in kinds:
            found = [Fold(name, folder / f"fold_{name}" / kind) for name in names]
            if wanted and any(not fold.checkpoint.is_file() for fold in found):
                continue
            found = [fold for fold in found if fold.checkpoint.is_file()]
            if found:
                return tuple(found)
    listed = ", ".join(f"fold_{name}" for name in there) or "no folder fold_0, fold_1, ..."
    what = f"fold {', '.join(map(str, wanted))}" if wanted else "a fold"
    raise ModelError(
        f"{folder} has no {' or '.join(kinds)} of {what}; it holds {listed}",
        "fold_X/checkpoint_final.pth of every fold that is used",
        "copy the folds too, or choose others with model.arguments: {folds: [0]}",
    )


def _checkpoint(path: Path) -> dict[str, Any]:
    import torch

    try:
        # Mapped, since two thirds of the file are the optimiser's.
        found = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
        weights = found["network_weights"]
        _ = found["trainer_name"], found["init_args"]["configuration"], weights.keys()
    except Exception as error:
        raise ModelError(
            f"{path} is not a checkpoint of nnU-Net v2 that can be read: {first_line(error)}",
            "what nnU-Net's trainer saved: network_weights, trainer_name, init_args",
            "copy it again; models of nnU-Net v1 must be trained anew",
        ) from error
    return dict(found)


def build_network(architecture: Mapping[str, Any], inputs: int, outputs: int) -> nn.Module:
    """Make the network that plans name, with fresh weights.

    Args:
        architecture: network_class_name, arch_kwargs, _kw_requires_import (see `Configuration`).
        inputs: channels in.
        outputs: channels out.

    Raises:
        ModelError: its class is of another package than nnU-Net's own, is not installed, or takes other arguments.
    """
    arguments = dict(architecture["arch_kwargs"])
    for key in architecture.get("_kw_requires_import", ()):
        if arguments.get(key) is not None:
            arguments[key] = _located(str(arguments[key]))
    try:
        made: nn.Module = _located(str(architecture["network_class_name"]))(
            input_channels=inputs, num_classes=outputs, deep_supervision=False, **arguments
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"{architecture['network_class_name']} does not take what plans.json says: {error}",
            "plans of nnU-Net v2 that fit the installed dynamic-network-architectures",
            "install the version that the model was trained with",
        ) from error
    return made


def _located(name: str) -> Any:
    """Return a class by its dotted name; only from the two libraries that nnU-Net's own networks are made of."""
    import pydoc

    if not name.startswith(_ALLOWED):
        raise ModelError(
            f"plans.json names the class {name}",
            "networks of dynamic_network_architectures, as nnU-Net plans them",
            "networks of other packages are not loaded here; export the model as ONNX",
        )
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport:
        found = None
    if found is None:
        raise ModelError(
            f"the class {name} that plans.json names is not installed",
            "dynamic-network-architectures, which comes with nnU-Net",
            "pip install 'segflow[nnunet]'",
        )
    return found


def _load(member: nn.Module, state: dict[str, Any], path: Path) -> None:
    plain = {key.removeprefix("module.").removeprefix("_orig_mod."): value for key, value in state.items()}
    wanted = member.state_dict()
    wrong = sorted(
        key
        for key in {*wanted, *plain}
        if key not in wanted or key not in plain or wanted[key].shape != plain[key].shape
    )
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ModelError(
            f"{path} does not hold the weights of the network in plans.json: {', '.join(wrong[:3])}{more} differ",
            "weights of the network that the plans say",
            "a trainer that builds a network of its own is not supported; export the model as ONNX",
        )
    member.load_state_dict(plain)


def _untrusted(path: Path) -> ModelError:
    return ModelError(
        f"{path} is an nnU-Net results folder, whose checkpoints are pickles and can run any code when they are read",
        "a folder that you trust",
        "--trust, or model.trust: true in the recipe, if you trust whoever trained it",
    )
