"""How results that are in an output folder already, finished or not, were made: what `auto` goes by first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from pipelines.outputs import published
from segflow.backends import Recorded

_SCENES = 100
"""Reports that are looked at, at most: of a folder of a million new scenes none would be found."""


def recorded_in(folder: Path, plans: Path, scenes: Sequence[str], weights_sha256: str) -> Recorded | None:
    """Return how the first result of these weights in a folder was made; None where there is none.

    Args:
        folder: the output folder.
        plans: the folder of scenes that were begun; each plan that was cut off is at `<scene>/<key>/plan.json`.
        scenes: names of the run's scenes.
        weights_sha256: hash of the weights.
    """
    return next(
        (made for sha256, made in (*_begun(plans), *_finished(folder, scenes)) if sha256 == weights_sha256), None
    )


def _begun(plans: Path) -> Iterator[tuple[str, Recorded]]:
    for path in sorted(plans.glob("*/*/plan.json"))[:_SCENES]:
        try:
            plan = json.loads(path.read_text())
            made = Recorded(plan["forward"]["backend"], plan["why"], plan["facts"].get("calibration"))
            yield plan["weights_sha256"], made
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # of another version; it is not resumed either


def _finished(folder: Path, scenes: Sequence[str]) -> Iterator[tuple[str, Recorded]]:
    for scene in islice(scenes, _SCENES):
        found = published(scene, folder)
        if found is not None and found.run is not None and found.model is not None:
            yield found.model.weights_sha256, Recorded(found.run.backend, found.run.why, found.run.calibration)
