"""How results that are in an output folder already, finished or not, were made: what `auto` goes by first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pipelines.workshop import HIDDEN, SCENES
from segflow.backends import Recorded

_MOST = 1000
"""Plans and reports that are read, at most, where none is of what is looked for."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a plan that was begun, or the report of a finished scene, says.

    Attributes:
        weights_sha256: hash of the weights.
        made: how the network was run.
        auto: what patch and overlap came to, as plain data; None where the recipe stated them.
    """

    weights_sha256: str
    made: Recorded
    auto: Any


def records(folder: Path) -> Iterator[Record]:
    """Yield what stands in an output folder: the plans that were begun, then the reports of finished scenes.

    Files of another version, or damaged ones, are passed over: what they tell of is not gone on with either.
    """
    begun = ((path, _of_plan) for path in sorted(folder.glob(f"{HIDDEN}/{SCENES}/*/*/plan.json")))
    finished = ((path, _of_report) for path in sorted(folder.glob("*_report.json")))
    for path, read in islice(chain(begun, finished), _MOST):
        try:
            yield read(json.loads(path.read_text()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


def recorded_in(folder: Path, weights_sha256: str) -> Recorded | None:
    """Return how the first result of these weights in a folder was made; None where there is none."""
    return next((record.made for record in records(folder) if record.weights_sha256 == weights_sha256), None)


def _of_plan(data: Any) -> Record:
    made = Recorded(data["forward"]["backend"], data["why"], data["facts"].get("calibration"))
    return Record(data["weights_sha256"], made, data.get("auto"))


def _of_report(data: Any) -> Record:
    run = data["run"]
    made = Recorded(run["backend"], run["why"], run.get("calibration"))
    return Record(data["model"]["weights_sha256"], made, (run.get("tiling") or {}).get("auto"))
