"""The fit as a Lightning module: one step, one look at what is held back, and what a checkpoint keeps of both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from segflow.errors import OutputError
from segflow.report.training import Point, Scored
from segflow.training.batches import Batch
from segflow.training.losses import SegmentationLoss
from segflow.training.schedule import FitSettings

Scorer = Callable[[nn.Module, int], Scored]
"""Scores a network, as it is after so many steps, on what is held back."""

_CURVE = "segflow_curve"


@dataclass(frozen=True, slots=True)
class Leg:
    """What a checkpoint says of the command that wrote it.

    Attributes:
        step: optimiser steps that were done.
        ended: whether it had nothing left to do.
        steps: how many it was to do; 0 in checkpoints that do not tell.
        scores: the watched ones, in order.
        made_of: see `FitSettings`; empty in checkpoints that do not tell.
    """

    step: int
    ended: bool
    steps: int = 0
    scores: tuple[float, ...] = ()
    made_of: Mapping[str, str] = field(default_factory=dict)

    def is_all(self, settings: FitSettings) -> bool:
        """Tell whether nothing is left to do: the steps are done, or patience is at its end."""
        return (self.ended and self.step >= settings.steps) or is_over(self.scores, settings.patience)


def is_over(scores: Sequence[float], patience: int | None) -> bool:
    """Tell whether so many scores have passed without one that is better than all before."""
    return patience is not None and bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


class FitModule(LightningModule):
    """What is done at every step.

    Args:
        network: puts out one channel of logits a class.
        loss: see `SegmentationLoss`.
        settings: how the weights are found.
        score: how it does on what is held back; None: nothing is.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: SegmentationLoss,
        settings: FitSettings,
        score: Scorer | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.settings = settings
        self.points: list[Point] = []
        self.scored: list[Scored] = []
        self.best: dict[str, Tensor] | None = None
        self.has_ended = False
        self._score = score
        self._sum = 0.0
        self._batches = 0
        self._seconds = 0.0
        self._began = time.monotonic()

    def on_fit_start(self) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make dropout a matter of seed, step, its batch and device alone: a resume gives the same numbers."""
        share = self._batches * self.trainer.world_size + self.trainer.global_rank
        torch.manual_seed((self.settings.seed << 32) + (share << 24) + self.global_step)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            OutputError: it is not finite, on this device or another; the batch is named.
        """
        layout = torch.channels_last if batch.values.ndim == 4 else torch.channels_last_3d
        logits = self.network(batch.values.to(memory_format=layout))
        with torch.autocast(self.device.type, enabled=False):
            loss: Tensor = self.loss(logits.float(), batch.labels, batch.border)
        # Of all devices: they stop together, and the curve is that of the whole batch.
        value = float(self.trainer.strategy.reduce(loss.detach(), reduce_op="mean"))
        if not math.isfinite(value):
            scenes = ", ".join(self._of_all(batch.scenes))
            raise OutputError(
                f"the loss of step {self.global_step} is {value}, on patches of {scenes}",
                "a finite loss",
                f"look at these scenes, {self._steadier}; the last checkpoint is kept",
            )
        self._sum += value
        self._batches += 1
        return loss

    @property
    def _steadier(self) -> str:
        """What to try against numbers that run away."""
        if self.settings.precision == "f32":
            return "or lower train.learning_rate"
        return "lower train.learning_rate, or set train.precision: f32"

    def _of_all(self, scenes: tuple[str, ...]) -> list[str]:
        """Return the scenes of all devices' patches, each once."""
        shares: list[Any] = [scenes]
        if self.trainer.world_size > 1:
            shares = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(shares, scenes)
        return sorted({scene for share in shares for scene in share})

    def end_step(self) -> Point | None:
        """Return the curve's new point where the batch that was run has ended an optimiser step."""
        if self.global_step == len(self.points):
            return None
        loss, self._sum, self._batches = self._sum / self.settings.accumulate, 0.0, 0
        point = Point(self.global_step, loss, self.settings.rate(self.global_step - 1), self.seconds)
        self.points.append(point)
        self.log_dict({"loss": point.loss, "rate": point.rate})
        return point

    def validation_step(self, batch: object, batch_idx: int) -> None:
        """Score the network (with averaged weights where those are kept) and keep it if it is the best so far."""
        if self._score is None:
            return
        # In full precision, as a run has it; besides, OpenVINO does not take a network over inside of autocast.
        with torch.autocast(self.device.type, enabled=False):
            found = self._score(self.network, self.global_step) if self.trainer.is_global_zero else None
        found = self.trainer.strategy.broadcast(found)
        if found is None:
            return
        value = _number(found.overall.get(self.settings.watched))
        if value > max(self.watched, default=-1.0):
            self.best = {key: tensor.detach().clone().cpu() for key, tensor in self.network.state_dict().items()}
        self.scored.append(found)
        numbers = {key: _number(each) for key, each in found.overall.items()}
        self.log_dict(numbers, batch_size=1)

    def configure_optimizers(self) -> Any:
        """Return AdamW, in which biases and normalisation weights do not decay, and the rates of its steps."""
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self.network.parameters() if p.ndim <= 1]
        decay, peak = self.settings.weight_decay, self.settings.learning_rate
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=peak)
        rates = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: self.settings.rate(step) / peak)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    @property
    def watched(self) -> list[float]:
        """The scores that say which weights are best, in order."""
        return [_number(item.overall.get(self.settings.watched)) for item in self.scored]

    @property
    def seconds(self) -> float:
        """Seconds of all steps, also those before a resume."""
        return self._seconds + time.monotonic() - self._began

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curve, and the best weights.

        Raises:
            OutputError: a weight is not finite, though no loss has shown it yet; the checkpoint before stays.
        """
        state = self.network.state_dict()
        broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise OutputError(
                f"{broken[0]} is no longer finite after step {self.global_step}",
                "finite weights and gradients",
                f"look for extreme values in the inputs, {self._steadier}; the last checkpoint is kept",
            )
        checkpoint[_CURVE] = {
            "points": [(p.step, p.loss, p.rate, p.seconds) for p in self.points],
            "scored": [(s.step, dict(s.overall), dict(s.iou), dict(s.dice)) for s in self.scored],
            "best": self.best,
            "seconds": self.seconds,
            "ended": self.has_ended,
            "steps": self.settings.steps,
            "watched": self.watched,
            "made_of": dict(self.settings.made_of),
        }

    @staticmethod
    def leg(checkpoint: dict[str, Any]) -> Leg:
        """Return what a checkpoint says of the leg that wrote it.

        Raises:
            KeyError: it is no checkpoint of this module.
        """
        kept = checkpoint[_CURVE]
        told = {key: kept[key] for key in ("steps", "made_of") if key in kept}
        return Leg(int(checkpoint["global_step"]), bool(kept["ended"]), scores=tuple(kept.get("watched", ())), **told)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the curve."""
        kept = checkpoint[_CURVE]
        self.points = [Point(*row) for row in kept["points"]]
        self.scored = [Scored(*row) for row in kept["scored"]]
        self.best = kept["best"]
        self._seconds = kept["seconds"]
        self._began = time.monotonic()


def _number(value: float | None) -> float:
    return 0.0 if value is None else float(value)
