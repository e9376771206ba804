"""The checkpoint of a fit: written whole or not at all, read without running code, and gone on with only if it fits."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from segflow.errors import OutputError, first_line
from segflow.io.atomic import replacing
from segflow.training.identity import changes
from segflow.training.module import FitModule, Leg
from segflow.training.schedule import FitSettings

log = logging.getLogger(__name__)

LAST = "last.ckpt"


class AtomicCheckpoint(TorchCheckpointIO):
    """Checkpoints that a crash or a full disk never leaves half written."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write beside the place, flush, rename."""
        try:
            with replacing(Path(path)) as part:
                torch.save(checkpoint, part)
        except RuntimeError as error:  # torch's writer turns a full disk into one
            raise OutputError(
                f"{path} cannot be written: {first_line(error)}",
                "a folder with room for a checkpoint",
                "free space, then run the same command: it goes on from the checkpoint before",
            ) from error


def read_checkpoint(last: Path) -> dict[str, Any] | None:
    """Return a checkpoint; None where there is none.

    Raises:
        OutputError: it is broken or none of ours.
    """
    if not last.exists():
        return None
    try:
        kept: dict[str, Any] = torch.load(last, map_location="cpu", weights_only=True)
        FitModule.leg(kept)
    except Exception as error:
        raise of_another_fit(last, error) from error
    return kept


def of_another_fit(last: Path, error: Exception) -> OutputError:
    return OutputError(
        f"{last} is of another training or broken: {first_line(error)}",
        "a checkpoint of this recipe",
        "remove it to start afresh, or choose another outputs.folder",
    )


def require_same(leg: Leg, settings: FitSettings, last: Path) -> None:
    """Refuse to go on with a checkpoint of something else; tell of other numbers of steps.

    Raises:
        OutputError: see `fit`.
    """
    changed = changes(leg.made_of, settings.made_of) if leg.made_of and settings.made_of else ""
    if changed:
        raise OutputError(
            f"the training in {last.parent} was begun with other settings or data: {changed}",
            "the same ones; of the steps, there may be more",
            f"undo the change; or give train.name or outputs.folder another value; or remove {last.parent} to train "
            "afresh",
        )
    if leg.step > settings.steps:
        raise OutputError(
            f"the training in {last.parent} has done {leg.step} steps, train.steps is {settings.steps}",
            "as many steps, or more",
            f"raise train.steps; or remove {last.parent} to train afresh",
        )
    if leg.steps not in (0, settings.steps) and leg.step < settings.steps:
        log.warning(
            "train.steps was %d and is %d: from step %d on, the learning rate is that of the longer training",
            leg.steps,
            settings.steps,
            leg.step,
        )


def restore(module: FitModule, kept: dict[str, Any], last: Path) -> None:
    try:
        module.load_state_dict(kept["state_dict"])
    except RuntimeError as error:
        raise of_another_fit(last, error) from error
    module.on_load_checkpoint(kept)
