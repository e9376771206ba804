"""The fit: Lightning's trainer on our batches, with averaged weights and a checkpoint to go on from."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from segflow.errors import PlanError, RecipeError, first_line
from segflow.report.training import Point, Scored
from segflow.training.batches import Batch, Batches
from segflow.training.checkpoint import LAST, AtomicCheckpoint, of_another_fit, read_checkpoint, require_same, restore
from segflow.training.losses import SegmentationLoss
from segflow.training.module import FitModule, Scorer, is_over
from segflow.training.schedule import FitSettings
from segflow.training.stopping import Stop, soft_stop

log = logging.getLogger(__name__)

_PRECISION = {"f32": "32-true", "bf16": "bf16-mixed", "f16": "16-mixed"}


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of it.

    Attributes:
        state: the network's state: averaged where that was asked for, the best or the last.
        step: the step that the state is of.
        points: one an optimiser step since the very start.
        scored: what was held back, while training.
        seconds: of all steps, also those before a resume.
        first: whether this process is the one that writes the result (of several that share a batch).
    """

    state: dict[str, Tensor]
    step: int
    points: tuple[Point, ...]
    scored: tuple[Scored, ...]
    seconds: float
    first: bool


def fit(
    network: nn.Module,
    batches: Batches,
    loss: SegmentationLoss,
    settings: FitSettings,
    folder: Path,
    score: Scorer | None = None,
    report: Callable[[Point], None] | None = None,
    device: str = "cpu",
) -> Fitted:
    """Fit a network, in place; go on from the checkpoint in the folder where there is one.

    Args:
        network: with fresh weights.
        batches: what to learn from.
        loss: of logits and labels.
        settings: how.
        folder: keeps `last.ckpt` (replaced atomically) and TensorBoard's events.
        score: how the network does on what is held back.
        report: called after every step.
        device: "cpu" or "cuda".

    Raises:
        OutputError: the loss is no longer finite, or the checkpoint is of another fit or cannot be written.
        RecipeError: a precision or a number of devices that is not there, or a norm that sees a single value.
        PlanError: the batch does not fit in a GPU.
    """
    _require_device(settings, device)
    last = folder / LAST
    kept = read_checkpoint(last)
    leg = None if kept is None else FitModule.leg(kept)
    begun = 0 if leg is None else leg.step
    module = FitModule(network, loss, settings, score)
    if kept is not None and leg is not None:
        require_same(leg, settings, last)
        if leg.is_all(settings):
            log.warning("all %d steps are done; remove %s to train afresh", settings.steps, folder)
            restore(module, kept, last)
            return _fitted(module, settings, first=is_first())
    network.to(memory_format=torch.channels_last if len(batches.patch) == 2 else torch.channels_last_3d)
    if begun:
        log.info("going on from step %d of %s", begun, last)
    with _quiet(), soft_stop(settings.devices == 1) as stop:
        trainer = _trainer(settings, folder, device, begun, report, score is not None, stop)
        loader = _Loader(batches, begun * settings.accumulate, settings.steps * settings.accumulate, trainer)
        looks = [0] if score is not None else None
        with _told(last if begun else None, f"{len(range(0, batches.batch, settings.devices))} patches", device):
            trainer.fit(module, loader, looks, ckpt_path=last if begun else None, weights_only=True)
    return _fitted(module, settings, trainer.is_global_zero)


@contextmanager
def _told(resumed: Path | None, share: str, device: str) -> Iterator[None]:
    """Turn what Lightning and PyTorch raise for a user's mistake into errors with a remedy."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PlanError(
            f"the batch does not fit in the memory of {device}: {first_line(error)}",
            f"room for {share}",
            "halve train.batch and double train.accumulate, or make train.patch smaller",
        ) from error
    except (RuntimeError, ValueError, KeyError) as error:
        if resumed is not None and "state_dict" in str(error):
            raise of_another_fit(resumed, error) from error
        if "Expected more than 1" in str(error):  # of batch and instance norms, which need two values
            raise RecipeError(
                f"a norm of the network sees one value a channel: {first_line(error)}",
                "two cells or more where the network is coarsest, or patches in a batch",
                "make train.patch larger, or train.batch, or take another norm (train.arguments)",
            ) from error
        raise
    except SystemExit as error:  # what Lightning makes of Ctrl-C, having turned a second one off
        raise KeyboardInterrupt from error


def _fitted(module: FitModule, settings: FitSettings, first: bool) -> Fitted:
    best = module.best if settings.keep == "best" else None
    at = len(module.points)
    if best is not None:
        at = max(module.scored, key=lambda item: item.overall.get(settings.watched) or 0.0).step
    state = module.network.state_dict() if best is None else best
    copied = {key: value.detach().cpu().clone() for key, value in state.items()}
    return Fitted(copied, at, tuple(module.points), tuple(module.scored), module.seconds, first)


def is_first() -> bool:
    """Tell whether this process writes what a training leaves: the only one, or the first that share a batch."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _trainer(
    settings: FitSettings,
    folder: Path,
    device: str,
    begun: int,
    report: Callable[[Point], None] | None,
    scored: bool,
    stop: Stop,
) -> Trainer:
    callbacks: list[Callback] = [_End(folder / LAST)]
    if settings.average:
        callbacks.append(WeightAveraging(use_buffers=True, avg_fn=_average(settings.average)))
    every = settings.score_every if scored else None
    callbacks.append(_Steps(folder / LAST, settings, report, every, stop))
    return Trainer(
        accelerator="gpu" if device.startswith("cuda") else "cpu",
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision=_PRECISION[settings.precision],  # type: ignore[arg-type]
        max_steps=settings.steps,
        max_epochs=-1,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip,
        val_check_interval=None if every is None else every * settings.accumulate,
        check_val_every_n_epoch=None,
        limit_val_batches=0 if every is None else 1,
        num_sanity_val_steps=0,
        logger=TensorBoardLogger(folder, name="", version="tensorboard", purge_step=begun or None),
        log_every_n_steps=1,
        callbacks=callbacks,
        plugins=[AtomicCheckpoint()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=folder,
    )


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Return the moving average's rule: slower at first, since it would remember noise."""

    def rule(averaged: Tensor, current: Tensor, taken: Tensor | int) -> Tensor:
        count = int(taken)
        kept = min(decay, (1 + count) / (10 + count))
        return averaged.lerp(current, 1 - kept) if averaged.is_floating_point() else current

    return rule


class _End(Callback):
    """Says in the checkpoint that nothing is left to do. Comes before averaged weights replace the ones they are of."""

    def __init__(self, last: Path) -> None:
        self._last = last

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """See the class."""
        if isinstance(module, FitModule):
            module.has_ended = True
        trainer.save_checkpoint(self._last)


class _Steps(Callback):
    """After each optimiser step: tell of it, and write a checkpoint now and then. Comes after all other callbacks."""

    def __init__(
        self,
        last: Path,
        settings: FitSettings,
        report: Callable[[Point], None] | None,
        scored_every: int | None,
        stop: Stop,
    ) -> None:
        self._last, self._settings, self._report, self._scored_every = last, settings, report, scored_every
        self._stop = stop

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """See the class. Called once a batch, and so several times a step where gradients are accumulated."""
        point = module.end_step() if isinstance(module, FitModule) else None
        if point is None:
            return
        if self._report is not None and trainer.is_global_zero:
            self._report(point)
        scored = self._scored_every is not None and point.step % self._scored_every == 0
        if not scored and (self._stop.asked or point.step % self._settings.checkpoint_every == 0):
            trainer.save_checkpoint(self._last)
            self._stop.require()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Keep step and score together: a checkpoint from before the score would come back without it. End if told."""
        if isinstance(module, FitModule) and is_over(module.watched, self._settings.patience):
            trainer.should_stop = True
        trainer.save_checkpoint(self._last)
        self._stop.require()


class _Loader:
    """Batches from a step on, for this process' share of them."""

    def __init__(self, batches: Batches, start: int, stop: int, trainer: Trainer) -> None:
        self._batches, self._start, self._stop, self._trainer = batches, start, stop, trainer

    def __iter__(self) -> Iterator[Batch]:
        return self._batches.steps(self._start, self._stop, self._trainer.global_rank, self._trainer.world_size)


def _require_device(settings: FitSettings, device: str) -> None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError(
            f"compute.device is {device}", "a GPU that CUDA can use: there is none", "set compute.device: cpu"
        )
    count = torch.cuda.device_count() if device.startswith("cuda") else os.cpu_count() or 1
    if settings.devices > count:
        raise RecipeError(
            f"train.devices is {settings.devices}", f"at most {count}, as many as there are here", "lower it"
        )
    if settings.precision == "f16" and device == "cpu":
        raise RecipeError("train.precision is f16 on a CPU", "f32 or bf16", "set train.precision: bf16")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice (data loader workers, tips) out of the log; its errors still come."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [item.level for item in loggers]
    for item in loggers:
        item.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        for item, level in zip(loggers, levels, strict=True):
            item.setLevel(level)
