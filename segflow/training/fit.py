"""The fit: a plain loop with AdamW, warm-up and cosine, averaged weights, and a checkpoint to go on from."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segflow.errors import OutputError
from segflow.io.atomic import replacing
from segflow.training.batches import Batches
from segflow.training.losses import segmentation_loss

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How the weights are found.

    Attributes:
        steps: optimiser steps.
        learning_rate: at its peak; it rises over the first 5 % (at most 200 steps), then falls as a cosine to 1 %.
        weight_decay: of AdamW.
        dice: weight of the Dice term beside the cross-entropy.
        class_weights: of the cross-entropy, one a class.
        average: decay of the moving average of weights that is the result; 0 takes the last weights.
        bf16: run convolutions in bfloat16 (weights and their updates stay float32).
        checkpoint_every: steps between checkpoints.
    """

    steps: int
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    dice: float = 0.0
    class_weights: tuple[float, ...] | None = None
    average: float = 0.0
    bf16: bool = False
    checkpoint_every: int = 100

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = max(min(self.steps // 20, 200), 1)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        progress = (step - warm) / max(self.steps - warm, 1)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of it.

    Attributes:
        state: the network's state, averaged where that was asked for.
        losses: one a step since the very start.
        seconds: of all steps, also those before a resume.
    """

    state: dict[str, Tensor]
    losses: tuple[float, ...]
    seconds: float


def fit(
    network: nn.Module,
    batches: Batches,
    settings: FitSettings,
    checkpoint: Path | None = None,
    report: Callable[[int, float], None] | None = None,
    stop_after: int | None = None,
) -> Fitted:
    """Fit a network, in place.

    Args:
        network: with fresh weights; those of the checkpoint are put in where there is one.
        batches: what to learn from.
        settings: how.
        checkpoint: a file to write state to now and then and to go on from; None keeps none.
        report: called after every step with its number and loss.
        stop_after: leave off after this step, with a checkpoint, as if interrupted.

    Raises:
        OutputError: the loss is no longer finite, or the checkpoint is of another fit.
    """
    run = _Run.start(network, settings, checkpoint)
    weights = torch.tensor(settings.class_weights) if settings.class_weights else None
    layout = torch.channels_last if len(batches.patch) == 2 else torch.channels_last_3d
    network.to(memory_format=layout)
    network.train()
    last = min(settings.steps, stop_after or settings.steps)
    before, began = run.seconds, time.monotonic()
    for step, batch in enumerate(batches.steps(len(run.losses), last), start=len(run.losses)):
        for group in run.optimiser.param_groups:
            group["lr"] = settings.rate(step)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bf16):
            logits = network(batch.values.to(memory_format=layout))
        loss = segmentation_loss(logits.float(), batch.labels, settings.dice, weights)
        value = loss.item()
        if not math.isfinite(value):
            raise OutputError(f"the loss of step {step} is {value}", "a finite loss", "lower train.learning_rate")
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        run.optimiser.step()
        run.losses.append(value)
        run.average(network, settings.average)
        run.seconds = before + time.monotonic() - began
        if report is not None:
            report(step, value)
        if checkpoint is not None and ((step + 1) % settings.checkpoint_every == 0 or step + 1 == last):
            run.save(network, checkpoint)
    state = run.averaged or {key: value.detach().clone() for key, value in network.state_dict().items()}
    return Fitted(state, tuple(run.losses), run.seconds)


@dataclass(slots=True)
class _Run:
    """What changes from step to step."""

    optimiser: torch.optim.Optimizer
    settings: FitSettings
    averaged: dict[str, Tensor]
    losses: list[float]
    seconds: float = 0.0

    @classmethod
    def start(cls, network: nn.Module, settings: FitSettings, checkpoint: Path | None) -> _Run:
        """Begin, or go on from a checkpoint."""
        matrices = [p for p in network.parameters() if p.ndim > 1]
        vectors = [p for p in network.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        run = cls(torch.optim.AdamW(groups, lr=settings.rate(0)), settings, {}, [])
        if checkpoint is None or not checkpoint.exists():
            return run
        saved: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        try:
            network.load_state_dict(saved["network"])
            run.optimiser.load_state_dict(saved["optimiser"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise OutputError(
                f"{checkpoint} is of another training: {error}",
                "a checkpoint of this recipe",
                "remove it to start afresh, or choose another outputs.folder",
            ) from error
        run.averaged, run.losses, run.seconds = saved["averaged"], list(saved["losses"]), saved["seconds"]
        log.info("going on from step %d of %s", len(run.losses), checkpoint)
        return run

    def average(self, network: nn.Module, decay: float) -> None:
        """Take the weights of this step into the moving average (slowly at first it would remember noise)."""
        if decay == 0.0:
            return
        decay = min(decay, (1 + len(self.losses)) / (10 + len(self.losses)))
        for key, value in network.state_dict().items():
            kept = self.averaged.get(key)
            if kept is None or not value.is_floating_point():
                self.averaged[key] = value.detach().clone()
            else:
                kept.lerp_(value.detach(), 1 - decay)

    def save(self, network: nn.Module, checkpoint: Path) -> None:
        """Write a checkpoint in one atomic replacement.

        Raises:
            OutputError: the disk is full; the checkpoint before stays.
        """
        state = {
            "network": network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "averaged": self.averaged,
            "losses": self.losses,
            "seconds": self.seconds,
        }
        with replacing(checkpoint) as part:
            torch.save(state, part)
