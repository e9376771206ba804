"""The part of a recipe that says how a model is made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from segflow.models.card import LabelClass, Normalisation
from segflow.part import Part
from segflow.recipe.augment import AnyAugment, Augment

LossName = Literal["cross_entropy", "focal", "dice", "generalised_dice", "tversky", "lovasz", "dice_ce"]
Positive = Annotated[float, Field(gt=0)]


class Validation(Part):
    """What is held back from training to score on, and when it is scored."""

    scenes: tuple[str, ...] = Field((), description="Names (stems) of scenes that are only scored on.")
    region: tuple[float, float, float, float] | None = Field(
        None, description="Part of every scene, as fractions x, y, width, height, that is only scored on."
    )
    margin: int = Field(0, ge=0, description="Cells around the region that are neither trained nor scored on.")
    folds: int | None = Field(None, ge=2, description="Cross-validation: scenes are dealt into so many folds.")
    fold: int | Literal["all"] = Field(0, description="Which fold is held back, from 0; all: one model a fold, pooled.")
    every: int | None = Field(None, ge=1, description="Steps between scores; only at the end when not given.")
    limit: int | None = Field(None, ge=1, description="Scenes scored while training; all of them at the end.")
    score: Literal["mean_iou", "mean_dice"] = Field("mean_iou", description="What `patience` and `keep: best` watch.")
    patience: int | None = Field(None, ge=1, description="Stop after so many scores without a better one.")

    @model_validator(mode="after")
    def _one_way(self) -> Validation:
        given = [bool(self.scenes), self.region is not None, self.folds is not None]
        if sum(given) > 1:
            raise ValueError("hold back scenes, or a region, or folds: one of them")
        if self.folds is not None and self.fold != "all" and not 0 <= self.fold < self.folds:
            raise ValueError(f"fold {self.fold} is none of 0 to {self.folds - 1}")
        return self


class Border(Part):
    """U-Net's weight map: cells between two objects of a class count more."""

    weight: float = Field(10.0, ge=0, description="w0: what is added between objects that touch.")
    sigma: float = Field(5.0, gt=0, description="Cells over which it falls off.")


class Train(Part):
    """How `segflow train` makes a model."""

    name: str = Field(pattern=r"^[\w.-]+$", description="Name of the model that is made.")
    architecture: str = Field("unet", description="unet, segnet, ...; `segflow models --architectures` lists them.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="Arguments of the architecture.")
    start: str | None = Field(None, description="Weights to start from: builtin:NAME or a path; fresh when not given.")
    encoder: str | None = Field(
        None,
        description="A file of weights for the network's encoder alone, such as an image classifier's; bands other "
        "than red, green and blue get the mean of theirs.",
    )
    classes: tuple[LabelClass, ...] = Field(description="Classes, in the order of output channels.")
    channels: tuple[str, ...] = Field(description="Names of the input's bands or modalities.")
    normalisation: Normalisation = Field(default_factory=lambda: Normalisation())
    patch: tuple[int, ...] = Field(description="Training patch.")
    validation: Validation = Field(default_factory=lambda: Validation(), description="What is held back to score on.")
    steps: int = Field(1000, ge=1, description="Optimiser steps.")
    batch: int = Field(8, ge=1, description="Patches that go through the network at once, on all devices together.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients make one step.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate of AdamW.")
    warm_up: int | None = Field(None, ge=0, description="Steps of rising rate; a twentieth, at most 200, if not given.")
    weight_decay: float = Field(1e-4, ge=0, description="Weight decay of matrices; biases and norms have none.")
    clip: float = Field(5.0, gt=0, description="Largest norm of a gradient.")
    zoom: tuple[Positive, Positive] = Field((1.0, 1.0), description="Range of random magnification.")
    fineness: dict[str, Positive] = Field(
        default_factory=dict,
        description="Scene's name to how many times finer its cells are than the other scenes'; zoom is relative to 1.",
    )
    augment: AnyAugment = Field(
        default_factory=lambda: Augment.model_validate({}), description="A preset's name, or a mapping."
    )
    balance: float = Field(
        0.5, ge=0, le=1, description="0: patches are drawn as classes occur; 1: from all classes equally often."
    )
    loss: dict[LossName, Positive] = Field(
        {"cross_entropy": 1.0}, min_length=1, description="Terms of the loss and their weights."
    )
    class_weights: tuple[Positive, ...] | Literal["median_frequency"] | None = Field(
        None, description="Weights of the classes in cross-entropy and focal loss, or how they are found."
    )
    focal_gamma: float = Field(2.0, ge=0, description="Focal loss: how much sure cells are discounted.")
    tversky: tuple[Positive, Positive] = Field((0.3, 0.7), description="Weights of false positives and negatives.")
    border: Border | None = Field(None, description="Cross-entropy: weight map of borders between objects.")
    average: float = Field(0.0, ge=0, lt=1, description="Decay of the moving average of weights that is kept; 0: none.")
    keep: Literal["last", "best"] = Field(
        "last", description="best: the weights of the best score, which is then no score on untouched data."
    )
    precision: Literal["f32", "bf16", "f16"] = Field("f32", description="Arithmetic of the convolutions.")
    devices: int = Field(1, ge=1, description="GPUs that share a batch (compute.device: cuda).")
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of sampling, augmentation and weights.")
    card: dict[str, Any] = Field(default_factory=dict, description="Further keys of the card: gsd, licence, ...")

    @field_validator("zoom")
    @classmethod
    def _rising(cls, zoom: tuple[float, float]) -> tuple[float, float]:
        if zoom[0] > zoom[1]:
            raise ValueError("zoom is lowest, highest")
        return zoom

    @model_validator(mode="after")
    def _one_beginning(self) -> Train:
        if self.start is not None and self.encoder is not None:
            raise ValueError("train.start has an encoder already: give start or encoder, not both")
        return self

    @model_validator(mode="after")
    def _mirrored(self) -> Train:
        if self.augment.flips and len(self.augment.flips) != len(self.patch):
            raise ValueError(
                f"augment.flips is for {len(self.augment.flips)} axes (preset {self.augment.preset}), "
                f"patch has {len(self.patch)}; give augment.flips one true or false an axis, or take the preset "
                f"{'volume' if len(self.patch) == 3 else 'aerial'}"
            )
        return self

    @model_validator(mode="after")
    def _watched(self) -> Train:
        if self.validation.every is None and (self.keep == "best" or self.validation.patience is not None):
            raise ValueError("keep: best and patience need validation.every")
        return self
