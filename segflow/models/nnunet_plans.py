"""What nnU-Net's `plans.json` and `dataset.json` say, as a model card. Imports neither torch nor nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from segflow.errors import ModelError
from segflow.models.card import Card

_READERS = {
    "SimpleITKIO": "ijk",
    "NibabelIO": "ijk",
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
"""Their readers: arrays as stored, or turned to RAS+; either way the array's axes are z, y, x."""

_RESAMPLING = "resample_data_or_seg_to_shape"
_THICK = 3.0
"""nnU-Net handles thick slices apart where a voxel is over three times as long as it is wide."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One configuration of the plans, with what it inherits.

    Attributes:
        name: such as 3d_fullres.
        values: as in the file.
        architecture: network_class_name, arch_kwargs, _kw_requires_import.
    """

    name: str
    values: Mapping[str, Any]
    architecture: dict[str, Any]

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.values["patch_size"])

    @property
    def strides(self) -> tuple[int, ...]:
        """Total downsampling on each axis of the network."""
        each = self.architecture["arch_kwargs"]["strides"]
        steps = [[step] * self.dimensions if isinstance(step, int) else step for step in each]
        return tuple(reduce(lambda a, b: a * int(b), axis, 1) for axis in zip(*steps, strict=True))


@dataclass(frozen=True, slots=True)
class Plans:
    """Both files of a results folder.

    Attributes:
        folder: the folder.
        plans: plans.json.
        dataset: dataset.json.
    """

    folder: Path
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]

    @property
    def dataset_name(self) -> str:
        """Such as Dataset004_Hippocampus."""
        return str(self.plans["dataset_name"])

    @property
    def plans_name(self) -> str:
        """Such as nnUNetPlans."""
        return str(self.plans["plans_name"])

    def configuration(self, name: str) -> Configuration:
        """Return a configuration.

        Raises:
            ModelError: it is not there, or needs what is not done here.
        """
        values = self._inherited(name, ())
        if values.get("previous_stage"):
            raise _refused(
                f"the configuration {name} of {self.folder} is the second stage of a cascade: it takes the labels of "
                f"{values['previous_stage']} as input",
                "a configuration that stands by itself: 2d, 3d_fullres or 3d_lowres",
                "name the folder of 3d_fullres or 3d_lowres; a cascade is not run here",
            )
        for key, wanted in (
            ("preprocessor_name", "DefaultPreprocessor"),
            ("resampling_fn_data", _RESAMPLING),
            ("resampling_fn_probabilities", _RESAMPLING),
        ):
            if values.get(key) != wanted:
                raise _refused(
                    f"{key} of {name} in {self.folder / 'plans.json'} is {values.get(key)}",
                    f"{wanted}, nnU-Net's default",
                    "other preprocessing is not done here; run this model with nnUNetv2_predict",
                )
        return Configuration(name, values, _architecture(values))

    def _inherited(self, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
        known = self.plans["configurations"]
        if name not in known or name in seen:
            raise _refused(
                f"{self.folder / 'plans.json'} has no configuration {name}",
                "one of " + ", ".join(known),
                "take plans.json and the checkpoints from one training",
            )
        values = dict(known[name])
        parent = values.get("inherits_from")
        return {**self._inherited(parent, (*seen, name)), **values} if parent else values


def read_plans(folder: Path) -> Plans:
    """Read both files of a results folder.

    Raises:
        ModelError: one is missing, is not JSON, or lacks what every plan of nnU-Net v2 has.
    """
    plans, dataset = (_json(folder / name) for name in ("plans.json", "dataset.json"))
    needed = ("configurations", "dataset_name", "plans_name", "image_reader_writer", "transpose_forward")
    lacking = [key for key in needed if key not in plans] + [key for key in ("labels",) if key not in dataset]
    if lacking:
        raise _refused(
            f"plans.json or dataset.json in {folder} lacks {', '.join(lacking)}",
            "the files of nnU-Net v2",
            "copy them again; models of nnU-Net v1 must be trained anew",
        )
    return Plans(folder, plans, dataset)


def card_of(plans: Plans, checkpoint: Mapping[str, Any], folds: Sequence[str]) -> Card:
    """Make the card of a trained configuration.

    Args:
        plans: both files.
        checkpoint: of its first fold; says the configuration, the trainer, and the axes that it may be mirrored along.
        folds: names of the folds that are there.

    Raises:
        ModelError: it needs what is not done here.
    """
    configuration = plans.configuration(str(checkpoint["init_args"]["configuration"]))
    values, axes = configuration.values, configuration.dimensions
    mirror = checkpoint.get("inference_allowed_mirroring_axes")
    spacing, patch = tuple(values["spacing"]), tuple(int(n) for n in values["patch_size"])
    if axes == 2:
        spacing, patch = (1.0, *spacing), (1, *patch)
    names = plans.dataset.get("channel_names") or plans.dataset.get("modality") or {}
    content = {
        "name": f"{plans.dataset_name} {configuration.name}",
        "kind": "volume",
        "description": f"nnU-Net, trained on {plans.dataset_name}",
        "architecture": "nnunet",
        "arguments": {
            "configuration": configuration.name,
            "folds": list(folds),
            "mirror": [] if mirror is None else [int(axis) for axis in mirror],
        },
        **_labels(plans),
        "activation": "none",
        "averaged": "logits",
        "channels": tuple(f"{name}" for _, name in sorted(names.items(), key=lambda item: int(item[0]))),
        "padding": "constant",
        "spacing": spacing,
        "orientation": _orientation(plans),
        "preparation": _preparation(plans, configuration),
        "lattice": "even",
        "patch": patch,
        "overlap": 0.5,
        "training": {
            "dataset": plans.dataset_name,
            "plans": plans.plans_name,
            "configuration": configuration.name,
            "trainer": str(checkpoint["trainer_name"]),
            "folds": list(folds),
            "framework": "nnU-Net v2",
        },
        "licence": str(plans.dataset.get("licence", plans.dataset.get("license", ""))),
    }
    try:
        return Card.model_validate(content)
    except ValueError as error:
        raise _refused(
            f"no card can be made of {plans.folder}: {error}",
            "plans.json and dataset.json of one training",
            "copy both again",
        ) from error


def _orientation(plans: Plans) -> str:
    reader = str(plans.plans["image_reader_writer"])
    if reader not in _READERS:
        raise _refused(
            f"{plans.folder} was trained on files read by {reader}",
            "volumes: " + ", ".join(_READERS),
            "pictures are not read this way here; run this model with nnUNetv2_predict",
        )
    return "".join(_READERS[reader][2 - int(axis)] for axis in plans.plans["transpose_forward"])


def _labels(plans: Plans) -> dict[str, Any]:
    """Return classes, regions and ignored ids; region-based labels become independent channels."""
    labels = {name: ids for name, ids in plans.dataset["labels"].items() if name != "ignore"}
    ignore = plans.dataset["labels"].get("ignore")
    regions = any(isinstance(ids, list) and len(ids) > 1 for ids in labels.values())
    names: dict[int, str] = {0: "background"}
    found: dict[str, Any] = {"ignore": () if ignore is None else (int(ignore),)}
    if regions:
        order = plans.dataset.get("regions_class_order") or ()
        foreground = [name for name, ids in labels.items() if ids not in (0, [0])]
        if len(order) != len(foreground):
            raise _refused(
                f"dataset.json of {plans.folder} has {len(foreground)} regions, regions_class_order {len(order)}",
                "one id for each region",
                "copy dataset.json again",
            )
        for name, written in zip(foreground, order, strict=True):
            names[int(written)] = name
        for ids in labels.values():
            for one in ids if isinstance(ids, list) else [ids]:
                names.setdefault(int(one), f"label {one}")
        found["regions"] = [{"channel": k, "id": int(written)} for k, written in enumerate(order)]
    else:
        names |= {int(ids[0] if isinstance(ids, list) else ids): name for name, ids in labels.items()}
    found["classes"] = [{"id": one, "name": names[one], "colour": _colour(one)} for one in sorted(names)]
    return found


def _preparation(plans: Plans, configuration: Configuration) -> dict[str, Any]:
    values = configuration.values
    facts = plans.plans.get("foreground_intensity_properties_per_channel") or plans.plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    masks = values.get("use_mask_for_norm") or [False] * len(values["normalization_schemes"])
    schemes = [
        _scheme(name, bool(masked), facts.get(str(number), {}), plans.folder)
        for number, (name, masked) in enumerate(zip(values["normalization_schemes"], masks, strict=True))
    ]
    there, back = values["resampling_fn_data_kwargs"], values["resampling_fn_probabilities_kwargs"]
    for kwargs in (back,):
        if kwargs.get("order", 1) not in (0, 1) or kwargs.get("order_z", 0) not in (0, 1):
            raise _refused(
                f"{plans.folder} resamples logits by splines of order {kwargs.get('order')}, {kwargs.get('order_z')}",
                "linear or nearest, since probabilities are resampled row by row",
                "run this model with nnUNetv2_predict",
            )
    return {
        "schemes": schemes,
        "order": int(there.get("order", 3)),
        "apart": _apart(there),
        "order_apart": int(there.get("order_z", 0)),
        "order_back": int(back.get("order", 1)),
        "apart_back": _apart(back),
        "order_apart_back": int(back.get("order_z", 0)),
        "keep": 0 if configuration.dimensions == 2 else None,
    }


def _apart(kwargs: Mapping[str, Any]) -> bool | float:
    forced = kwargs.get("force_separate_z", False)
    return float(kwargs.get("separate_z_anisotropy_threshold", _THICK)) if forced is None else bool(forced)


def _scheme(name: str, masked: bool, facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    if name == "ZScoreNormalization":
        return {"scheme": "zscore", "masked": masked}
    if name == "CTNormalization":
        return {
            "scheme": "fixed",
            "lower": facts["percentile_00_5"],
            "upper": facts["percentile_99_5"],
            "mean": facts["mean"],
            "deviation": max(float(facts["std"]), 1e-8),
        }
    if name == "NoNormalization":
        return {"scheme": "fixed"}
    if name == "RescaleTo01Normalization":
        return {"scheme": "rescale"}
    if name == "RGBTo01Normalization":
        return {"scheme": "fixed", "deviation": 255.0}
    raise _refused(
        f"{folder} was trained with the normalisation {name}",
        "ZScore, CT, No, RescaleTo01 or RGBTo01Normalization",
        "others are not done here; run this model with nnUNetv2_predict",
    )


def _architecture(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network that a configuration names; older plans spell it out key by key."""
    if "architecture" in values:
        return dict(values["architecture"])
    kinds = {
        "PlainConvUNet": ("unet", "n_conv_per_stage"),
        "ResidualEncoderUNet": ("residual_unet", "n_blocks_per_stage"),
    }
    kind = str(values.get("UNet_class_name"))
    if kind not in kinds:
        raise _refused(
            f"plans.json names the network {kind}", " or ".join(kinds), "run this model with nnUNetv2_predict"
        )
    module, blocks = kinds[kind]
    axes, stages = len(values["patch_size"]), len(values["n_conv_per_stage_encoder"])
    first, most = int(values["UNet_base_num_features"]), int(values["unet_max_num_features"])
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.{module}.{kind}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [min(most, first * 2**stage) for stage in range(stages)],
            "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
            "kernel_sizes": values["conv_kernel_sizes"],
            "strides": values["pool_op_kernel_sizes"],
            blocks: values["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": values["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ("conv_op", "norm_op", "dropout_op", "nonlin"),
    }


def _colour(number: int) -> str:
    if number == 0:
        return "#222222"
    red, green, blue = hsv_to_rgb(number * 0.618034 % 1.0, 0.65, 0.9)
    return f"#{round(255 * red):02X}{round(255 * green):02X}{round(255 * blue):02X}"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise _refused(
            f"there is no {path.name} in {path.parent}",
            "a results folder of nnU-Net v2: dataset.json, plans.json, fold_X/checkpoint_final.pth",
            f"copy {path.name} from the training's results folder",
        ) from error
    except (OSError, ValueError) as error:
        raise _refused(f"{path} cannot be read as JSON: {error}", "what nnU-Net wrote", "copy it again") from error
    if not isinstance(found, dict):
        raise _refused(f"{path} holds a {type(found).__name__}", "what nnU-Net wrote", "copy it again")
    return found


def _refused(found: str, expected: str, remedy: str) -> ModelError:
    return ModelError(found, expected, remedy)
