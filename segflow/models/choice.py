"""The part of a recipe that says which network is run."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from segflow.models.card import LabelClass, Normalisation, Region
from segflow.part import Part


class ModelChoice(Part):
    """Which network, and what of its card to override."""

    weights: str | tuple[str, ...] = Field(
        description="builtin:NAME, torchvision:NAME, or a path: .safetensors, .onnx, .pt, .pth, .pt2, .ckpt, a folder "
        "that holds one, or one of nnU-Net; several are an ensemble whose probabilities are averaged."
    )
    trust: bool = Field(False, description="Let pickled weights run their code when read (--trust).")
    tta: Literal["flips", "mirror", "d4"] | None = Field(
        None,
        description="Average over mirrored (flips: each axis by itself; mirror: all combinations) or also turned input "
        "(d4: the square's eight symmetries).",
    )
    architecture: str | None = Field(None, description="For a bare state dict: unet, segnet, smp:Unet, ...")
    arguments: dict[str, Any] = Field(default_factory=dict, description="For a bare state dict: its arguments.")
    classes: tuple[LabelClass, ...] | None = Field(None, description="Overrides the card's classes.")
    channels: tuple[str, ...] | None = Field(None, description="Overrides the card's names of bands or modalities.")
    normalisation: Normalisation | None = Field(None, description="Overrides the card's normalisation.")
    activation: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="Overrides the card's activation; none: the network gives probabilities itself."
    )
    output: int | None = Field(None, ge=0, description="Overrides which of several outputs is taken, from 0.")
    regions: tuple[Region, ...] | None = Field(None, min_length=1, description="Overrides the card's regions.")
    stride: int | None = Field(None, ge=1, description="Overrides the card's stride: patches are multiples of it.")
    threshold: float | None = Field(None, gt=0, lt=1, description="Overrides the card's threshold.")
    gsd: float | None = Field(None, gt=0, description="Overrides the card's ground sampling distance, in metres.")
    spacing: tuple[float, float, float] | None = Field(None, description="Overrides the card's spacing, mm (x, y, z).")
    scale: float = Field(
        1.0, gt=0, le=16, description="For inputs without a GSD: model cells per input cell (0.5 halves the size)."
    )
