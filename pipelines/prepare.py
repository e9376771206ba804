"""Scenes to plans: opens each scene's headers, checks it against the model and the reference, and cuts it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.engine import Engine
from pipelines.layout import layout_of
from pipelines.memory import allowance
from pipelines.plan import ReferencePlan, ScenePlan
from segflow.errors import InputError, PlanError, RecipeError
from segflow.io.discover import Scene, discover, output_names, reference_for
from segflow.io.opening import Spec, compare_places, open_source, window_of
from segflow.io.raster import RasterSpec
from segflow.io.source import Source
from segflow.io.volume import VolumeSpec
from segflow.metrics import require_known_ids
from segflow.models.card import Card
from segflow.normalise import standardiser_of
from segflow.patches import lattice_of, model_shape
from segflow.recipe import Recipe, References
from segflow.sweep import Task, head_of
from tiling import Box, Demand, Layout, Network, demand, scale_of

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Selection:
    """A look first: a part of the work, on the full run's patches and statistics.

    Attributes:
        window: x, y, width, height in cells; rasters only.
        bbox: xmin, ymin, xmax, ymax in the raster's CRS; rasters only.
        limit: at most so many scenes.
    """

    window: tuple[int, int, int, int] | None = None
    bbox: tuple[float, float, float, float] | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class NamedScene:
    """A scene and the name of its outputs."""

    scene: Scene
    name: str


def find_scenes(recipe: Recipe, card: Card, limit: int | None = None) -> list[NamedScene]:
    """List the recipe's scenes; opens nothing.

    Raises:
        InputError: nothing is there.
        RecipeError: two scenes would have one name.
    """
    inputs = recipe.inputs
    if inputs.channels is not None:
        missing = [name for name in card.channels if name not in inputs.channels]
        if missing or len(inputs.channels) != len(card.channels):
            raise RecipeError(
                f"inputs.channels has {', '.join(inputs.channels)}",
                f"the model's channels: {', '.join(card.channels)}",
                "give each of them one pattern",
            )
        inputs = inputs.model_copy(update={"channels": {name: inputs.channels[name] for name in card.channels}})
    scenes = discover(inputs, recipe.kind, recipe.resolve)
    names = output_names(scenes, recipe.outputs.name)
    for name in names:
        if len(name.encode()) > _LONGEST_NAME:
            raise RecipeError(
                f"the name {name[:40]}... has {len(name.encode())} bytes",
                f"at most {_LONGEST_NAME}, so that files can be named after it",
                "set outputs.name, or rename the input",
            )
    return [NamedScene(scene, name) for scene, name in zip(scenes, names, strict=True)][:limit]


def plan_scene(
    recipe: Recipe, item: NamedScene, engine: Engine, selection: Selection, scratch: Path | None = None
) -> ScenePlan:
    """Settle everything about one scene.

    Reads headers, and the whole scene only where it must: to know its content again later, and for a model that
    standardises with the scene's own statistics.

    Raises:
        InputError, RecipeError, PlanError: it cannot be run as asked for.
    """
    card = engine.model.card
    spec = _spec_of(recipe, item.scene, card, scratch)
    source = open_source(spec)
    try:
        _require_channels(source, card, recipe)
        region = _region(recipe, source, selection)
        layout = _layout(recipe, source, engine, region)
        reference, notices = _reference(recipe, item.scene, source, card, scratch)
        task = Task(
            layout=layout,
            head=head_of(card),
            standardise=standardiser_of(card.normalisation, source.channels, source),
            padding=card.padding,
            store=recipe.tiling.accumulator,
            confidence=recipe.outputs.confidence,
            nodata=recipe.outputs.nodata if recipe.kind == "raster" else 0,
        )
        _require_expressible(task, card, recipe)
        return ScenePlan(
            scene=item.name,
            inputs=item.scene.paths,
            spec=spec,
            identity=source.identity(),
            grid=source.grid,
            model=engine.model.absolute(),

            weights_sha256=engine.weights_sha256,
            task=task,
            forward=engine.settings,
            facts=dict(engine.facts),
            probe=engine.probe,
            demand=_demand(layout, source, engine, recipe),
            workers=recipe.compute.workers,
            reference=reference,
            preview=region != Box.whole(source.grid.shape),
            notices=(*source.notices, *notices, *_part_of(region, source)),
        )
    finally:
        source.close()


def _part_of(region: Box, source: Source) -> tuple[str, ...]:
    """Return a notice where only a part of a raster is made."""
    if region == Box.whole(source.grid.shape):
        return ()
    (top, left), (height, width) = region.start, region.shape
    rows, columns = source.grid.shape
    return (
        f"only a window of {source.name}: x {left}, y {top}, width {width}, height {height} of {columns} x {rows} "
        f"(the same of another file: gdal_translate -srcwin {left} {top} {width} {height})",
    )


def _spec_of(recipe: Recipe, scene: Scene, card: Card, scratch: Path | None) -> Spec:
    inputs = recipe.inputs
    if recipe.kind == "raster":
        if len(scene.paths) != 1:
            raise RecipeError(
                f"{scene.stem} consists of {len(scene.paths)} files", "one file a raster", "stack the bands in a VRT"
            )
        aoi = None if inputs.aoi is None else str(recipe.resolve(inputs.aoi))
        return RasterSpec(scene.paths[0], inputs.bands or card.bands, inputs.nodata, inputs.collar, aoi)
    resample_to = None
    if inputs.resample_to is not None:
        if inputs.channels is None or inputs.resample_to not in inputs.channels:
            raise RecipeError(
                f"inputs.resample_to is {inputs.resample_to}",
                f"one of the channels: {', '.join(inputs.channels or ()) or 'none are named'}",
                "name a key of inputs.channels",
            )
        resample_to = card.channels.index(inputs.resample_to)
    paths = scene.paths if len(scene.paths) > 1 else scene.paths[0]
    return VolumeSpec(paths, card.orientation, resample_to, None if scratch is None else str(scratch))


def _require_channels(source: Source, card: Card, recipe: Recipe) -> None:
    if source.channels == len(card.channels):
        return
    what, key = ("bands", "inputs.bands") if recipe.kind == "raster" else ("channels", "inputs.channels")
    raise InputError(
        f"{source.name} gives {source.channels} {what}",
        f"{len(card.channels)}: {', '.join(card.channels)}, as {card.name} was trained",
        f"choose them with {key}, or another model",
    )


def _region(recipe: Recipe, source: Source, selection: Selection) -> Box:
    whole = Box.whole(source.grid.shape)
    if selection.window is None and selection.bbox is None:
        return whole
    if selection.window is not None and selection.bbox is not None:
        raise RecipeError("both a window and a bbox", "one of them", "drop one")
    if recipe.kind != "raster":
        raise RecipeError("--window or --bbox for a volume", "a raster", "use --limit N for a look at volumes")
    return window_of(source.grid, selection.window, selection.bbox)


def _layout(recipe: Recipe, source: Source, engine: Engine, region: Box) -> Layout:
    if recipe.model is None:
        raise RecipeError("the recipe has no model", "model.weights", "add it")
    card = engine.model.card
    lattice = lattice_of(model_shape(source.grid, card, recipe.model.scale), card, recipe.tiling)
    try:
        scale_of(recipe.tiling.accumulator, lattice.most)
    except ValueError as error:
        raise PlanError(
            f"tiling.accumulator is {recipe.tiling.accumulator}: {error}",
            "sums whose roundings stay under a thousandth",
            "set tiling.accumulator: int32, or lower tiling.overlap",
        ) from error
    return layout_of(
        lattice,
        source.grid.shape,
        region,
        source.sweep_axis,
        recipe.tiling.block,
        recipe.compute.workers,
        lambda layout: _demand(layout, source, engine, recipe),
        allowance(recipe.compute.memory, engine.base_bytes),
    )


def _demand(layout: Layout, source: Source, engine: Engine, recipe: Recipe) -> Demand:
    card = engine.model.card
    network = Network(len(card.channels), card.output_channels, 0, engine.settings.batch, engine.base_bytes)
    layers = 2 if recipe.outputs.confidence else 1
    return demand(layout, network, source.dtype.itemsize, recipe.tiling.accumulator, layers)


def _reference(
    recipe: Recipe, scene: Scene, source: Source, card: Card, scratch: Path | None
) -> tuple[ReferencePlan | None, tuple[str, ...]]:
    if recipe.references is None:
        return None, ()
    wanted: References = recipe.references
    path = reference_for(scene, wanted, recipe.resolve)
    spec: Spec
    if recipe.kind == "raster":
        spec = RasterSpec(path, (1,))
    else:
        spec = VolumeSpec(path, card.orientation, None, None if scratch is None else str(scratch))
    reference = open_source(spec)
    try:
        if reference.channels != 1:
            raise InputError(
                f"the reference {path} has {reference.channels} channels",
                "a label map: one channel of ids",
                "name the label map itself, or split it",
            )
        notice = compare_places(source, reference)
        region = None
        if wanted.region is not None:
            region = window_of(source.grid, wanted.region, None)
        ignore = tuple(sorted({*card.ignore, *wanted.ignore}))
        require_known_ids(reference, card.ids, ignore, wanted.map, region)
        plan = ReferencePlan(path, spec, reference.identity(), dict(wanted.map), ignore, region)
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
            "renumber the classes",
        )
    if task.nodata in card.ids:
        name = card.classes[card.ids.index(task.nodata)].name
        raise PlanError(
            f"outputs.nodata is {task.nodata}, which is also the class {name}",
            "a value that no class has",
            "set outputs.nodata: 255, or another free value",
        )
