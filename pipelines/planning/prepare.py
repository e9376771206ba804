"""Scenes to plans: opens each scene's headers, checks it against the model and the reference, and cuts it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipelines.network.engine import Engine
from pipelines.planning.demand import demand_of, disk_of, network_of
from pipelines.planning.layout import Wish, layout_of
from pipelines.planning.measures import measures_of
from pipelines.planning.plan import ScenePlan
from pipelines.planning.references import reference_of
from pipelines.planning.remedies import changed, laid
from pipelines.planning.resumed import gone_on_with
from pipelines.planning.scenes import NamedScene, Selection
from pipelines.planning.subject import Subject, opened
from pipelines.planning.tolerance import dear, tolerated
from pipelines.planning.window import part_of, region_of
from segflow.errors import PlanError, RecipeError
from segflow.memory import allowance
from segflow.models.card import Card
from segflow.patches import lattice_of
from segflow.recipe import Postprocess, Recipe, recipe_text
from segflow.sweep import Task, head_of
from tiling import Box, Demand, Layout, Network, scale_of


def plan_scene(
    recipe: Recipe,
    item: NamedScene,
    engine: Engine,
    selection: Selection,
    scratch: Path | None = None,
    begun: Sequence[ScenePlan] = (),
    done: str | None = None,
) -> ScenePlan:
    """Settle everything about one scene.

    Reads headers, and the whole scene only where it must: to know its content again later, and for a model that
    standardises with the scene's own statistics.

    Args:
        recipe: what runs on what.
        item: the scene.
        engine: the network.
        selection: a part of the scene, for a look.
        scratch: where inputs are unpacked.
        begun: plans of the scene that were cut off with something done.
        done: fingerprint of the results that are there. Whoever has them needs no memory to make them: a plan of that
            fingerprint is not refused, but comes uncut.

    Raises:
        InputError, RecipeError, PlanError: it cannot be run as asked for.
    """
    tiling = recipe.tiling if engine.auto is None else engine.auto.applied(recipe.tiling)
    settled = recipe.model_copy(update={"tiling": tiling})
    with opened(settled, item, engine.model.card, scratch) as subject:
        region = region_of(subject.source, subject.whole, selection)
        cutting = _Cutting(settled, engine, subject, region)
        layout, refusal = cutting.tried()
        if refusal is not None and done is None:
            raise refusal
        plan = _planned(cutting, item, layout, scratch, recipe)
        if refusal is not None and plan.fingerprint != done:
            raise refusal
        if settled.tiling.block != "auto" or refusal is not None:
            return plan
        return gone_on_with(plan, begun, cutting.demand, settled.compute.workers_here, cutting.allowed_bytes)


@dataclass(frozen=True, slots=True)
class _Cutting:
    """How a scene is cut into blocks that fit in memory.

    Attributes:
        recipe: what runs on what, with nothing left open in its tiling.
        engine: the network.
        subject: the scene.
        region: the cells that are made.
    """

    recipe: Recipe
    engine: Engine
    subject: Subject
    region: Box

    @property
    def allowed_bytes(self) -> int:
        """What the run may use."""
        return allowance(self.recipe.compute.memory, self.engine.base_bytes)

    def demand(self, layout: Layout) -> Demand:
        """Project what a layout takes."""
        return demand_of(layout, self.subject.source, network_of(self.engine), self.recipe)

    def tried(self) -> tuple[Layout, PlanError | None]:
        """Return blocks that fit; where none does, the uncut scene, and the refusal with what would.

        Raises:
            PlanError: it is not for memory that the scene is refused.
        """
        recipe, engine, network = self.recipe, self.engine, network_of(self.engine)
        try:
            self.subject.require_memory(engine.base_bytes, self.allowed_bytes)
            return laid(recipe, network, engine.settings.patch, engine.model.card.stride, self._laid), None
        except PlanError as error:
            return self._cut(changed(recipe, "tiling", block="whole"), network, sys.maxsize), error

    def _laid(self, recipe: Recipe, network: Network) -> Layout:
        return self._cut(recipe, network, allowance(recipe.compute.memory, network.base_bytes))

    def _cut(self, recipe: Recipe, network: Network, allowed_bytes: int) -> Layout:
        if recipe.model is None:
            raise RecipeError("the recipe has no model", "model.weights", "add it")
        source, card, frame = self.subject.source, self.engine.model.card, self.subject.frame
        lattice = lattice_of(self.subject.model_shape(card, recipe.model.scale), card, recipe.tiling)
        try:
            scale_of(recipe.tiling.accumulator, lattice.most)
        except ValueError as error:
            raise PlanError(
                f"tiling.accumulator is {recipe.tiling.accumulator}: {error}",
                "sums whose roundings stay under a thousandth",
                "set tiling.accumulator: int32, or lower tiling.overlap",
            ) from error
        layout = layout_of(
            lattice,
            source.grid.shape,
            self.region,
            Wish(recipe.tiling.block, recipe.compute.most_workers, recipe.compute.workers_here, source.sweep_axis),
            lambda layout: demand_of(replace(layout, frame=frame), source, network, recipe),
            allowed_bytes,
        )
        return replace(layout, frame=frame)


def _planned(cutting: _Cutting, item: NamedScene, layout: Layout, scratch: Path | None, recipe: Recipe) -> ScenePlan:
    """Settle what is left; `recipe` is as it was written."""
    settled, engine, subject, region = cutting.recipe, cutting.engine, cutting.subject, cutting.region
    card, source = engine.model.card, subject.source
    reference, notices = reference_of(settled, item.scene, subject, card, scratch)
    task = _task(settled, card, subject, layout)
    content = subject.content(layout)
    auto, told = tolerated(source, task, engine, content.identity)
    told += () if auto is None else dear(layout.lattice, card, auto, recipe.tiling)
    return ScenePlan(
        scene=item.name,
        inputs=item.scene.paths,
        spec=content.spec,
        identity=content.identity,
        grid=source.grid,
        model=engine.model.absolute(),
        weights_sha256=engine.weights_sha256,
        task=task,
        forward=engine.settings,
        facts=dict(engine.facts),
        probe=engine.probe,
        demand=cutting.demand(layout),
        disk=disk_of(layout, source, engine, settled, subject.prepared_bytes),
        workers=settled.compute.most_workers,
        reference=reference,
        preview=region != subject.whole,
        notices=(*source.notices, *notices, *part_of(region, subject.whole, source), *engine.notices, *told),
        why=engine.why,
        auto=auto,
        sheet=subject.sheet,
        postprocess=_postprocess(settled, card),
        report=measures_of(settled, card, source.grid.crop(region)),
        recipe=recipe_text(recipe),
        stamps=(*content.stamps, *(() if reference is None else reference.stamps)),
    )


def _task(recipe: Recipe, card: Card, subject: Subject, layout: Layout) -> Task:
    task = Task(
        layout=layout,
        head=head_of(card),
        standardise=subject.standardiser(card),
        padding=card.padding,
        store=recipe.tiling.accumulator,
        confidence=recipe.outputs.confidence,
        nodata=recipe.outputs.nodata if recipe.kind == "raster" else 0,
        probabilities=recipe.outputs.probabilities,
    )
    _require_expressible(task, card, recipe)
    return task


def _postprocess(recipe: Recipe, card: Card) -> Postprocess | None:
    """Return how labels are changed, once it is known that the model has the classes.

    Raises:
        RecipeError: it has not.
    """
    wanted = recipe.postprocess
    strange = () if wanted is None else sorted(wanted.named - set(card.ids))
    if strange:
        raise RecipeError(
            f"postprocess names the class {strange[0]}, which {card.name} has not",
            f"ids of its classes: {', '.join(f'{item.id} {item.name}' for item in card.classes)}",
            "correct the id; postprocess.background says what removed regions become, 0 if not given",
        )
    return wanted


def _require_expressible(task: Task, card: Card, recipe: Recipe) -> None:
    if recipe.kind != "raster":
        return
    if max(card.ids) > 255:
        raise PlanError(
            f"class id {max(card.ids)} in a raster",
            "ids up to 255, since the label map is uint8",
            "renumber the classes; more than 255 of them need models of their own",
        )
    if task.nodata in card.ids:
        name = card.classes[card.ids.index(task.nodata)].name
        raise PlanError(
            f"outputs.nodata is {task.nodata}, which is also the class {name}",
            "a value that no class has",
            "set outputs.nodata: 255, or another free value",
        )
