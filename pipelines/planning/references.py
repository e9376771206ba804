"""What a scene is compared with, checked before anything runs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pipelines.planning.plan import ReferencePlan
from pipelines.planning.subject import Subject
from segflow.io.discover import Scene
from segflow.io.opening import files_of, window_of
from segflow.io.scene_files import open_reference, reference_spec_of
from segflow.io.stamp import stamps_of
from segflow.metrics import require_known_ids
from segflow.models.card import Card
from segflow.recipe import Recipe


def reference_of(
    recipe: Recipe, scene: Scene, subject: Subject, card: Card, scratch: Path | None
) -> tuple[ReferencePlan | None, tuple[str, ...]]:
    """Return what a scene is compared with, and what its reader must know; None where the recipe has no references.

    Raises:
        InputError: there is no such file, it lies elsewhere, or it holds ids that nobody knows.
    """
    wanted = recipe.references
    spec = reference_spec_of(recipe, scene, card, subject.source, None if scratch is None else str(scratch))
    if wanted is None or spec is None:
        return None, ()
    path = str(spec.path)
    spec = subject.placed(spec)
    opened, notice = open_reference(spec, subject.source)
    with closing(opened) as reference:
        stamps = stamps_of(files_of(spec))
        region = subject.sheet
        if wanted.region is not None:
            whole = subject.whole
            region = window_of(subject.source.grid.crop(whole), wanted.region, None).shift(whole.start)
        ignore = tuple(sorted({*card.ignore, *wanted.ignore}))
        require_known_ids(reference, card.ids, ignore, wanted.map, region)
        plan = ReferencePlan(path, spec, reference.identity(), dict(wanted.map), ignore, region, stamps)
        return plan, () if notice is None else (notice,)
