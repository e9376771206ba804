"""Plans and data sets as nnU-Net writes them, without a training: for what is read off them and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

CHECKPOINT: dict[str, Any] = {
    "trainer_name": "nnUNetTrainer",
    "init_args": {"configuration": "3d_fullres"},
    "inference_allowed_mirroring_axes": (0, 1, 2),
}
DATASET: dict[str, Any] = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "tumour": 2}}
_RESAMPLING = "resample_data_or_seg_to_shape"


def configuration(axes: int = 3, **changes: Any) -> dict[str, Any]:
    """A configuration of `plans.json`, with a network of two small stages."""
    return {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8] * axes,
        "spacing": [3.0, 0.8, 0.7][-axes:],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": _RESAMPLING,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": _RESAMPLING,
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [4, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
                "kernel_sizes": [[3] * axes] * 2,
                "strides": [[1] * axes, [1, 2, 2][-axes:]],
                "n_conv_per_stage": [1, 1],
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **changes,
    }


def plans(**changes: Any) -> dict[str, Any]:
    """A `plans.json`."""
    return {
        "dataset_name": "Dataset901_made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "configurations": {
            "3d_fullres": configuration(),
            "2d": configuration(2),
            "3d_large": {"inherits_from": "3d_fullres", "patch_size": [8, 16, 16]},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 90.0, "std": 40.0, "percentile_00_5": 12.0, "percentile_99_5": 170.0}
        },
        **changes,
    }


def write_plans(folder: Path, dataset: dict[str, Any] | None = None, **changes: Any) -> Path:
    """Write both files of a results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans(**changes)))
    (folder / "dataset.json").write_text(json.dumps(dataset or DATASET))
    return folder


def write_fold(folder: Path, name: str = "0", kind: str = "checkpoint_final.pth", **changes: Any) -> Path:
    """Write a checkpoint of random weights, of the network that the folder's plans say."""
    from segflow.models.nnunet.folder import build_network
    from segflow.models.nnunet.plans import read_plans

    values = {**CHECKPOINT, **changes}
    read = read_plans(folder)
    inner = read.configuration(values["init_args"]["configuration"])
    torch.manual_seed(len(name))
    network = build_network(inner.architecture, len(read.dataset["channel_names"]), len(read.dataset["labels"]))
    path = folder / f"fold_{name}" / kind
    path.parent.mkdir(exist_ok=True)
    torch.save({"network_weights": network.state_dict(), "current_epoch": 3, **values}, path)
    return path
