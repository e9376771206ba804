"""The stage that sends what is new elsewhere, once a run's results are whole in the output folder."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.publishing.copies import copies, private_places
from pipelines.publishing.outputs import RUN_FILES, file_facts, report_files
from segflow.errors import OutputError, SegflowError, first_line
from segflow.io.atomic import write_text
from segflow.io.depot import Depot
from segflow.io.dicom_send import UnreachableError, is_archive, send
from segflow.io.manifest import Manifest, StoredFile
from segflow.recipe import Publish, Recipe
from segflow.report import FileFacts, RunReport, SceneReport

_LOG = logging.getLogger(__name__)
RECORD = "published.json"
"""In the output folder: what has gone where; by destination and scene, a hash of the files."""


def publish(recipe: Recipe, report: RunReport, folder: Path, now: datetime | None = None) -> tuple[str, ...]:
    """Send the scenes that a destination has not yet, and remove its old runs.

    Args:
        recipe: with `publish`; without, nothing is done.
        report: the run's.
        folder: where its files are.
        now: the time, if not the present.

    Returns:
        What could not be done, a text a destination; the next run tries it again.
    """
    if recipe.publish is None:
        return ()
    now = now or datetime.now(UTC)
    record = _record(folder)
    errors = []
    for where in recipe.publish.to:
        place = where if "://" in where else str(recipe.resolve(where))
        try:
            gone = record.setdefault(place, {})
            new = {item.scene: item for item in _whole(report) if gone.get(item.scene) != _content([item])}
            if is_archive(place):
                sent, failed = _send(place, new, folder)
            else:
                if new:
                    _upload(Depot(place), recipe, report, new, folder, now)
                sent, failed = list(new), []
            gone |= {name: _content([new[name]]) for name in sent}
            if sent:
                write_text(folder / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
            if not is_archive(place):
                failed += _prune(Depot(place), recipe.publish, now)
        except SegflowError as error:
            failed = [str(error)]
        except Exception as error:  # the results are whole: whatever a destination answers must not hide that
            _LOG.exception("publish.to %s", place)
            failed = [f"{type(error).__name__}: {first_line(error)}"]
        for text in failed:
            _LOG.error("publish.to %s: %s", place, text)
            errors.append(f"publish.to {place}: {text}")
    return tuple(errors)


def _send(place: str, new: Mapping[str, SceneReport], folder: Path) -> tuple[list[str], list[str]]:
    """Send the scenes' DICOM files; return which scenes have arrived, and why the others have not.

    One that is refused keeps none behind it from being sent; an archive that cannot be reached is asked once.
    """
    sent: list[str] = []
    failed: list[str] = []
    for scene, item in new.items():
        files = [folder / file.name for file in _files(item) if file.name.endswith(".dcm")]
        try:
            if not files:
                raise OutputError(
                    f"{scene} has no DICOM file to send", "one among its outputs", "set outputs.dicom_seg: true"
                )
            send(place, files)
        except UnreachableError as error:
            return sent, [*failed, str(error)]
        except SegflowError as error:
            failed.append(str(error))
            continue
        except Exception as error:  # of libraries, at what is odd in this file
            _LOG.exception("%s to %s", scene, place)
            failed.append(f"{scene}: {type(error).__name__}: {first_line(error)}")
            continue
        sent.append(scene)
        _LOG.info("%s: %d files sent to %s", scene, len(files), place)
    return sent, failed


def _upload(
    depot: Depot, recipe: Recipe, report: RunReport, new: Mapping[str, SceneReport], folder: Path, now: datetime
) -> None:
    """Send the scenes' files, and what is of all of them, as one run."""
    listed = {file.name: file for item in new.values() for file in _files(item)}
    told = [path.name for scene in new for path in report_files(scene, folder)]
    for file in listed.values():
        _require_unchanged(folder / file.name, folder, file)
    names = (*listed, *told, *(name for name in RUN_FILES if (folder / name).is_file()))
    good = all(item.state in ("done", "unchanged") and item.error is None for item in report.scenes)
    scenes = {name: "" if item.run is None else item.run.fingerprint for name, item in new.items()}
    with TemporaryDirectory(prefix="segflow-publish-") as into:
        paths = copies(recipe, folder, Path(into), list(new.values()), names, private_places(report))
        files = tuple(StoredFile(name, *_facts(path)) for name, path in paths.items())
        made = depot.put(_content(new.values()), paths, Manifest("", good, scenes, files), now)
    _LOG.info("%d scenes published as %s", len(new), made.run)


def _prune(depot: Depot, wanted: Publish, now: datetime) -> list[str]:
    """Remove old runs; return why that could not be done."""
    if wanted.keep is None and wanted.days is None:
        return []
    try:
        for run in depot.prune(wanted.keep, wanted.days, now, wanted.spare_scenes):
            _LOG.info("the old run %s is removed", run)
    except SegflowError as error:
        return [f"old runs were not removed: {error}"]
    return []


def _require_unchanged(path: Path, folder: Path, told: FileFacts) -> None:
    """Refuse a file that is not the one that its report tells of."""
    try:
        found = file_facts(path, folder)
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error}", "the run's own file", "run it again") from error
    if found.sha256 != told.sha256:
        raise OutputError(
            f"{path} is not as it was written", "the file that its report tells of", "run it again: it is made anew"
        )


def _facts(path: Path) -> tuple[str, int]:
    """Return sha256 and size of a file."""
    try:
        return file_facts(path, path.parent).sha256, path.stat().st_size
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error}", "the run's own file", "run it again") from error


def _whole(report: RunReport) -> list[SceneReport]:
    """Return the scenes whose label map is whole; one that lacks an export goes when that is there, too."""
    return [item.report for item in report.scenes if item.report is not None and item.error is None]


def _files(item: SceneReport) -> tuple[FileFacts, ...]:
    return (*item.outputs, *(file for export in item.exports for file in export.files))


def _content(items: Iterable[SceneReport]) -> str:
    """Return the hash of what scenes are made of."""
    names = sorted((item.scene, file.name, file.sha256) for item in items for file in _files(item))
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _record(folder: Path) -> dict[str, dict[str, str]]:
    """Return what has gone where; nothing where that is not known, so that it goes again."""
    try:
        found = json.loads((folder / RECORD).read_text())
        return {str(place): dict(scenes) for place, scenes in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
