"""From nnU-Net's plans to a model card. Imports neither torch nor nnU-Net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from colorsys import hsv_to_rgb
from pathlib import Path
from typing import Any

from segflow.errors import ModelError
from segflow.models.card import Card
from segflow.models.nnunet.plans import Configuration, Plans

_READERS = {
    "SimpleITKIO": "ijk",
    "NibabelIO": "ijk",
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
"""Their readers: arrays as stored, or turned to RAS+; either way the array's axes are z, y, x."""

_THICK = 3.0
"""nnU-Net handles thick slices apart where a voxel is over three times as long as it is wide."""


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
        raise ModelError(
            f"no card can be made of {plans.folder}: {error}",
            "plans.json and dataset.json of one training",
            "copy both again",
        ) from error


def _orientation(plans: Plans) -> str:
    reader = str(plans.plans["image_reader_writer"])
    if reader not in _READERS:
        raise ModelError(
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
            raise ModelError(
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
    if back.get("order", 1) not in (0, 1) or back.get("order_z", 0) not in (0, 1):
        raise ModelError(
            f"{plans.folder} resamples logits by splines of order {back.get('order')}, {back.get('order_z')}",
            "linear or nearest, since logits are resampled row by row",
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
    raise ModelError(
        f"{folder} was trained with the normalisation {name}",
        "ZScore, CT, No, RescaleTo01 or RGBTo01Normalization",
        "others are not done here; run this model with nnUNetv2_predict",
    )


def _colour(number: int) -> str:
    if number == 0:
        return "#222222"
    red, green, blue = hsv_to_rgb(number * 0.618034 % 1.0, 0.65, 0.9)
    return f"#{round(255 * red):02X}{round(255 * green):02X}{round(255 * blue):02X}"
