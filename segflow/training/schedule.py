"""How a fit goes: its length, its rates and when it is looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from segflow.recipe import Train


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How the weights are found.

    Attributes:
        steps: optimiser steps.
        accumulate: batches whose gradients make one step.
        learning_rate: at its peak; it rises in a line over `warm_up` steps, then falls as a cosine to 1 % (Loshchilov,
            Hutter: SGDR, ICLR 2017).
        warm_up: steps.
        weight_decay: of AdamW (Loshchilov, Hutter, ICLR 2019), on matrices only.
        clip: largest norm of the gradient.
        average: decay of the moving average of weights that is the result; 0 takes the last weights.
        precision: of convolutions; weights and their updates are float32.
        devices: processes that share a batch.
        checkpoint_every: steps between checkpoints.
        score_every: steps between scores; None: none while training.
        patience: scores without a better one after which the fit ends; None: never.
        keep: "best": the result is the state of the best score.
        watched: the overall score that says which is best.
        seed: of dropout.
        made_of: what the fit is of, key to value (`identity_of`); a checkpoint that says otherwise is refused.
    """

    steps: int
    accumulate: int = 1
    learning_rate: float = 3e-3
    warm_up: int = 0
    weight_decay: float = 1e-4
    clip: float = 5.0
    average: float = 0.0
    precision: Literal["f32", "bf16", "f16"] = "f32"
    devices: int = 1
    checkpoint_every: int = 100
    score_every: int | None = None
    patience: int | None = None
    keep: Literal["last", "best"] = "last"
    watched: str = "mean_iou"
    seed: int = 0
    made_of: Mapping[str, str] = field(default_factory=dict)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        if step < self.warm_up:
            return self.learning_rate * (step + 1) / self.warm_up
        progress = min((step - self.warm_up) / max(self.steps - self.warm_up, 1), 1.0)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def settings_of(plan: Train, made_of: Mapping[str, str]) -> FitSettings:
    """Return the fit's settings as the recipe has them."""
    return FitSettings(
        steps=plan.steps,
        accumulate=plan.accumulate,
        learning_rate=plan.learning_rate,
        warm_up=max(min(plan.steps // 20, 200), 1) if plan.warm_up is None else plan.warm_up,
        weight_decay=plan.weight_decay,
        clip=plan.clip,
        average=plan.average,
        precision=plan.precision,
        devices=plan.devices,
        checkpoint_every=plan.checkpoint_every,
        score_every=plan.validation.every,
        patience=plan.validation.patience,
        keep=plan.keep,
        watched=plan.validation.score,
        seed=plan.seed,
        made_of=made_of,
    )
