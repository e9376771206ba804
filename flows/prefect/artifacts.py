"""What a flow run shows on Prefect's page: progress, a table, a summary, links. Never a path's password."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from shlex import quote
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.events import emit_event

from flows.incremental.increment import Increment
from pipelines.events import ChunkDone, Event, Listener, SceneEnded, SceneStarted
from segflow.errors import first_line
from segflow.recipe import Recipe, open_text

if TYPE_CHECKING:
    from segflow.training.train import Trained

_LOG = logging.getLogger(__name__)
_EVERY_SECONDS = 10.0
_PREVIEWS = 4
"""Scenes of a run that are shown as pictures, at most."""


class Progress(AbstractContextManager["Progress"]):
    """A progress artifact, told at most every ten seconds; made when the first scene begins."""

    def __init__(self, name: str, listener: Listener) -> None:
        self._key = _key(name, "progress")
        self._listener = listener
        self._artifact: UUID | None = None
        self._said = 0.0
        self._scenes = self._ended = self._forwards = self._done = 0

    def __call__(self, event: Event) -> None:
        """Hear of an event, and pass it on."""
        self._listener(event)
        if isinstance(event, SceneStarted):
            self._scenes, self._ended = event.scenes, event.number - 1
            self._forwards, self._done = event.forwards, 0
        elif isinstance(event, ChunkDone):
            self._done += event.forwards
        elif isinstance(event, SceneEnded):
            self._ended, self._forwards, self._done = self._ended + 1, 0, 0
        if self._scenes and monotonic() - self._said >= _EVERY_SECONDS:  # how many there are, the first one tells
            self._tell(self._percent(), event)

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Say that all is done, unless it is not."""
        if kind is None and (self._ended or self._artifact is not None):
            self._tell(100.0, None)

    def _percent(self) -> float:
        part = self._done / self._forwards if self._forwards else 0.0
        return min(100.0, 100 * (self._ended + part) / max(1, self._scenes))

    def _tell(self, percent: float, event: Event | None) -> None:
        self._said = monotonic()
        with _kept_from_harm("progress"):
            self._put(percent, event)

    def _put(self, percent: float, event: Event | None) -> None:
        whole = max(self._scenes, self._ended)  # one that is found unchanged, or cannot be read, never begins
        text = f"{self._ended} of {whole} scene{'' if whole == 1 else 's'}"
        text += f", at {event.scene}" if isinstance(event, SceneStarted | ChunkDone) else ""
        if self._artifact is None:
            made: Any = create_progress_artifact(percent, key=self._key, description=text)
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, progress=percent, description=text)


def tell(recipe: Recipe, increment: Increment) -> None:
    """Show what a run came to; a run that found nothing new leaves nothing but its state."""
    with _kept_from_harm("results"):
        _show(recipe, increment)


@contextmanager
def _kept_from_harm(what: str) -> Iterator[None]:
    """Let no server that is away cost a run: what is shown is a copy of what reports and ledger hold."""
    try:
        yield
    except Exception as error:
        _LOG.warning("the server could not be told of %s: %s", what, first_line(error))


def _show(recipe: Recipe, increment: Increment) -> None:
    if increment.drift:
        resource = {"prefect.resource.id": f"segflow.recipe.{recipe.name}", "prefect.resource.name": recipe.name}
        emit_event("segflow.drift", resource=resource, payload={"drift": increment.drift, "run": increment.name})
    if not increment.scenes:
        return
    create_table_artifact(_rows(increment), key=_key(recipe.name, "scenes"), description=increment.summary)
    if classes := _classes(increment):
        create_table_artifact(classes, key=_key(recipe.name, "classes"), description="Classes, all scenes of this run")
    create_markdown_artifact(
        _markdown(recipe, increment), key=_key(recipe.name, "summary"), description=increment.summary
    )
    if previews_wanted(recipe):
        _show_previews(recipe, increment)
    _show_report(recipe)


def _show_report(recipe: Recipe) -> None:
    """Show where the report is: a link where a web server shows the folder, since no browser follows one to a file."""
    page, key = recipe.folder / "report.html", _key(recipe.name, "report")
    if not page.exists():
        return
    if recipe.service.url is not None:
        create_link_artifact(f"{recipe.service.url}/report.html", link_text="report", key=key, description="report")
        return
    text = (
        f"`{page}`\n\nOn the machine that ran it, in a browser:\n\n```sh\nsegflow view {quote(str(recipe.folder))}\n```"
    )
    create_markdown_artifact(text, key=key, description="where the report is")


def previews_wanted(recipe: Recipe) -> bool:
    """Tell whether pictures may go to the server: of volumes, which may be of patients, only when asked for."""
    asked = recipe.service.previews
    return recipe.kind == "raster" if asked is None else asked


def _show_previews(recipe: Recipe, increment: Increment) -> None:
    """Show the first scenes as small pictures, which are part of the artifact: no server can open a run's folder.

    They are Markdown: Prefect's page prints an image artifact's address, all of its base64, below the picture.
    """
    from segflow.report.thumbnail import thumbnail

    pages = ((item.scene, recipe.folder / f"{item.scene}_report.html") for item in increment.scenes if item.report)
    there = ((scene, page) for scene, page in pages if page.is_file())
    for number, (scene, page) in enumerate(islice(there, _PREVIEWS), 1):
        picture = thumbnail(page.read_text(encoding="utf-8"))
        if picture is not None:
            shown = f"![input and labels]({picture})"
            create_markdown_artifact(shown, key=_key(recipe.name, f"preview-{number}"), description=scene)


def tell_trained(recipe: Recipe, trained: Trained) -> None:
    """Show what a training came to."""
    with _kept_from_harm("models"):
        _show_trained(recipe, trained)


def _show_trained(recipe: Recipe, trained: Trained) -> None:
    pages = [f"{model.weights.with_suffix('')}_training.html" for model in trained.models]
    rows = [
        {"model": model.card.name, "weights": str(model.weights), "report": page}
        for model, page in zip(trained.models, pages, strict=True)
    ]
    create_table_artifact(rows, key=_key(recipe.name, "models"), description="Models that were trained")
    if trained.scores is not None:
        scores = [
            {"class": row["name"], "IoU": _score(row.get("iou")), "Dice": _score(row.get("dice"))}
            for row in trained.scores["classes"]
        ]
        create_table_artifact(scores, key=_key(recipe.name, "scores"), description="Scores on what was held back")


def _rows(increment: Increment) -> list[dict[str, Any]]:
    rows = []
    for item in increment.scenes:
        overall = None if item.report is None else item.report.overall
        iou = None if overall is None or overall.mean_iou is None else round(overall.mean_iou, 4)
        state = "quarantined" if item.scene in increment.quarantined else item.state
        rows.append({"scene": item.scene, "state": state, "mean IoU": iou, "error": _first(item.error)})
    return rows


def _classes(increment: Increment) -> list[dict[str, Any]]:
    """Return a row a class: what it covers, and its scores where there is a reference and classes do not differ."""
    from segflow.report import run_report
    from segflow.report.numbers import area_column, volume_column

    pooled = run_report(increment.name, increment.scenes, 0).pooled
    scores = {} if pooled is None else {item.name: item for item in pooled.classes}
    sums: dict[str, Counter[str]] = {}
    for item in increment.scenes:
        for told in () if item.report is None else item.report.classes:
            found = sums.setdefault(told.name, Counter())
            found["cells"] += told.pixels
            for size in ("area_m2", "volume_ml"):
                found[size] += getattr(told, size) or 0
    whole = max(1, sum(found["cells"] for found in sums.values()))
    sizes = [
        (key, column([float(found[key]) for found in sums.values()]))
        for key, column in (("area_m2", area_column), ("volume_ml", volume_column))
        if any(found[key] for found in sums.values())
    ]
    rows = []
    for name, found in sums.items():
        row: dict[str, Any] = {"class": name, "share": f"{found['cells'] / whole:.2%}", "cells": f"{found['cells']:,}"}
        row |= {unit: write(found[key]) for key, (unit, write) in sizes}
        score = scores.get(name)
        if score is not None and score.support is not None:
            row |= {"IoU": _score(score.iou), "Dice": _score(score.dice)}
        rows.append(row)
    return rows


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _markdown(recipe: Recipe, increment: Increment) -> str:
    lines = [f"# {increment.name}: {increment.state}", "", increment.summary, "", f"Results: `{recipe.folder}`", ""]
    if recipe.service.url is not None:
        lines += [f"[Report]({recipe.service.url}/report.html)", ""]
    if recipe.publish is not None and not increment.unsent:
        lines += [f"Sent to {', '.join(f'`{open_text(place)}`' for place in recipe.publish.to)}", ""]
    for title, told in (
        ("Failed", [f"**{item.scene}**: {_first(item.error)}" for item in increment.failed]),
        ("In quarantine now", increment.quarantined),
        ("Drift", increment.drift),
        ("Not sent", [open_text(text) for text in increment.unsent]),
        ("Still being copied", increment.inventory.waiting),
        ("Leads out of the folder, not read", increment.inventory.outside),
        ("Gives no scene", [_first(text) for text in increment.inventory.unreadable]),
        ("Taken over by another run", increment.lost),
    ):
        lines += [f"## {title}", "", *(f"- {text}" for text in told), ""] if told else []
    return "\n".join(lines)


def _key(name: str, what: str) -> str:
    """Return an artifact's key: small letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", f"{name}-{what}".lower()).strip("-")


def _first(error: str | None) -> str:
    """Return an error's first line, without passwords."""
    return first_line(error or "")
