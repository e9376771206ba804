"""What nnU-Net's `plans.json` and `dataset.json` say. Imports neither torch nor nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from segflow.errors import ModelError

_RESAMPLING = "resample_data_or_seg_to_shape"


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
            raise ModelError(
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
                raise ModelError(
                    f"{key} of {name} in {self.folder / 'plans.json'} is {values.get(key)}",
                    f"{wanted}, nnU-Net's default",
                    "other preprocessing is not done here; run this model with nnUNetv2_predict",
                )
        return Configuration(name, values, _architecture(values))

    def _inherited(self, name: str, seen: tuple[str, ...]) -> dict[str, Any]:
        known = self.plans["configurations"]
        if name not in known or name in seen:
            raise ModelError(
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
        raise ModelError(
            f"plans.json or dataset.json in {folder} lacks {', '.join(lacking)}",
            "the files of nnU-Net v2",
            "copy them again; models of nnU-Net v1 must be trained anew",
        )
    return Plans(folder, plans, dataset)


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
        raise ModelError(
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


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ModelError(
            f"there is no {path.name} in {path.parent}",
            "a results folder of nnU-Net v2: dataset.json, plans.json, fold_X/checkpoint_final.pth",
            f"copy {path.name} from the training's results folder",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}", "what nnU-Net wrote", "copy it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a {type(found).__name__}", "what nnU-Net wrote", "copy it again")
    return found
