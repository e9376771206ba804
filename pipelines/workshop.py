"""Where one plan of a scene is carried out: the driver's hidden folder, and the place that workers share with it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pipelines.journal import has_chunks
from pipelines.planning.plan import ScenePlan, read_plan
from segflow.io.atomic import write_text
from segflow.io.store import Place, is_url, place_of
from segflow.recipe import Recipe

HIDDEN = ".segflow"
SCENES = "scenes"
_NOTE = "staging"


@dataclass(frozen=True, slots=True)
class Workshop:
    """The hidden folder in which one plan of a scene is carried out.

    Attributes:
        folder: the place; holds the plan, the journal and, if no other place is named, the staging store. Another plan
            has another one, so that a look, or a try with other settings, does not cost what an interrupted run has
            done.
        shared: folder or URL of the run's own, in which chunks and what workers need lie; None: in `folder`.
    """

    folder: Path
    shared: str | None = None

    @property
    def plan(self) -> Path:
        """The resolved plan, for workers and for the curious."""
        return self.folder / "plan.json"

    @property
    def journal(self) -> Path:
        """The journal of finished chunks."""
        return self.folder / "journal.sqlite"

    @property
    def place(self) -> Place:
        """What workers share with the driver."""
        if self.shared is None:
            return place_of(self.folder)
        return scene_place(self.shared, self.folder.parent.name) / self.folder.name

    @property
    def staging(self) -> Place:
        """The staging store."""
        return self.place / "staging"

    def changed(self, number: int) -> Place:
        """The labels after one more change by `postprocess`."""
        return place_of(self.folder / "postprocessed" / str(number))

    def remove(self) -> None:
        """Remove all that the plan has left."""
        self.place.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def networks(self) -> Place:
        """The networks that workers fetch, one for all scenes of a run."""
        return place_of(self.folder if self.shared is None else self.shared) / "networks"


@dataclass(frozen=True, slots=True)
class Bench:
    """The hidden folder of one scene: unpacked inputs, and a workshop for each plan that was begun.

    Attributes:
        folder: the place; its name is the scene's.
        shared: as in `Workshop`.
    """

    folder: Path
    shared: str | None = None

    @property
    def scratch(self) -> Path:
        """Where inputs are unpacked."""
        return self.folder / "scratch"

    def workshop(self, plan: ScenePlan) -> Workshop:
        """Return the place of a plan."""
        return Workshop(self.folder / plan.staging_key[:16], self.shared)

    def begun(self) -> tuple[ScenePlan, ...]:
        """Return the plans that were cut off with something done; those of another version are left out."""
        found = []
        for path in sorted(self.folder.glob("*/journal.sqlite")):
            with suppress(OSError, ValueError, TypeError, KeyError):
                if has_chunks(path):
                    found.append(read_plan(path.with_name("plan.json")))
        return tuple(found)

    def clear(self, workshop: Workshop, preview: bool) -> None:
        """Remove what a finished plan leaves; after a look, what an interrupted run of the whole has done stays."""
        workshop.remove()
        if not preview or not self._resumable():
            self._remove()

    def clear_unless_resumable(self) -> None:
        """Remove all, if no chunk of any plan is finished."""
        if not self._resumable():
            self._remove()

    def _remove(self) -> None:
        if self.shared is not None:
            scene_place(self.shared, self.folder.name).remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _resumable(self) -> bool:
        return any(has_chunks(path) for path in self.folder.glob("*/journal.sqlite"))


def scene_place(shared: str, scene: str) -> Place:
    """Return the place of a scene's plans in what a run shares with its workers."""
    return place_of(shared) / SCENES / scene


def shared_of(recipe: Recipe, hidden: Path) -> str:
    """Return what a run shares with its workers: the hidden folder, or a place of its own in `compute.staging`.

    That place has a random name which a note in the hidden folder keeps, so that an interrupted run goes on from
    wherever its output folder is seen, and two runs in one bucket never meet.

    Raises:
        OutputError: the note cannot be written.
    """
    wanted, held = recipe.compute.staging, _held(hidden)
    root = wanted if wanted is None or is_url(wanted) else str(recipe.resolve(wanted))
    if held is not None and (root is None or not held.startswith(root.rstrip("/") + "/")):
        remove_shared(hidden)
        held = None
    if root is None or held is not None:
        return held or str(hidden)
    made = f"{root.rstrip('/')}/segflow-{uuid4().hex}"
    write_text(hidden / _NOTE, made)
    return made


def remove_shared(hidden: Path) -> None:
    """Remove what a run has put elsewhere, and the note that names it."""
    held = _held(hidden)
    if held is not None:
        place_of(held).remove()
        (hidden / _NOTE).unlink(missing_ok=True)


def _held(hidden: Path) -> str | None:
    """Return the place elsewhere that an earlier run, or this one, has chosen."""
    try:
        return (hidden / _NOTE).read_text()
    except OSError:
        return None
