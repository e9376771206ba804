"""Scenes to plans: opens each scene's headers, checks it against the model and the reference, and cuts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from pipelines.network.engine import Engine
from pipelines.planning.demand import demand_of, disk_of, network_of
from pipelines.planning.layout import Wish, layout_of
from pipelines.planning.plan import ReferencePlan, ScenePlan
from pipelines.planning.remedies import laid
from pipelines.planning.resumed import gone_on_with
from pipelines.planning.scenes import NamedScene, Selection
from pipelines.planning.sheets import Sheet, identity_of, sheet_of, stamps_in
from pipelines.planning.tolerance import change_on, dear
from pipelines.publishing.details import measures_of
from segflow.auto import AutoTiling
from segflow.errors import PlanError, RecipeError
from segflow.io.discover import Scene
from segflow.io.opening import files_of, open_source, window_of
from segflow.io.prepared import PreparedVolume, frame_of, prepared
from segflow.io.scene_files import open_reference, reference_spec_of, require_channels, spec_of
from segflow.io.source import Source
from segflow.io.stamp import stamps_of
from segflow.io.volume import VolumeSpec
from segflow.memory import allowance, shown
from segflow.metrics import require_known_ids
from segflow.models.card import Card
from segflow.normalise import AS_IT_IS, standardiser_of
from segflow.patches import lattice_of, model_shape, patch_of
from segflow.recipe import Postprocess, Recipe, recipe_text
from segflow.sweep import Task, head_of
from tiling import Box, Layout, Network, scale_of


def plan_scene(
    recipe: Recipe,
    item: NamedScene,
    engine: Engine,
    selection: Selection,
    scratch: Path | None = None,
    begun: Sequence[ScenePlan] = (),
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

    Raises:
        InputError, RecipeError, PlanError: it cannot be run as asked for.
    """
    card, asked, tiling = engine.model.card, recipe_text(recipe), recipe.tiling
    if engine.auto is not None:
        recipe = recipe.model_copy(update={"tiling": engine.auto.applied(recipe.tiling)})
    spec = spec_of(recipe, item.scene, card, None if scratch is None else str(scratch))
    sheet = sheet_of(item.scene.paths[0], item.sheets)
    spec = spec if sheet is None else sheet.spread(spec)
    source = open_source(spec)
    try:
        stamps = stamps_of(files_of(spec))
        require_channels(source, card, recipe)
        whole = Box.whole(source.grid.shape) if sheet is None else sheet.box
        region = _region(recipe, source, selection, whole)
        seen = _prepared(recipe, source, engine)
        if seen is not None and isinstance(spec, VolumeSpec):
            spec = replace(spec, settled=seen.settled)
        network = network_of(engine)

        def lay(recipe: Recipe, network: Network) -> Layout:
            return _layout(recipe, network, source, card, region, seen)

        layout = laid(recipe, network, engine.settings.patch, card.stride, lay)
        reference, notices = _reference(recipe, item.scene, source, card, scratch, sheet)
        if seen is not None:
            standardise = AS_IT_IS
        elif sheet is not None:
            standardise = sheet.standardised(card.normalisation, spec, stamps)
        else:
            standardise = standardiser_of(card.normalisation, source.channels, source)
        task = Task(
            layout=layout,
            head=head_of(card),
            standardise=standardise,
            padding=card.padding,
            store=recipe.tiling.accumulator,
            confidence=recipe.outputs.confidence,
            nodata=recipe.outputs.nodata if recipe.kind == "raster" else 0,
            probabilities=recipe.outputs.probabilities,
        )
        _require_expressible(task, card, recipe)
        if sheet is not None:
            spec = sheet.narrowed(spec, layout)
            stamps = stamps_in(spec, stamps)
        identity = (seen or source).identity() if sheet is None else identity_of(spec)
        auto, told = _tolerated(source, task, engine, identity)
        told += () if auto is None else dear(layout.lattice, card, auto, tiling)
        plan = ScenePlan(
            scene=item.name,
            inputs=item.scene.paths,
            spec=spec,
            identity=identity,
            grid=source.grid,
            model=engine.model.absolute(),
            weights_sha256=engine.weights_sha256,
            task=task,
            forward=engine.settings,
            facts=dict(engine.facts),
            probe=engine.probe,
            demand=demand_of(layout, source, network, recipe),
            disk=disk_of(layout, source, engine, recipe, 0 if seen is None else 4 * prod(seen.settled.padded)),
            workers=recipe.compute.most_workers,
            reference=reference,
            preview=region != whole,
            notices=(*source.notices, *notices, *_part_of(region, whole, source), *engine.notices, *told),
            why=engine.why,
            auto=auto,
            sheet=None if sheet is None else sheet.box,
            postprocess=_postprocess(recipe, card),
            report=measures_of(recipe, card, source.grid.crop(region)),
            recipe=asked,
            stamps=(*stamps, *(() if reference is None else reference.stamps)),
        )
        if recipe.tiling.block != "auto":
            return plan
        allowed = allowance(recipe.compute.memory, network.base_bytes)
        return gone_on_with(
            plan, begun, lambda layout: demand_of(layout, source, network, recipe), recipe.compute.workers_here, allowed
        )
    finally:
        source.close()


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


def _tolerated(source: Source, task: Task, engine: Engine, identity: str) -> tuple[AutoTiling | None, tuple[str, ...]]:
    """Measure on the scene what the overlap was chosen for; return that, and a notice where it falls short."""
    auto = engine.auto
    if auto is None or auto.tolerance is None:
        return auto, ()
    change = change_on(source, task, engine.model, auto, identity)
    if change is None or change <= auto.tolerance:
        return replace(auto, change=change), ()
    return replace(auto, change=change), (
        f"a cut changes a probability of {source.name} by {change:.2g}, more than tiling.tolerance {auto.tolerance:g}: "
        "halve the tolerance, or set it to 0",
    )


def _part_of(region: Box, whole: Box, source: Source) -> tuple[str, ...]:
    """Return a notice where only a part of a raster is made."""
    if region == whole:
        return ()
    top, left = (a - b for a, b in zip(region.start, whole.start, strict=True))
    (height, width), (rows, columns) = region.shape, whole.shape
    return (
        f"only a window of {source.name}: x {left}, y {top}, width {width}, height {height} of {columns} x {rows} "
        f"(the same of another file: gdal_translate -srcwin {left} {top} {width} {height})",
    )


def _region(recipe: Recipe, source: Source, selection: Selection, whole: Box) -> Box:
    if selection.window is None and selection.bbox is None:
        return whole
    if selection.window is not None and selection.bbox is not None:
        raise RecipeError("both a window and a bbox", "one of them", "drop one")
    if recipe.kind != "raster":
        raise RecipeError("--window or --bbox for a volume", "a raster", "use --limit N for a look at volumes")
    return window_of(source.grid.crop(whole), selection.window, selection.bbox).shift(whole.start)


def _prepared(recipe: Recipe, source: Source, engine: Engine) -> PreparedVolume | None:
    """Return the volume as a model sees it that has volumes prepared as a whole.

    Raises:
        RecipeError: the recipe overrides what such a model takes from its preparation.
        PlanError: there is not the memory to prepare it.
    """
    card, choice = engine.model.card, recipe.model
    if card.preparation is None:
        return None
    if choice is not None and (choice.normalisation is not None or choice.scale != 1.0):
        raise RecipeError(
            f"model.{'scale' if choice.normalisation is None else 'normalisation'} is set, but {card.name} has volumes "
            "prepared as a whole",
            "what its card's preparation says",
            "remove it from the recipe",
        )
    seen = prepared(source, card, patch_of(card, recipe.tiling))
    if seen is None:
        return None
    need, allowed = (
        engine.base_bytes + seen.settled.bytes_while_made,
        allowance(recipe.compute.memory, engine.base_bytes),
    )
    if need > allowed:
        raise PlanError(
            f"{source.name} needs {shown(need)} while it is cropped and resampled as a whole",
            f"at most {shown(allowed)}",
            "raise compute.memory, or cut the volume",
        )
    return seen


def _layout(
    recipe: Recipe, network: Network, source: Source, card: Card, region: Box, seen: PreparedVolume | None
) -> Layout:
    if recipe.model is None:
        raise RecipeError("the recipe has no model", "model.weights", "add it")
    shape = model_shape(source.grid, card, recipe.model.scale) if seen is None else seen.settled.padded
    lattice = lattice_of(shape, card, recipe.tiling)
    try:
        scale_of(recipe.tiling.accumulator, lattice.most)
    except ValueError as error:
        raise PlanError(
            f"tiling.accumulator is {recipe.tiling.accumulator}: {error}",
            "sums whose roundings stay under a thousandth",
            "set tiling.accumulator: int32, or lower tiling.overlap",
        ) from error
    frame = frame_of(seen)
    layout = layout_of(
        lattice,
        source.grid.shape,
        region,
        Wish(recipe.tiling.block, recipe.compute.most_workers, recipe.compute.workers_here, source.sweep_axis),
        lambda layout: demand_of(replace(layout, frame=frame), source, network, recipe),
        allowance(recipe.compute.memory, network.base_bytes),
    )
    return replace(layout, frame=frame)


def _reference(
    recipe: Recipe, scene: Scene, source: Source, card: Card, scratch: Path | None, sheet: Sheet | None
) -> tuple[ReferencePlan | None, tuple[str, ...]]:
    wanted = recipe.references
    spec = reference_spec_of(recipe, scene, card, source, None if scratch is None else str(scratch))
    if wanted is None or spec is None:
        return None, ()
    path = str(spec.path)
    spec = spec if sheet is None else sheet.placed(spec)
    reference, notice = open_reference(spec, source)
    try:
        stamps = stamps_of(files_of(spec))
        whole = Box.whole(source.grid.shape) if sheet is None else sheet.box
        region = None if sheet is None else whole
        if wanted.region is not None:
            region = window_of(source.grid.crop(whole), wanted.region, None).shift(whole.start)
        ignore = tuple(sorted({*card.ignore, *wanted.ignore}))
        require_known_ids(reference, card.ids, ignore, wanted.map, region)
        plan = ReferencePlan(path, spec, reference.identity(), dict(wanted.map), ignore, region, stamps)
        return plan, () if notice is None else (notice,)
    finally:
        reference.close()


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
